"""Predicted against measured expression by region: each number worked out another way."""

import json
import warnings
from collections.abc import Callable
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse, stats
from sklearn.metrics import adjusted_rand_score, roc_auc_score

import bleep_sc as bl
from bleep_sc import metrics
from bleep_sc.metrics.spatial import spot_graph
from bleep_sc.tl._study._tissues import regions

MARKERS = {"top": ["g0", "g1", "g2"], "bottom": ["g3", "g4"]}
N_GENES = 40


def slide(*, sections: tuple[str, ...] = ("s1", "s2"), seed: int = 0) -> AnnData:
    """Two halves of a lattice, whose markers follow them; half of all genes vary over the section, half do not."""
    rng = np.random.default_rng(seed)
    side = 12
    xy = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2) * 100.0
    parts = []
    for section in sections:
        top = xy[:, 1] < 600
        level = np.ones((len(xy), N_GENES))
        level[:, :3] += 1.0 * top[:, None]
        level[:, 3:5] += 1.0 * ~top[:, None]
        level[:, 5 : N_GENES // 2] += np.sin(xy[:, :1] / 250 + np.arange(5, N_GENES // 2))
        measured = np.maximum(level + 0.4 * rng.normal(size=level.shape), 0)
        predicted = level + 0.1 * rng.normal(size=level.shape)
        obs = pd.DataFrame({"section": section, "region": np.where(top, "top", "bottom")})
        obs.index = [f"{section}_{i}" for i in range(len(xy))]
        part = AnnData(sparse.csr_matrix(measured.astype(np.float32)), obs=obs)
        part.var_names = [f"g{i}" for i in range(N_GENES)]
        part.layers["bleep"] = predicted.astype(np.float32)
        part.obsm["spatial"] = xy
        parts.append(part)
    return ad.concat(parts)


@pytest.fixture
def query() -> AnnData:
    return slide()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moran's I without squidpy, which compiles for seconds; genes above .2 pass."""

    def moran(values: np.ndarray, graph: Any) -> pd.DataFrame:
        found = metrics.morans_i(values, graph)
        return pd.DataFrame({"moran": found, "qvalue": np.where(found > 0.2, 0.0, 1.0)})

    monkeypatch.setattr(regions, "moran", moran)


def run(query: AnnData, **arguments: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"labels": "region", "markers": MARKERS, "library_key": "section"} | arguments
    bl.tl.evaluate_regions(query, **given)
    return dict(query.uns["bleep_regions"])


def score(values: np.ndarray) -> np.ndarray:
    return np.asarray(stats.zscore(values, axis=0).mean(axis=1))


@pytest.mark.usefixtures("quick")
def test_markers_as_worked_out_by_hand(query: AnnData) -> None:
    table = run(query)["markers"]
    assert list(zip(table["section"], table["region"], strict=True)) == [
        *(("s1", "top"), ("s1", "bottom")),
        *(("s2", "top"), ("s2", "bottom")),
    ]
    rows = np.flatnonzero(query.obs["section"] == "s2")
    top = (query.obs["region"].iloc[rows] == "top").to_numpy()
    sides = {"measured": query.X.toarray()[rows][:, :3], "predicted": query.layers["bleep"][rows][:, :3]}
    row = table.iloc[2]
    for side, values in sides.items():
        assert row[f"auroc_{side}"] == pytest.approx(roc_auc_score(top, score(values.astype(float))))
        fold = np.mean(values[top].mean(axis=0) - values[~top].mean(axis=0)) / np.log(2)
        assert row[f"log2_fold_{side}"] == pytest.approx(fold, rel=1e-5)
    scores = [score(values.astype(float)) for values in sides.values()]
    assert row["pearson"] == pytest.approx(np.corrcoef(*scores)[0, 1])
    centred = [np.where(top, each - each[top].mean(), each - each[~top].mean()) for each in scores]
    assert row["pearson_within"] == pytest.approx(np.corrcoef(*centred)[0, 1])
    # the halves are told apart, and nothing is known beyond them: that is the circularity
    assert row["auroc_predicted"] > 0.99
    assert abs(row["pearson_within"]) < 0.25
    assert (row["n_spots"], row["n_other"], row["n_markers"]) == (72, 72, 3)


@pytest.mark.usefixtures("quick")
def test_means_over_sections(query: AnnData) -> None:
    found = run(query)
    table, summary = found["markers"], found["summary"].set_index("region")
    for region in MARKERS:
        own = table[table["region"] == region]
        assert summary.loc[region, "auroc_predicted"] == pytest.approx(own["auroc_predicted"].mean())
        assert summary.loc[region, "n_sections"] == 2


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_clusters_agree_where_the_prediction_is_right(query: AnnData) -> None:
    right = run(query)["clusters"]
    assert (right["n_clusters"] == 2).all()
    assert (right["pvalue"] < 0.05).all()
    assert (right["ari"] > right["ari_chance"] + 0.2).all()
    query.layers["bleep"] = np.random.default_rng(1).normal(size=query.shape).astype(np.float32)
    wrong = run(query)["clusters"]
    assert (wrong["ari"].abs() < 0.1).all()
    assert (wrong["pvalue"] > 0.05).all()


def test_clusters_are_as_many_as_asked_for_on_both_sides() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 20)
    values = np.eye(3)[truth] * 5 + 0.1 * rng.normal(size=(60, 3))
    assert adjusted_rand_score(truth, regions.clusters(values, 3, seed=0)) == 1
    assert len(set(regions.clusters(values, 5, seed=0))) == 5
    assert set(regions.clusters(np.ones((60, 3)), 3, seed=0)) == {0}, "a constant prediction has one cluster"


@pytest.mark.usefixtures("quick")
def test_genes_of_both_lists_against_chance(query: AnnData) -> None:
    row = run(query)["spatial_genes"].iloc[0]
    assert (row["n_genes"], row["n_measured"]) == (N_GENES, N_GENES // 2)
    assert row["n_both"] == N_GENES // 2
    assert row["n_chance"] == pytest.approx(N_GENES / 4)
    assert row["enrichment"] == pytest.approx(2)
    # the one way of all to draw just these
    assert row["pvalue"] == pytest.approx(1 / 137846528820)
    order = np.random.default_rng(0).permutation(N_GENES)
    query.layers["bleep"] = query.layers["bleep"][:, order]
    other = run(query)["spatial_genes"].iloc[0]
    assert other["n_both"] == (order[: N_GENES // 2] < N_GENES // 2).sum()
    assert other["pvalue"] > 0.01


def test_moran_is_squidpys_and_in_order() -> None:
    query = slide(sections=("s1",))
    values, graph = query.X.toarray()[:, ::-1].astype(float), spot_graph(query.obsm["spatial"])
    table = regions.moran(values, graph)
    weights = graph / graph.sum(axis=1)
    z = values - values.mean(axis=0)
    known = (z * (weights @ z)).sum(axis=0) / (z**2).sum(axis=0)
    np.testing.assert_allclose(table["moran"], known, atol=1e-6)
    assert (table["qvalue"][N_GENES // 2 :] < 0.01).all()
    assert (table["qvalue"][: N_GENES // 2] < 0.05).sum() <= 2


@pytest.mark.usefixtures("quick")
def test_what_cannot_be_told_is_said(query: AnnData) -> None:
    """Three spots of a kind, a section without one of the regions, a region none of whose markers is predicted."""
    query.obs["region"] = query.obs["region"].astype(str)
    query.obs.iloc[:3, query.obs.columns.get_loc("region")] = "undetermined"
    query.obs.loc[query.obs["section"] == "s2", "region"] = "top"
    query.layers["bleep"][:, 5] = np.nan
    found = run(query, markers={**MARKERS, "undetermined": ["g0"], "bottom": ["g5"]})
    table = found["markers"].set_index(["section", "region"])
    assert "none of the markers of 'bottom' is predicted" in table.loc[("s1", "bottom"), "note"]
    assert "fewer than 5 spots" in table.loc[("s1", "undetermined"), "note"]
    assert "fewer than 5 spots" in table.loc[("s2", "top"), "note"]
    assert table.loc[("s1", "top"), "note"] == ""
    assert table["auroc_predicted"].notna().sum() == 1
    clusters = found["clusters"].set_index("section")
    assert clusters.loc["s1", "n_clusters"] == 2, "three spots of a kind are no region"
    assert "cannot be told" in clusters.loc["s2", "note"]
    assert np.isnan(clusters.loc["s2", "ari"])


@pytest.mark.usefixtures("quick")
def test_all_genes_that_vary_leave_nothing_to_tell(query: AnnData) -> None:
    query = query[:, : N_GENES // 2].copy()
    row = run(query)["spatial_genes"].iloc[0]
    assert "all genes vary" in row["note"]
    assert np.isnan(row["pvalue"])


@pytest.mark.usefixtures("quick")
def test_without_places(query: AnnData) -> None:
    del query.obsm["spatial"]
    found = run(query)
    assert found["spatial_genes"]["note"].str.contains("places of the spots").all()
    assert found["clusters"]["ari"].notna().all()
    assert found["clusters"]["ari_chance"].isna().all()


@pytest.mark.usefixtures("quick")
def test_the_circularity_is_said_in_print(query: AnnData, log: pytest.LogCaptureFixture) -> None:
    found = run(query)
    assert "told apart by eye" in found["circularity"]
    assert "told apart by eye" in log.text
    assert "IN-SAMPLE" not in log.text
    query.uns["bleep"] = {"in_sample": True}
    assert run(query)["in_sample"]
    assert "IN-SAMPLE" in log.text


@pytest.mark.usefixtures("quick")
def test_writes_one_field_and_survives_a_file(query: AnnData, tmp_path: Any) -> None:
    before = {name: set(getattr(query, name)) for name in ("obs", "var", "obsm", "layers")}
    found = run(query)
    assert {name: set(getattr(query, name)) for name in before} == before
    assert set(query.uns) == {"bleep_regions"}
    query.write_h5ad(tmp_path / "query.h5ad")
    back = ad.read_h5ad(tmp_path / "query.h5ad").uns["bleep_regions"]
    for name in ("markers", "summary", "clusters", "spatial_genes"):
        pd.testing.assert_frame_equal(back[name], found[name], check_dtype=False)


@pytest.mark.usefixtures("quick")
def test_the_order_of_spots_does_not_matter(query: AnnData) -> None:
    found = run(query)
    other = run(query[np.random.default_rng(0).permutation(query.n_obs)].copy())
    for name in ("markers", "clusters", "spatial_genes"):
        pd.testing.assert_frame_equal(other[name], found[name])


@pytest.mark.usefixtures("quick")
def test_only_the_references_panel_is_clustered(query: AnnData) -> None:
    query.uns["bleep"] = {"panels": {"HVG-200": np.array(["g0", "g1", "g3", "absent"], dtype=object)}}
    assert (run(query)["clusters"]["n_genes"] == 3).all()


@pytest.mark.odd
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", ["tumour/stroma", "a\tb\n<b>", "x" * 300])
@pytest.mark.slow
def test_any_name_of_a_region_survives_files(name: str, query: AnnData, tmp_path: Any) -> None:
    query.obs["region"] = query.obs["region"].astype(str).replace("top", name)
    found = run(query, markers={name: MARKERS["top"]})
    assert json.loads(found["params"]["markers"]) == {name: MARKERS["top"]}
    query.write_h5ad(tmp_path / "query.h5ad")
    back = ad.read_h5ad(tmp_path / "query.h5ad").uns["bleep_regions"]
    assert back["markers"]["region"].tolist() == [name] * 2
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Writing zarr v2 data")
        query.write_zarr(tmp_path / "query.zarr")


@pytest.mark.odd
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["int", "float", "bool", "category", "Int64"])
def test_regions_that_are_numbers(kind: str, query: AnnData) -> None:
    wanted = run(query)["markers"].drop(columns="region")
    number = pd.Series((query.obs["region"] == "top").to_numpy().astype(int), index=query.obs_names)
    query.obs["number"] = number.astype(kind)
    found = run(query, labels="number", markers={1: MARKERS["top"], 0: MARKERS["bottom"]})["markers"]
    pd.testing.assert_frame_equal(found.drop(columns="region"), wanted)
    with pytest.raises(ValueError, match="which another name stands for too"):
        run(query, labels="number", markers={1: ["g0"], str(max(query.obs["number"])): ["g1"]})


@pytest.mark.odd
@pytest.mark.usefixtures("quick")
def test_a_note_of_the_users_under_the_name_of_the_layer(query: AnnData) -> None:
    query.uns["bleep"] = "a note"
    assert not run(query)["in_sample"]


def _spoilt(change: Callable[[AnnData], Any]) -> AnnData:
    query = slide()
    change(query)
    return query


BAD: dict[str, tuple[Callable[[AnnData], Any], dict[str, Any], type[Exception], str]] = {
    "no such column": (lambda a: None, {"labels": "layer"}, KeyError, r"query\.obs\['layer'\]` does not exist"),
    "no label": (
        lambda a: a.obs.__setitem__("region", None),
        {},
        ValueError,
        r"query\.obs\['region'\]` must tell two or more regions apart, found no label at all",
    ),
    "one kind": (lambda a: a.obs.__setitem__("region", "top"), {}, ValueError, r"regions apart, found only 'top'"),
    "no such region": (lambda a: None, {"markers": {"middle": ["g0"]}}, ValueError, r"names the region 'middle'"),
    "no marker": (lambda a: None, {"markers": {"top": ["x"]}}, ValueError, r"none of the `markers` is predicted.*'x'"),
    "no mapping": (lambda a: None, {"markers": ["g0"]}, ValueError, r"`markers` must be genes by region"),
    "one layer twice": (
        lambda a: None,
        {"truth": "bleep"},
        ValueError,
        r"`truth='bleep'` is the predicted layer itself",
    ),
    "no layer": (lambda a: a.layers.pop("bleep"), {}, KeyError, r"query\.layers\['bleep'\]` does not exist"),
    "no truth": (lambda a: setattr(a, "X", None), {}, KeyError, r"`query\.X` is empty"),
    "one marker, which is not there": (
        lambda a: None,
        {"markers": {"top": "ERBB2"}},
        ValueError,
        r"none of the `markers` is predicted, such as \['ERBB2'\]",
    ),
    "clusters": (lambda a: None, {"n_clusters": 1}, ValueError, r"`n_clusters` must be an integer of at least 2"),
}


@pytest.mark.odd
@pytest.mark.parametrize("name", BAD)
def test_one_clear_error(name: str, unchanged: Callable[..., None]) -> None:
    change, arguments, kind, message = BAD[name]
    query = _spoilt(change)
    unchanged(query)
    with pytest.raises(kind, match=message):
        run(query, **arguments)
