"""The reliability of spots and the verdict on slides, as `fit` and `impute` write them."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from conftest import PUBLISHED, make_sections

import bleep_sc as bl
from bleep_sc.tl._trust.reliability import LIKE, OTHER, UNLIKE

TINY: dict[str, dict[str, Any]] = {
    "bleep": {"preset": "paper", "encoder": "resnet18", "weights": None, "max_epochs": 1},
    "regressor": {"method": "regressor", "encoder": "resnet18", "weights": None, "max_epochs": 1},
    "stnet": {"method": "stnet", "encoder": "resnet18", "weights": None, "max_epochs": 1},
    "histogene": {"method": "histogene", "dim": 64, "depth": 1, "max_epochs": 1},
    "ridge": {"method": "ridge", "encoder": "resnet18", "weights": None},
    "knn": {"method": "knn", "encoder": "resnet18", "weights": None},
}


def test_clean_spots_are_like_the_reference_and_spoilt_ones_are_not(fitted: AnnData, query: AnnData) -> None:
    spoilt = np.arange(query.n_obs) < 6
    query.obsm["crops"][:2] = 250
    query.obsm["crops"][2:4] = 255 - query.obsm["crops"][2:4]
    query.obsm["crops"][4:6] = np.random.default_rng(0).integers(0, 256, size=(2, 16, 16, 3))
    bl.tl.impute(query, fitted, k=5)
    p = query.obs["bleep_reliability"].to_numpy()
    assert p.dtype == np.float64
    assert (p[spoilt] == 1 / 97).all()
    assert (p[~spoilt] <= 0.05).mean() <= 0.1
    (row,) = query.uns["bleep"]["reliability"].to_dict("records")
    assert row["section"] == "q"
    assert row["n_spots"] == 40
    assert row["share_unlike"] == (p <= 0.05).mean()
    assert row["distance"] < 1
    assert row["verdict"] == LIKE


def test_a_slide_unlike_any_tissue_is_one_warning_a_section(fitted: AnnData) -> None:
    query = make_sections(20, sections=("good", "bad", "worse"), seed=3)
    query.obs_names = [f"q{name}" for name in query.obs_names]
    crops = query.obsm["crops"]
    crops[20:] = 255 - crops[20:]
    with pytest.warns(UserWarning) as caught:
        bl.tl.impute(query, fitted, k=5)
    ours = [warning for warning in caught if warning.category is UserWarning]  # a newer pandas has others
    texts = [str(warning.message) for warning in ours]
    assert [text.split(":")[0] for text in texts] == ["section 'bad'", "section 'worse'"]
    for text in texts:
        assert "100% of 20 spots look unlike the reference (p <= 0.05)" in text
        assert "_mean" in text or "quantile" in text
        assert " SD" in text
        assert "`um`, `mpp` and `image` of `bleep_sc.pp.crops`" in text
    assert all(warning.filename == __file__ for warning in ours)
    table = query.uns["bleep"]["reliability"].set_index("section")
    assert table["verdict"].to_dict() == {"good": LIKE, "bad": UNLIKE, "worse": UNLIKE}


def test_another_stain_is_a_line_in_the_log(hybrid: AnnData, query: AnnData, log: pytest.LogCaptureFixture) -> None:
    query.obsm["crops"] = np.clip(query.obsm["crops"] * 0.8 + 20, 0, 255).astype(np.uint8)
    bl.tl.impute(query, hybrid)
    (row,) = query.uns["bleep"]["reliability"].to_dict("records")
    assert row["verdict"] == OTHER
    assert "another patient, stain or scanner, which is usual" in log.text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the model has nearly collapsed:UserWarning")
@pytest.mark.parametrize("name", TINY)
def test_networks_tell_by_their_own_features(name: str, ref: AnnData, query: AnnData) -> None:
    place = {"array_row": np.arange(100) // 8, "array_col": np.arange(100) % 8}
    for adata in (ref, query):
        for column, values in place.items():
            adata.obs[column] = values[np.arange(adata.n_obs) % 48]
    bl.tl.fit(ref, **TINY[name])
    query.obsm["crops"][:5] = np.random.default_rng(0).integers(0, 256, size=(5, 16, 16, 3))
    bl.tl.impute(query, ref)
    p = query.obs["bleep_reliability"].to_numpy()
    assert p[:5].max() < np.quantile(p[5:], 0.25)
    assert (p[5:] <= 0.05).mean() < 0.35
    assert query.uns["bleep"]["reliability"]["moved"].tolist() == [""], "features of networks have no names"


@pytest.mark.parametrize("method", ["coordinates", "mean", "counts"])
def test_methods_that_read_no_image_tell_nothing_and_leave_nothing_stale(
    method: Any, fitted: AnnData, query: AnnData
) -> None:
    bl.tl.impute(query, fitted, k=5)
    assert "bleep_reliability" in query.obs
    assert "novelty" in fitted.uns["bleep"]
    bl.tl.fit(fitted, method=method)
    assert "novelty" not in fitted.uns["bleep"]
    bl.tl.impute(query, fitted)
    assert "bleep_reliability" not in query.obs
    assert "reliability" not in query.uns["bleep"]


def test_an_earlier_model_tells_nothing(query: AnnData, fitted: AnnData) -> None:
    bl.tl.impute(query, fitted, k=5)
    old = fitted.copy()
    del old.uns["bleep"]["novelty"]
    expected = query.layers["bleep"].copy()
    bl.tl.impute(query, old, k=5)
    assert "bleep_reliability" not in query.obs
    assert "reliability" not in query.uns["bleep"]
    assert np.array_equal(query.layers["bleep"], expected)
    bl.tl.impute(fitted, fitted, k=5)
    assert "reliability" in fitted.uns["bleep"]
    del fitted.uns["bleep"]["novelty"]
    bl.tl.impute(fitted, fitted, k=5)
    assert "reliability" not in fitted.uns["bleep"], "of a query that is its own reference"


def test_the_querys_expression_changes_nothing(hybrid: AnnData, query: AnnData) -> None:
    other = query.copy()
    other.X = np.full(other.shape, 7, dtype=np.float32)
    del other.layers["counts"]
    for adata in (query, other):
        bl.tl.impute(adata, hybrid)
    assert query.obs["bleep_reliability"].to_numpy().tobytes() == other.obs["bleep_reliability"].to_numpy().tobytes()
    pd.testing.assert_frame_equal(
        query.uns["bleep"]["reliability"], other.uns["bleep"]["reliability"], check_exact=True
    )


def test_key_added_renames_it(fitted: AnnData, query: AnnData) -> None:
    bl.tl.impute(query, fitted, k=5, key_added="mine")
    assert "mine_reliability" in query.obs
    assert "bleep_reliability" not in query.obs
    assert "reliability" in query.uns["mine"]


def test_it_survives_h5ad(fitted: AnnData, query: AnnData, tmp_path: Path) -> None:
    fitted.write_h5ad(tmp_path / "ref.h5ad")
    bl.tl.impute(query, ad.read_h5ad(tmp_path / "ref.h5ad"), k=5)
    query.write_h5ad(tmp_path / "query.h5ad")
    read = ad.read_h5ad(tmp_path / "query.h5ad")
    assert np.array_equal(read.obs["bleep_reliability"], query.obs["bleep_reliability"])
    before, after = (adata.uns["bleep"]["reliability"].reset_index(drop=True) for adata in (query, read))
    pd.testing.assert_frame_equal(after, before, check_dtype=False)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["memory", "store", "lazy", "lazy store"])
def test_it_is_the_same_wherever_it_is_computed(where: str, fitted: AnnData, query: AnnData, tmp_path: Path) -> None:
    expected = query.copy()
    bl.tl.impute(expected, fitted, k=5)
    if "lazy" in where:
        query.obsm["crops"] = da.from_array(query.obsm["crops"], chunks=(9, -1, -1, -1))
    store = tmp_path / "imputed.zarr" if "store" in where else None
    bl.tl.impute(query, fitted, k=5, store=store)
    for adata in [query] + ([ad.read_zarr(store)] if store else []):
        np.testing.assert_allclose(adata.obs["bleep_reliability"], expected.obs["bleep_reliability"])
        assert adata.uns["bleep"]["reliability"]["verdict"].tolist() == [LIKE]


@pytest.mark.slow
def test_a_store_holds_no_stale_one(fitted: AnnData, query: AnnData, tmp_path: Path) -> None:
    bl.tl.impute(query, fitted, k=5)
    del fitted.uns["bleep"]["novelty"]
    bl.tl.impute(query, fitted, k=5, store=tmp_path / "imputed.zarr")
    assert "bleep_reliability" not in ad.read_zarr(tmp_path / "imputed.zarr").obs
    assert "bleep_reliability" not in query.obs


def test_the_warning_as_an_error_leaves_all_as_it_was(
    fitted: AnnData, query: AnnData, unchanged: Callable[..., None]
) -> None:
    query.obsm["crops"] = 255 - query.obsm["crops"]
    unchanged(fitted, query)
    with warnings.catch_warnings(), pytest.raises(UserWarning, match="look unlike the reference"):
        warnings.filterwarnings("error", message=".*look unlike the reference")
        bl.tl.impute(query, fitted, k=5)


def test_whole_patients_are_held_out(ref: AnnData, query: AnnData) -> None:
    """A reference of two stains knows that patients differ so."""
    other = ref.obs["section"] == "s2"
    ref.obsm["crops"][other] = np.clip(ref.obsm["crops"][other] * 0.8 + 20, 0, 255).astype(np.uint8)
    query.obsm["crops"] = np.clip(query.obsm["crops"] * 0.9 + 10, 0, 255).astype(np.uint8)
    ref.obs["patient"] = np.where(other, "p2", "p1")
    bl.tl.fit(ref, **PUBLISHED, max_epochs=1)
    bl.tl.impute(query, ref, k=5)
    assert query.uns["bleep"]["reliability"]["verdict"].tolist() == [LIKE]


def test_reading_the_same_model_again_keeps_it(fitted: AnnData, tmp_path: Path) -> None:
    before = fitted.uns["bleep"]["novelty"]
    bl.io.write_model(fitted, tmp_path / "model")
    bl.io.read_model(fitted, tmp_path / "model")
    assert np.array_equal(fitted.uns["bleep"]["novelty"], before)


@pytest.mark.slow
def test_a_painted_patient_is_no_alarm() -> None:
    for seed in range(2):
        tissue: Any = bl.datasets.toy(n_patients=2, n_sections=2, n_spots=100, n_genes=20, random_state=seed)
        known = (tissue.obs["patient"] == "P1").to_numpy()
        ref, query = tissue[known].copy(), tissue[~known].copy()
        bl.tl.fit(ref, method="ridge", alpha=10.0)
        bl.tl.impute(query, ref)
        assert set(query.uns["bleep"]["reliability"]["verdict"]) <= {LIKE, OTHER}
