from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from anndata import AnnData

import bleep_sc as bl
from bleep_sc.metrics import pearson


@pytest.fixture(scope="module")
def tissue() -> AnnData:
    return bl.datasets.toy(n_spots=80)


def test_is_ready_for_fit(tissue: AnnData, tmp_path: Path) -> None:
    assert tissue.obs["patient"].nunique() == 3
    assert tissue.obs["section"].nunique() == 6
    assert tissue.obs_names.is_unique
    assert tissue.obsm["crops"].shape == (tissue.n_obs, 64, 64, 3)
    assert tissue.obsm["crops"].dtype == np.uint8
    totals = np.expm1(tissue.X.toarray().astype(np.float64)).sum(axis=1)
    np.testing.assert_allclose(totals, 1e4, rtol=1e-4)
    counts = tissue.layers["counts"].toarray()
    assert (counts == np.rint(counts)).all()
    assert tissue.var["image_linked"].sum() == 200
    tissue.write_h5ad(tmp_path / "toy.h5ad")
    back = ad.read_h5ad(tmp_path / "toy.h5ad")
    assert np.array_equal(back.obsm["crops"], tissue.obsm["crops"])


def test_crops_are_those_of_pp_crops() -> None:
    adata, images = bl.datasets.toy(n_patients=1, n_spots=60, return_images=True)
    painted, records = adata.obsm.pop("crops"), adata.uns.pop("crops")
    bl.pp.crops(adata, images, size=64, library_key="section")
    assert np.array_equal(painted, adata.obsm["crops"])
    for library, record in adata.uns["crops"].items():
        assert record.pop("findings").equals(records[library].pop("findings"))
    assert adata.uns["crops"] == records


def test_one_seed_one_tissue() -> None:
    first, again, other = (bl.datasets.toy(n_patients=1, n_sections=1, n_spots=30, random_state=s) for s in (1, 1, 2))
    assert np.array_equal(first.obsm["crops"], again.obsm["crops"])
    assert (first.X != again.X).nnz == 0
    assert first.shape != other.shape or (first.X != other.X).nnz > 0


def test_depth_knows_nothing_of_the_region(tissue: AnnData) -> None:
    depth = np.log(np.asarray(tissue.layers["counts"].sum(axis=1)).ravel())
    by_region = [depth[(tissue.obs["region"] == r).to_numpy()] for r in tissue.obs["region"].cat.categories]
    from scipy.stats import f_oneway

    assert f_oneway(*by_region).pvalue > 0.001
    assert max(abs(d.mean() - depth.mean()) for d in by_region) < 0.1


def cross_patient(tissue: AnnData, features: np.ndarray) -> tuple[float, float]:
    """Ridge from features, trained on two patients: Pearson on the third for linked and for hidden genes."""
    values = tissue.X.toarray()
    test = (tissue.obs["patient"] == "P3").to_numpy()
    scaled = (features - features[~test].mean(axis=0)) / (features[~test].std(axis=0) + 1e-9)
    x, y = scaled[~test], values[~test] - values[~test].mean(axis=0)
    weights = np.linalg.solve(x.T @ x + 100 * np.eye(x.shape[1]), x.T @ y)
    scores = [
        pearson(values[rows], scaled[rows] @ weights)
        for rows in (np.flatnonzero(tissue.obs["section"] == s) for s in ("P3_A", "P3_B"))
    ]
    linked = tissue.var["image_linked"].to_numpy()
    mean = np.mean(scores, axis=0)
    return float(mean[linked].mean()), float(mean[~linked].mean())


def test_texture_tells_what_colour_cannot(tissue: AnnData) -> None:
    from bleep_sc.models.encoders.color import color_features

    colour, _ = cross_patient(tissue, tissue.obsm["crops"].mean(axis=(1, 2)))
    texture, hidden = cross_patient(tissue, color_features(tissue.obsm["crops"]))
    assert colour < 0.3
    assert texture > 0.6
    assert abs(hidden) < 0.05


def test_draws_in_scanpy(tissue: AnnData) -> None:
    import matplotlib.pyplot as plt
    import scanpy as sc

    one = tissue[tissue.obs["section"] == "P2_B"].copy()
    with pytest.warns(FutureWarning, match=r"spatial"):
        sc.pl.spatial(one, library_id="P2_B", color="GENE001", show=False)
    assert plt.gca().images[0].get_array().shape[0] == 600
    plt.close("all")


@pytest.mark.odd
@pytest.mark.parametrize("argument", ["n_patients", "n_sections", "n_spots", "n_genes"])
def test_arguments_are_checked(argument: str, unchanged: Callable[..., None]) -> None:
    with pytest.raises(ValueError, match=argument):
        bl.datasets.toy(**{argument: 0})
