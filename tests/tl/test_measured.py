"""Measured spots of a query correct its prediction: only they are read, and they stay out of scores and bounds."""

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
from conftest import snapshot
from scipy import sparse

import bleep_sc as bl

MASK = "is_measured"
RIDGE: dict[str, Any] = {"method": "ridge", "alpha": 1.0}


@pytest.fixture(scope="module")
def tissue() -> AnnData:
    """Toy tissue: genes that the image does not show follow smooth maps, which measured spots tell."""
    adata = bl.datasets.toy(n_patients=2, n_spots=90, n_genes=60, progress_bar=False)
    adata.obs["section"] = adata.obs["section"].astype(str)
    adata.obsm["X_made"] = adata.obsm["crops"].mean(axis=(1, 2)).astype(np.float32)
    del adata.obsm["crops"]
    return adata


@pytest.fixture(scope="module")
def fitted(tissue: AnnData) -> AnnData:
    ref = tissue[tissue.obs["patient"] == "P1"].copy()
    with bl.settings.override(progress_bar=False, device="cpu", verbosity="error"):
        bl.tl.fit(ref, **RIDGE, image_key="X_made", library_key="section")
    return ref


@pytest.fixture
def ref(fitted: AnnData) -> AnnData:
    return fitted.copy()


@pytest.fixture
def query(tissue: AnnData) -> AnnData:
    """Two sections, of each every fourth spot measured."""
    adata = tissue[tissue.obs["patient"] == "P2"].copy()
    adata.obs[MASK] = np.arange(adata.n_obs) % 4 == 0
    return adata


def mask_of(query: AnnData) -> np.ndarray:
    return query.obs[MASK].to_numpy()


@pytest.mark.slow
def test_hidden_genes_are_found(query: AnnData, ref: AnnData) -> None:
    """What no image tells, measured spots around tell; the rest of the genes are no worse."""
    bl.tl.impute(query, ref)
    bl.tl.impute(query, ref, measured=MASK, key_added="with")
    rest, linked = ~mask_of(query), query.var["image_linked"].to_numpy()
    truth = query.X.toarray()
    means = {}
    for layer in ("bleep", "with"):
        per_section = [
            bl.metrics.pearson(truth[rows & rest], query.layers[layer][rows & rest])
            for rows in ((query.obs["section"] == name).to_numpy() for name in query.obs["section"].unique())
        ]
        scores = np.mean(per_section, axis=0)
        means[layer] = scores[linked].mean(), scores[~linked].mean()
    assert means["with"][1] > means["bleep"][1] + 0.1
    assert means["with"][0] > means["bleep"][0] - 0.005


def test_none_changes_nothing(query: AnnData, ref: AnnData) -> None:
    first = bl.tl.impute(query, ref, copy=True)
    second = bl.tl.impute(query, ref, measured=None, copy=True)
    assert snapshot(first) == snapshot(second)
    assert "measured_spots" not in first.uns["bleep"]
    assert "measured" not in first.uns["bleep"]["params"]


@pytest.mark.parametrize("kind", ["dense", "csr", "csc", "dask", "backed"])
def test_only_measured_spots_are_read(query: AnnData, ref: AnnData, kind: str, tmp_path: Path) -> None:
    """All others may hold anything, and NaN among it."""
    wanted = bl.tl.impute(query, ref, measured=MASK, copy=True)
    hidden = query.copy()
    values = query.X.toarray()
    values[~mask_of(query)] = np.nan
    hidden.layers["counts"] = sparse.csr_matrix(values)
    as_kind: dict[str, Callable[[np.ndarray], Any]] = {
        "csr": sparse.csr_matrix,
        "csc": sparse.csc_matrix,
        "dask": lambda x: da.from_array(x, chunks=(50, 60)),
    }
    hidden.X = as_kind.get(kind, np.array)(values)
    if kind == "backed":
        hidden.write_h5ad(tmp_path / "q.h5ad")
        hidden = ad.read_h5ad(tmp_path / "q.h5ad", backed="r")
    bl.tl.impute(hidden, ref, measured=MASK)
    np.testing.assert_array_equal(hidden.layers["bleep"], wanted.layers["bleep"])
    pd.testing.assert_frame_equal(hidden.uns["bleep"]["measured_spots"], wanted.uns["bleep"]["measured_spots"])


def test_what_was_measured_is_read(query: AnnData, ref: AnnData) -> None:
    wanted = bl.tl.impute(query, ref, measured=MASK, copy=True)
    other = query.copy()
    other.X[np.flatnonzero(mask_of(query))] *= 0.9
    bl.tl.impute(other, ref, measured=MASK)
    assert (other.layers["bleep"] != wanted.layers["bleep"]).mean() > 0.9


def test_the_record_survives_a_file(query: AnnData, ref: AnnData, tmp_path: Path) -> None:
    bl.tl.impute(query, ref, measured=MASK)
    query.write_h5ad(tmp_path / "q.h5ad")
    entry = ad.read_h5ad(tmp_path / "q.h5ad").uns["bleep"]
    assert entry["params"]["measured"] == MASK
    table = entry["measured_spots"]
    assert list(table.columns) == ["section", "n_spots", "n_measured", "shrinkage", "length_scale", "gain"]
    assert sorted(table["section"]) == sorted(query.obs["section"].unique())
    assert table["n_spots"].sum() == query.n_obs
    assert table["n_measured"].sum() == mask_of(query).sum()
    assert table["shrinkage"].between(0, 1).all()
    assert (table["shrinkage"] > 0).any()
    pitch = 64
    assert (table["length_scale"].dropna() >= pitch).all()
    assert (table["length_scale"].dropna() <= 13 * pitch).all()


def test_each_section_stands_for_itself(query: AnnData, ref: AnnData, log: pytest.LogCaptureFixture) -> None:
    first, second = sorted(query.obs["section"].unique())
    of_second = (query.obs["section"] == second).to_numpy()
    both = bl.tl.impute(query, ref, measured=MASK, copy=True)
    plain = bl.tl.impute(query, ref, copy=True)
    query.obs[MASK] &= ~of_second | (np.cumsum(of_second & mask_of(query)) <= 3)
    log.clear()
    bl.tl.impute(query, ref, measured=MASK)
    line = f"Section {second!r} has 3 measured spots, fewer than 4: its prediction is not corrected."
    assert [record.getMessage() for record in log.records].count(line) == 1
    np.testing.assert_array_equal(query.layers["bleep"][of_second], plain.layers["bleep"][of_second])
    np.testing.assert_array_equal(query.layers["bleep"][~of_second], both.layers["bleep"][~of_second])
    table = query.uns["bleep"]["measured_spots"].set_index("section")
    assert table.loc[second, ["n_measured", "shrinkage", "gain"]].tolist() == [0, 0, 0]
    assert table.loc[first, "n_measured"] > 10


def test_no_section_has_enough(query: AnnData, ref: AnnData) -> None:
    plain = bl.tl.impute(query, ref, copy=True)
    query.obs[MASK] = False
    bl.tl.impute(query, ref, measured=MASK)
    np.testing.assert_array_equal(query.layers["bleep"], plain.layers["bleep"])
    assert "measured_spots" not in query.uns["bleep"]


def test_genes_that_the_reference_lacks_stay_nan(query: AnnData, ref: AnnData) -> None:
    renamed = query.copy()
    renamed.var_names = [f"own{i}" if i < 5 else name for i, name in enumerate(query.var_names)]
    bl.tl.impute(renamed, ref, measured=MASK)
    assert np.isnan(renamed.layers["bleep"][:, :5]).all()
    assert np.isfinite(renamed.layers["bleep"][:, 5:]).all()


@pytest.mark.parametrize(
    "how",
    [
        {"method": "knn"},
        {"method": "mean"},
        {"method": "regressor", "max_epochs": 2},
        {"max_epochs": 2, "members": 1, "hidden": 8},
        {"preset": "paper", "max_epochs": 1},
    ],
)
def test_every_method_is_corrected(query: AnnData, tissue: AnnData, how: dict[str, Any]) -> None:
    ref = tissue[tissue.obs["patient"] == "P1"].copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of so short a training
        bl.tl.fit(ref, **how, image_key="X_made", library_key="section")
        bl.tl.impute(query, ref)
        bl.tl.impute(query, ref, measured=MASK, key_added="with")
    rest, truth = ~mask_of(query), query.X.toarray()
    errors = [np.square(query.layers[layer] - truth)[rest].mean() for layer in ("bleep", "with")]
    assert errors[1] < errors[0]
    assert (query.layers["with"] >= 0).all()


def test_a_layer_is_read_where_the_model_learned_from_one(tissue: AnnData, query: AnnData) -> None:
    ref = tissue[tissue.obs["patient"] == "P1"].copy()
    for adata in (ref, query):
        adata.layers["log"], adata.X = adata.X, None
    bl.tl.fit(ref, **RIDGE, layer="log", image_key="X_made", library_key="section")
    bl.tl.impute(query, ref, measured=MASK)
    assert (query.uns["bleep"]["measured_spots"]["n_measured"] > 10).all()
    del query.layers["log"]
    with pytest.raises(KeyError, match=r"`query\.layers\['log'\]` does not exist"):
        bl.tl.impute(query, ref, measured=MASK)


def test_lazy_and_spread_references_give_nearly_the_same(query: AnnData, ref: AnnData) -> None:
    wanted = bl.tl.impute(query, ref, measured=MASK, copy=True).layers["bleep"]
    ref.X = da.from_array(ref.X.toarray(), chunks=(50, 60))
    found = bl.tl.impute(query, ref, measured=MASK, copy=True).layers["bleep"]
    np.testing.assert_allclose(found, wanted, atol=1e-3)


# scores and bounds


def test_measured_spots_are_not_scored(query: AnnData, ref: AnnData, log: pytest.LogCaptureFixture) -> None:
    bl.tl.impute(query, ref, measured=MASK)
    rest = query[~mask_of(query)].copy()
    del rest.uns["bleep"]["measured_spots"]
    bl.tl.evaluate(rest, metrics=["pearson"], n_bootstrap=0, library_key="section")
    log.clear()
    bl.tl.evaluate(query, metrics=["pearson"], n_bootstrap=0, library_key="section")
    said = [record.getMessage() for record in log.records if "left out" in record.getMessage()]
    assert said == [
        f"{mask_of(query).sum()} measured spots (`obs['is_measured']`) corrected the layer 'bleep' and are left out of "
        "its scores."
    ]
    np.testing.assert_allclose(query.var["bleep_pearson"], rest.var["bleep_pearson"])


def test_a_section_of_measured_spots_alone_is_not_scored(query: AnnData, ref: AnnData) -> None:
    first = sorted(query.obs["section"].unique())[0]
    query.obs[MASK] |= query.obs["section"] == first
    bl.tl.impute(query, ref, measured=MASK)
    bl.tl.evaluate(query, metrics=["pearson"], n_bootstrap=0, library_key="section")
    assert query.uns["bleep_scores"]["n_sections"] == 1
    query.obs[MASK] = True
    with pytest.raises(ValueError, match=r"all spots of `query` were measured .*none is left to score"):
        bl.tl.evaluate(query, metrics=["pearson"], n_bootstrap=0, library_key="section")
    del query.obs[MASK]
    with pytest.raises(KeyError, match=r"`query\.obs\['is_measured'\]` does not exist any more.*Put it back"):
        bl.tl.evaluate(query, metrics=["pearson"], n_bootstrap=0, library_key="section")


@pytest.mark.slow
def test_bounds_of_a_corrected_layer_are_refused(calibrated: tuple[AnnData, AnnData]) -> None:
    ref, query = calibrated
    query = query.copy()
    query.obs[MASK] = np.arange(query.n_obs) % 3 == 0
    bl.tl.impute(query, ref, measured=MASK)
    with pytest.raises(ValueError, match=r"was corrected by measured spots.*key_added='bleep_uncorrected'.*`layer=`"):
        bl.tl.intervals(query, ref)
    bl.tl.impute(query, ref, key_added="bleep_uncorrected")
    assert bl.tl.intervals(query, ref, layer="bleep_uncorrected") is not None
    bl.tl.impute(query, ref)
    assert "measured_spots" not in query.uns["bleep"]
    assert bl.tl.intervals(query, ref) is not None


def test_a_reference_that_corrects_itself_stays_one(ref: AnnData) -> None:
    ref.obs[MASK] = np.arange(ref.n_obs) % 5 == 0
    bl.tl.impute(ref, ref, measured=MASK)
    assert "measured_spots" in ref.uns["bleep"]
    bl.tl.impute(ref, ref)
    assert "measured_spots" not in ref.uns["bleep"]
    assert "model" in ref.uns["bleep"]


# what is refused

Change = Callable[[AnnData, AnnData], object]
BAD: dict[str, tuple[Change, dict[str, Any], str]] = {
    "no name": (lambda q, r: None, {"measured": ["a"]}, r"`measured` must be the name of a boolean.*\['a'\]"),
    "no column": (lambda q, r: None, {"measured": "x"}, r"`query\.obs\['x'\]` does not exist.*boolean column"),
    "numbers": (
        lambda q, r: q.obs.__setitem__(MASK, np.ones(q.n_obs, dtype=int)),
        {},
        r"`query\.obs\['is_measured'\]` must be boolean, True for spots that were measured; found int64",
    ),
    "text": (lambda q, r: q.obs.__setitem__(MASK, "True"), {}, r"must be boolean.*found"),
    "missing values": (
        lambda q, r: q.obs.__setitem__(MASK, pd.array([None, *[True] * (q.n_obs - 1)], dtype="boolean")),
        {},
        r"must be boolean.*found missing values",
    ),
    "no places": (lambda q, r: q.obsm.pop("spatial"), {}, r"`query\.obsm\['spatial'\]` does not exist"),
    "no places in the reference": (lambda q, r: r.obsm.pop("spatial"), {}, r"`ref\.obsm\['spatial'\]` does not exist"),
    "places all alike": (
        lambda q, r: q.obsm.__setitem__("spatial", np.full((q.n_obs, 2), 7.0)),
        {},
        r"all \d+ measured spots of section '.*' stand at one place, \[7\.0, 7\.0\] in `query\.obsm\['spatial'\]`",
    ),
    "no expression": (lambda q, r: setattr(q, "X", None), {}, r"`query\.X` is empty: expression is needed"),
    "NaN in a measured spot": (
        lambda q, r: q.X.data.__setitem__(0, np.nan),
        {},
        r"`query\.X` holds NaN or infinite values",
    ),
    "raw counts": (
        lambda q, r: setattr(q, "X", q.layers["counts"].copy()),
        {},
        r"`query\.X` of the measured spots is in other units than `ref\.X`: raw counts, where the reference has log1p "
        r"of counts per 10,000.*`sc\.pp\.normalize_total` with the reference's `target_sum`, then `sc\.pp\.log1p`",
    ),
    "scaled": (
        lambda q, r: setattr(q, "X", q.X.toarray() - 1),
        {},
        r"other units than `ref\.X`: values below 0, where the reference has none",
    ),
    "another total": (
        lambda q, r: setattr(q, "X", sparse.csr_matrix(np.log1p(100 * np.expm1(q.X.toarray())))),
        {},
        r"other units.*: log1p of counts per 1,000,000, where the reference has log1p of counts per 10,000",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_is_refused(case: str, query: AnnData, ref: AnnData, unchanged: Callable[..., None]) -> None:
    change, arguments, message = BAD[case]
    change(query, ref)
    if not case.startswith("NaN"):  # which equals nothing
        unchanged(query, ref)
    with pytest.raises((ValueError, KeyError, TypeError), match=message):
        bl.tl.impute(query, ref, **{"measured": MASK, **arguments})
    assert "bleep" not in query.layers


def test_a_store_is_refused(query: AnnData, ref: AnnData, tmp_path: Path, unchanged: Callable[..., None]) -> None:
    unchanged(query, ref)
    with pytest.raises(ValueError, match=r"`measured='is_measured'` corrects whole sections.*`store`.*Leave one of"):
        bl.tl.impute(query, ref, measured=MASK, store=tmp_path / "imputed.zarr")
    assert not list(tmp_path.iterdir())


def test_a_model_of_a_representation_is_refused(query: AnnData, tissue: AnnData) -> None:
    ref = tissue[tissue.obs["patient"] == "P1"].copy()
    ref.obsm["X_rep"] = ref.X.toarray()[:, :4]
    ref.uns["rep"] = {"genes": ref.var_names[:4].to_numpy().astype(object)}
    bl.tl.fit(ref, **RIDGE, use_rep="X_rep", image_key="X_made", library_key="section")
    with pytest.raises(ValueError, match=r"`measured`: the model predicts `obsm\['X_rep'\]`, not expression.*Leave"):
        bl.tl.impute(query, ref, measured=MASK)


@pytest.mark.parametrize("dtype", ["bool", "boolean", "object"])
def test_booleans_of_any_kind(dtype: str, query: AnnData, ref: AnnData) -> None:
    wanted = bl.tl.impute(query, ref, measured=MASK, copy=True).layers["bleep"]
    query.obs[MASK] = query.obs[MASK].astype(dtype)
    bl.tl.impute(query, ref, measured=MASK)
    np.testing.assert_array_equal(query.layers["bleep"], wanted)


def test_a_reference_of_one_gene(query: AnnData, tissue: AnnData) -> None:
    ref = tissue[tissue.obs["patient"] == "P1", [tissue.var_names[3]]].copy()
    bl.tl.fit(ref, **RIDGE, image_key="X_made", library_key="section")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`query` and `ref` share few genes")
        bl.tl.impute(query, ref, measured=MASK)
    assert np.isfinite(query.layers["bleep"][:, 3]).all()
    assert np.isnan(np.delete(query.layers["bleep"], 3, axis=1)).all()
