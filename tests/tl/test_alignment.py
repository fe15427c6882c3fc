from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from anndata import AnnData
from scipy.spatial.distance import cdist

import bleep_sc as bl


def embedded(images: np.ndarray, expression: np.ndarray) -> AnnData:
    adata = AnnData(np.zeros((len(images), 1), dtype=np.float32))
    adata.obsm["X_bleep_image"] = np.asarray(images, dtype=np.float32)
    adata.obsm["X_bleep_expression"] = np.asarray(expression, dtype=np.float32)
    return adata


@pytest.fixture
def joint() -> AnnData:
    rng = np.random.default_rng(0)
    expression = rng.normal(size=(30, 8))
    return embedded(3 * expression + 4 * rng.normal(size=(30, 8)), expression)


def test_numbers_equal_a_naive_loop(joint: AnnData, unchanged: Callable[..., None]) -> None:
    unchanged(joint)
    found = bl.tl.alignment(joint, layout="tsne", recall_at=[10, 1, 3, 30, 99], copy=True)
    distance = cdist(joint.obsm["X_bleep_image"], joint.obsm["X_bleep_expression"], "cosine")
    own = np.diag(distance)
    rank = np.array([sum(distance[i, j] < own[i] for j in range(30)) for i in range(30)])
    np.testing.assert_allclose(found.obs["bleep_pair_distance"], own, atol=1e-5)
    np.testing.assert_array_equal(found.obs["bleep_pair_rank"], rank)
    numbers = found.uns["bleep_alignment"]
    assert list(numbers["recall"]) == ["1", "3", "10"], "as many as there are spots says nothing"
    for k in (1, 3, 10):
        nearest = np.argsort(distance, axis=1)[:, :k]
        assert numbers["recall"][str(k)] == pytest.approx(np.mean([i in nearest[i] for i in range(30)]))
        assert numbers["recall_by_chance"][str(k)] == pytest.approx(k / 30)
    assert 0 < numbers["recall"]["1"] < 1
    assert numbers["pair_distance"] == pytest.approx(own.mean(), abs=1e-6)
    assert numbers["other_distance"] == pytest.approx(distance[~np.eye(30, dtype=bool)].mean(), abs=1e-6)
    assert numbers["median_rank"] == np.median(rank)
    assert numbers["n_spots"] == 30
    assert numbers["in_sample"] is False


def test_blocks_agree_with_one(joint: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bl.tl.alignment(joint, layout="tsne", copy=True)
    monkeypatch.setattr("bleep_sc.tl._alignment._BLOCK", 7)
    blocked = bl.tl.alignment(joint, layout="tsne", copy=True)
    np.testing.assert_array_equal(whole.obs["bleep_pair_rank"], blocked.obs["bleep_pair_rank"])


def test_a_space_that_has_fallen_together_retrieves_by_chance() -> None:
    adata = embedded(np.ones((20, 4)), np.ones((20, 4)))
    bl.tl.alignment(adata, layout="tsne", recall_at=[1, 5])
    numbers = adata.uns["bleep_alignment"]
    assert numbers["recall"] == {"1": 0.0, "5": 0.0}
    assert numbers["median_rank"] == 10
    assert numbers["pair_distance"] == pytest.approx(0, abs=1e-6)
    assert numbers["other_distance"] == pytest.approx(0, abs=1e-6)
    assert np.isfinite(adata.obsm["X_bleep_alignment_image"]).all()


@pytest.mark.parametrize("layout", ["tsne", pytest.param("umap", marks=pytest.mark.slow)])
def test_pairs_that_lie_together_do_so_in_the_plane(layout: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(6)[np.repeat(np.arange(3), 20)]
    adata = embedded(*(centres + 0.05 * rng.normal(size=centres.shape) for _ in range(2)))
    adata.X[0] = 1
    bl.tl.alignment(adata, layout=layout)
    image, expression = (adata.obsm[f"X_bleep_alignment_{kind}"] for kind in ("image", "expression"))
    assert image.shape == expression.shape == (60, 2)
    assert image.dtype == expression.dtype == np.float32
    own = np.linalg.norm(image - expression, axis=1)
    others = cdist(image, expression)[np.repeat(np.arange(3), 20)[:, None] != np.repeat(np.arange(3), 20)]
    assert own.max() < others.min()
    again = adata.copy()
    bl.tl.alignment(again, layout=layout)
    np.testing.assert_array_equal(again.obsm["X_bleep_alignment_image"], image)
    adata.write_h5ad(tmp_path / "adata.h5ad")
    read = ad.read_h5ad(tmp_path / "adata.h5ad")
    assert read.uns["bleep_alignment"]["recall"] == pytest.approx(adata.uns["bleep_alignment"]["recall"])
    assert read.uns["bleep_alignment"]["params"] == {"layout": layout, "random_state": 0}
    assert read.obs["bleep_pair_rank"].dtype == np.int32


@pytest.mark.slow
def test_held_out_spots_placed_by_embed(
    fitted: AnnData, query: AnnData, log: pytest.LogCaptureFixture, unchanged: Callable[..., None]
) -> None:
    bl.tl.embed(query, fitted)
    unchanged(query)
    held_out = bl.tl.alignment(query, layout="tsne", copy=True)
    numbers = held_out.uns["bleep_alignment"]
    assert numbers["in_sample"] is False
    assert "in-sample" not in log.text
    assert numbers["recall"]["10"] > 2 * numbers["recall_by_chance"]["10"], "the fixture's look and genes go together"
    assert numbers["pair_distance"] < numbers["other_distance"]
    bl.tl.alignment(fitted, layout="tsne")
    assert fitted.uns["bleep_alignment"]["in_sample"] is True
    assert "in-sample" in log.text


def test_of_another_name(joint: AnnData) -> None:
    for kind in ("image", "expression"):
        joint.obsm[f"X_mine_{kind}"] = joint.obsm.pop(f"X_bleep_{kind}")
    assert bl.tl.alignment(joint, key="mine", layout="tsne") is None
    assert {"mine_pair_distance", "mine_pair_rank"} <= set(joint.obs)
    assert {"X_mine_alignment_image", "X_mine_alignment_expression"} <= set(joint.obsm)
    assert "mine_alignment" in joint.uns


@pytest.mark.odd
def test_bad_input(joint: AnnData, fitted: AnnData, unchanged: Callable[..., None]) -> None:
    unchanged(joint)
    with pytest.raises(ValueError, match=r"`layout` must be one of 'umap', 'tsne', found 'pca'"):
        bl.tl.alignment(joint, layout="pca")
    with pytest.raises(ValueError, match=r"`recall_at` must be an integer of at least 1, found 0"):
        bl.tl.alignment(joint, recall_at=[0])
    with pytest.raises(KeyError, match=r"obsm\['X_x_image'\].*tl\.embed\(adata, ref, key='x'\)"):
        bl.tl.alignment(joint, key="x")
    with pytest.raises(ValueError, match=r"is a view"):
        bl.tl.alignment(joint[:10])
    with pytest.raises(ValueError, match=r"has 4 spots; at least 5"):
        bl.tl.alignment(joint[:4].copy())
    other = joint.copy()
    other.obsm["X_bleep_expression"][3] = np.nan
    with pytest.raises(ValueError, match=r"1 of 30 spots have no embedding in `adata\.obsm\['X_bleep_expression'\]`"):
        bl.tl.alignment(other)
    other.obsm["X_bleep_expression"] = np.zeros((30, 5), dtype=np.float32)
    with pytest.raises(ValueError, match=r"not of one space: images \(30, 8\), expression \(30, 5\)"):
        bl.tl.alignment(other)
    del other.obsm["X_bleep_expression"]
    with pytest.raises(KeyError, match=r"obsm\['X_bleep_expression'\].*the model has a space for both"):
        bl.tl.alignment(other)
