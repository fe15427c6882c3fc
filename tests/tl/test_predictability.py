import logging
from collections.abc import Callable
from typing import Any

import anndata as ad
import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse, stats
from sklearn.metrics import roc_auc_score

import bleep_sc as bl
from bleep_sc.models.encoders.color import color_features

COLUMNS = ["geary", "pvalue", "qvalue", "predictable"]


@pytest.fixture(scope="module")
def tissue_once() -> AnnData:
    """Toy tissue with its features, no crops."""
    adata: Any = bl.datasets.toy(n_patients=2, n_sections=2, n_spots=120, n_genes=150, progress_bar=False)
    adata.obsm["X_color"] = color_features(adata.obsm.pop("crops"), progress_bar=False)
    assert isinstance(adata, AnnData)
    return adata


@pytest.fixture
def tissue(tissue_once: AnnData) -> AnnData:
    return tissue_once.copy()


@pytest.mark.slow
def test_finds_what_the_image_knows(tissue: AnnData) -> None:
    table = bl.tl.predictability(tissue)
    linked = tissue.var["image_linked"].to_numpy()
    assert list(table.columns) == COLUMNS
    assert list(table.index) == list(tissue.var_names)
    assert roc_auc_score(linked, -table["geary"]) > 0.95
    assert table["predictable"][linked].mean() > 0.9
    found = table["predictable"]
    assert (found & ~linked).sum() / found.sum() < 0.1
    # where looks say nothing, C is that of strangers
    assert table["geary"][~linked].mean() == pytest.approx(1, abs=0.03)
    assert table["geary"][linked].mean() < 0.9
    np.testing.assert_allclose(table["qvalue"], stats.false_discovery_control(table["pvalue"]))
    np.testing.assert_array_equal(found, table["qvalue"] <= 0.1)


def test_writes_its_fields_and_no_others(tissue: AnnData) -> None:
    before = set(tissue.var), set(tissue.uns), set(tissue.obsm), set(tissue.layers), set(tissue.obs)
    table = bl.tl.predictability(tissue, fdr=0.05)
    added = {f"predictability_{column}" for column in COLUMNS}
    assert set(tissue.var) == before[0] | added
    assert set(tissue.uns) == before[1] | {"predictability"}
    assert (set(tissue.obsm), set(tissue.layers), set(tissue.obs)) == before[2:]
    for column in COLUMNS:
        np.testing.assert_array_equal(tissue.var[f"predictability_{column}"], table[column])
    assert tissue.var["predictability_predictable"].dtype == bool
    entry = tissue.uns["predictability"]
    assert entry["scope"] == "across patients"
    assert entry["beyond_depth"]
    assert entry["n_predictable"] == table["predictable"].sum()
    assert entry["params"]["fdr"] == 0.05


def test_survives_a_file(tissue: AnnData, tmp_path: Any) -> None:
    table = bl.tl.predictability(tissue)
    tissue.write_h5ad(tmp_path / "tissue.h5ad")
    back = ad.read_h5ad(tmp_path / "tissue.h5ad")
    np.testing.assert_array_equal(back.var["predictability_qvalue"], table["qvalue"])
    assert back.uns["predictability"]["scope"] == "across patients"


def test_looks_of_wrong_spots_find_nothing(tissue: AnnData) -> None:
    """Features that are as smooth as before, but lie wrongly: each section's turned by 90 degrees."""
    features = tissue.obsm["X_color"].copy()
    for section in tissue.obs["section"].unique():
        rows = np.flatnonzero(tissue.obs["section"] == section)
        xy = tissue.obsm["spatial"][rows]
        centred = xy - xy.mean(axis=0)
        turned = np.argmin(((centred[:, None] - centred[None] @ [[0, 1], [-1, 0]]) ** 2).sum(axis=2), axis=1)
        features[rows] = features[rows[turned]]
    tissue.obsm["X_color"] = features
    assert bl.tl.predictability(tissue)["predictable"].sum() <= 2


def test_scope_says_of_whom_the_list_speaks(tissue: AnnData, log: pytest.LogCaptureFixture) -> None:
    one = tissue[tissue.obs["patient"] == "P1"].copy()
    n_one, n_all = one.obs["section"].nunique(), tissue.obs["section"].nunique()
    bl.tl.predictability(one)
    assert f"The list was made on {n_one} sections of one patient." in log.text
    assert one.uns["predictability"]["scope"] == "within-patient"
    bl.tl.predictability(tissue)
    assert f"The list was made across {tissue.obs['patient'].nunique()} patients." in log.text
    del tissue.obs["patient"]
    bl.tl.predictability(tissue)
    assert tissue.uns["predictability"]["scope"] == "patients unknown"
    assert f"The list was made on {n_all} sections of unknown patients." in log.text


def test_other_patients_only_where_there_are_several(tissue: AnnData) -> None:
    """Where one patient's two sections are copies, a spot would find itself."""
    first = tissue[tissue.obs["section"] == "P1_A"].copy()
    rng = np.random.default_rng(0)
    first.obsm["X_color"] = rng.normal(size=first.obsm["X_color"].shape).astype(np.float32)
    twin, other = first.copy(), tissue[tissue.obs["patient"] == "P2"].copy()
    other.obsm["X_color"] = rng.normal(size=other.obsm["X_color"].shape).astype(np.float32)
    twin.obs["section"] = "twin"
    for part in (first, twin):
        part.obs["section"] = part.obs["section"].astype(str)
    joined = ad.concat([first, twin, other], index_unique="-")
    assert bl.tl.predictability(joined, library_key="section", n_neighbors=1)["predictable"].sum() <= 2
    del joined.obs["patient"]
    assert bl.tl.predictability(joined, library_key="section", n_neighbors=1)["predictable"].sum() > 20


def test_same_seed_same_table_whatever_the_order(tissue: AnnData) -> None:
    table = bl.tl.predictability(tissue)
    assert bl.tl.predictability(tissue).equals(table)
    assert not bl.tl.predictability(tissue, random_state=1)["pvalue"].equals(table["pvalue"])
    rng = np.random.default_rng(0)
    shuffled = tissue[rng.permutation(tissue.n_obs), rng.permutation(tissue.n_vars)].copy()
    again = bl.tl.predictability(shuffled).loc[table.index]
    np.testing.assert_allclose(again["geary"], table["geary"], rtol=1e-4)
    np.testing.assert_allclose(again["pvalue"], table["pvalue"], rtol=1e-2, atol=1e-6)


def test_dense_sparse_and_layers_give_the_same(tissue: AnnData) -> None:
    table = bl.tl.predictability(tissue)
    tissue.layers["log"], tissue.X = tissue.X.toarray(), sparse.csr_matrix(tissue.shape, dtype=np.float32)
    with bl.settings.override(memory=1):  # in blocks of genes
        again = bl.tl.predictability(tissue, layer="log")
    np.testing.assert_allclose(again["geary"], table["geary"], rtol=1e-4)
    np.testing.assert_allclose(again["pvalue"], table["pvalue"], rtol=1e-2, atol=1e-6)


def test_depth_is_taken_out(tissue: AnnData) -> None:
    """A look that shows depth, and expression that is depth, say nothing of a gene."""
    depth = np.log(np.asarray(tissue.layers["counts"].sum(axis=1)).ravel())
    values = tissue.X.toarray()
    hidden = np.flatnonzero(~tissue.var["image_linked"])[:10]
    values[:, hidden] = depth[:, None] + 0.01 * np.random.default_rng(0).normal(size=(tissue.n_obs, 10))
    tissue.X = values.astype(np.float32)
    tissue.obsm["X_depth"] = np.column_stack([depth, depth**2]).astype(np.float32)
    beyond = bl.tl.predictability(tissue, use_rep="X_depth", n_neighbors=5)
    del tissue.layers["counts"]
    plain = bl.tl.predictability(tissue, use_rep="X_depth", n_neighbors=5)
    assert plain["geary"].iloc[hidden].max() < 0.6
    assert beyond["geary"].iloc[hidden].min() > 0.9
    assert not tissue.uns["predictability"]["beyond_depth"]


def test_genes_that_do_not_vary_are_not_tested(tissue: AnnData) -> None:
    values = tissue.X.toarray()
    values[:, 3] = 0
    tissue.X = values
    table = bl.tl.predictability(tissue)
    assert np.isnan(table["geary"].iloc[3])
    assert table["pvalue"].iloc[3] == table["qvalue"].iloc[3] == 1
    assert table.drop(index=table.index[3]).notna().all().all()


@pytest.mark.slow
def test_features_are_made_of_crops(log: pytest.LogCaptureFixture) -> None:
    adata: Any = bl.datasets.toy(n_patients=2, n_sections=1, n_spots=40, n_genes=30, progress_bar=False)
    log.set_level(logging.INFO, logger="bleep_sc")
    with bl.settings.override(verbosity="info"):
        made = bl.tl.predictability(adata)
    assert "features are made of `adata.obsm['crops']`, not stored" in log.text
    assert "X_color" not in adata.obsm
    adata.obsm["X_color"] = color_features(adata.obsm["crops"], progress_bar=False)
    assert bl.tl.predictability(adata).equals(made)


@pytest.mark.odd
def test_one_section_says_nothing(tissue: AnnData, unchanged: Callable[..., None]) -> None:
    one = tissue[tissue.obs["section"] == "P1_A"].copy()
    del tissue.uns["crops"]
    unchanged(one, tissue)
    with pytest.raises(ValueError, match=r"names one section only, 'P1_A'.*cannot be known"):
        bl.tl.predictability(one, library_key="section")
    with pytest.raises(ValueError, match=r"no column of sections is known.*`library_key`"):
        bl.tl.predictability(tissue)


@pytest.mark.odd
@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"use_rep": "X_uni"}, KeyError, r"adata.obsm\['X_uni'\]"),
        ({"use_rep": "X_color2"}, KeyError, "image features"),
        ({"layer": "log"}, KeyError, "log"),
        ({"library_key": "slide"}, KeyError, "slide"),
        ({"patient_key": "donor"}, KeyError, "donor"),
        ({"patient_key": "region"}, ValueError, "a section comes from one"),
        ({"n_neighbors": 0}, ValueError, "`n_neighbors`"),
        ({"n_turns": 5}, ValueError, "`n_turns` must be an integer of at least 20"),
        ({"fdr": 1}, ValueError, "`fdr`"),
        ({"fdr": 0}, ValueError, "`fdr`"),
        ({"random_state": -1}, ValueError, "`random_state`"),
    ],
)
def test_bad_arguments(
    tissue: AnnData, unchanged: Callable[..., None], arguments: Any, error: type[Exception], match: str
) -> None:
    unchanged(tissue)
    with pytest.raises(error, match=match):
        bl.tl.predictability(tissue, **arguments)


@pytest.mark.odd
def test_bad_fields(tissue: AnnData) -> None:
    with pytest.raises(ValueError, match="view"):
        bl.tl.predictability(tissue[:, :20])
    adata = tissue.copy()
    adata.obsm["crops"] = np.zeros((adata.n_obs, 8, 8, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="holds crops, but `use_rep` names features"):
        bl.tl.predictability(adata, use_rep="crops")
    adata = tissue.copy()
    adata.layers["counts"] = adata.X
    with pytest.raises(ValueError, match="must hold raw counts"):
        bl.tl.predictability(adata)
    adata = tissue.copy()
    adata.obsm["spatial"] = np.zeros((adata.n_obs, 2))
    with pytest.raises(ValueError, match="no section can be turned"):
        bl.tl.predictability(adata)
    adata = tissue.copy()
    adata.obsm["spatial"][(adata.obs["section"] == "P1_A").to_numpy()] = 0
    with pytest.warns(UserWarning, match="1 of 4 sections, such as 'P1_A'"):
        bl.tl.predictability(adata)
