"""One way from a pack to another, on toy tissue."""

import _transfers
import numpy as np
import pytest
from _transfers import TRANSFERS, Transfer, score_transfer
from anndata import AnnData
from compare import by_threshold, methods
from scipy import sparse

import bleep_sc as bl

RIDGE = {"method": "ridge", "image_key": "X_color_z"}
METRICS = ("pearson", "pearson_depth_free")


@pytest.fixture(scope="module")
def tissue() -> AnnData:
    """Two patients to train on, one to score; some of its spots are shallow."""
    adata = bl.datasets.toy(n_patients=3)
    adata.obsm["X_color"] = adata.obsm.pop("crops").mean(axis=(1, 2), dtype=np.float32)
    adata.obsm["X_color_z"] = np.full_like(adata.obsm["X_color"], np.nan)  # made again of the spots that are left
    adata.uns = {}
    patients = adata.obs["patient"].astype(str)
    adata.obs["patient"], adata.obs["section"] = patients, adata.obs["section"].astype(str)
    adata.obs["pack"] = np.where(patients == patients.unique()[-1], "new", "old")
    adata.obs["n_counts"] = 600
    adata.obs.loc[adata.obs_names[::3], "n_counts"] = 300
    return adata


def scored(adata: AnnData, *at_least: int) -> dict:
    genes = tuple(adata.var_names[:3])
    transfer = Transfer("old", "new", at_least=at_least, markers=genes)
    return score_transfer(transfer, adata, "ridge", RIDGE, metrics=METRICS, seed=0)


@pytest.mark.slow
def test_each_least_count_has_its_table(tissue: AnnData) -> None:
    before = tissue.copy()
    summary = scored(tissue, 500, 200)["summary"]
    assert [title for title, _ in by_threshold(summary)] == [
        "\nspots of at least 500 counts\n",
        "\nspots of at least 200 counts\n",
    ]
    tables = dict(list(summary.groupby("at_least")))
    assert set(tables[500]["panel"]) == set(tables[200]["panel"]) >= {"all", "HEG-50", "HVG-50", "markers"}
    assert (summary["scope"] == "across patients").all()
    assert (summary["normalisation"] == "each side by itself").all()
    values = [table.query("metric == 'pearson' and panel == 'HVG-50'")["value"].item() for table in tables.values()]
    assert all(value > 0.1 for value in values)
    assert values[0] != values[1]
    np.testing.assert_array_equal(tissue.layers["counts"].toarray(), before.layers["counts"].toarray())


@pytest.mark.slow
def test_training_is_the_same_whatever_is_scored(tissue: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    predict = _transfers.predict

    def spy(plan: object, fold: object, prepared: _transfers.Prepared, asked: object) -> object:
        seen.append((prepared.ref.obs_names, prepared.query.obs_names, prepared.panels))
        assert prepared.query.X is None
        return predict(plan, fold, prepared, asked)

    monkeypatch.setattr(_transfers, "predict", spy)
    scored(tissue, 500, 200)
    (deep, few, panels), (deep_again, many, panels_again) = seen
    kept = tissue.obs["n_counts"] >= 500
    assert deep.tolist() == deep_again.tolist() == tissue.obs_names[kept & (tissue.obs["pack"] == "old")].tolist()
    assert few.tolist() == tissue.obs_names[kept & (tissue.obs["pack"] == "new")].tolist()
    assert many.tolist() == tissue.obs_names[tissue.obs["pack"] == "new"].tolist()
    assert all((panels[name] == panels_again[name]).all() for name in panels)


@pytest.mark.slow
def test_each_side_is_on_its_own_scale(tissue: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    deeper = tissue.copy()
    new = (deeper.obs["pack"] == "new").to_numpy()
    deeper.layers["counts"] = sparse.csr_matrix(deeper.layers["counts"].multiply(np.where(new, 3.0, 1.0)[:, None]))
    seen = []
    predict = _transfers.predict
    monkeypatch.setattr(_transfers, "predict", lambda *given: (seen.append(given[2]), predict(*given))[1])
    scored(deeper, 500)
    totals = np.asarray(deeper.layers["counts"].sum(axis=1)).ravel()
    for values, side in ((seen[0].ref.X, ~new), (seen[0].truth, new)):
        kept = side & (deeper.obs["n_counts"] >= 500).to_numpy()
        np.testing.assert_allclose(np.expm1(values.toarray()).sum(axis=1), np.median(totals[kept]), rtol=1e-4)


def test_all_that_is_needed_has_a_name() -> None:
    assert TRANSFERS["transfer_c_b4"].at_least == (500, 200)
    assert {"default", "best", "lite0", "ridge", "ridge, lite0"} == set(methods("presets", 1))
