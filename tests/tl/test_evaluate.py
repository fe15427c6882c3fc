from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from anndata import AnnData
from scipy import sparse

import bleep_sc as bl
from bleep_sc import metrics as m
from bleep_sc._grid import grid_positions
from bleep_sc._stats import panels as choose_panels
from bleep_sc.metrics.registry import METRICS

PER_GENE = tuple(name for name, metric in METRICS.items() if not metric.whole_panel)
ERROR_LIKE = ("rmse", "mae", "r2", "moran_difference", "variance_ratio")
SUMMARY = (
    *("method", "panel", "metric", "value", "low", "high", "interval_over", "ceiling", "share_of_ceiling"),
    *("n_genes", "n_missing", "n_constant_truth", "n_constant_prediction", "n_sections", "n_patients"),
)
SCORES = (
    *("method", "section", "patient", "panel", "metric", "value"),
    *("n_genes", "n_missing", "n_constant_truth", "n_constant_prediction"),
)


@pytest.fixture
def scored() -> AnnData:
    """60 spots in two sections, with a prediction in `layers["bleep"]`; no counts, no coordinates."""
    rng = np.random.default_rng(0)
    truth = rng.poisson(3, size=(60, 20)).astype(np.float32)
    adata = AnnData(np.log1p(truth), layers={"bleep": (truth + rng.normal(0, 2, size=truth.shape)).astype(np.float32)})
    adata.var_names = [f"g{i}" for i in range(20)]
    adata.obs["section"] = np.repeat(["a", "b"], 30)
    adata.uns["bleep"] = {"panels": {"HEG-50": np.array(["g1", "g2", "gone"], dtype=object)}, "in_sample": False}
    return adata


@pytest.fixture
def tissue() -> AnnData:
    """Six sections of three patients (3, 2, 1), with counts and coordinates; rows in no order."""
    rng = np.random.default_rng(0)
    n, names = 30, ["a1", "a2", "a3", "b1", "b2", "c1"]
    counts = rng.poisson(rng.gamma(2, 2, size=(n * 6, 1)) * rng.gamma(1, 2, size=40) + 0.2)
    scaled = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e3)
    adata = AnnData(
        sparse.csr_matrix(scaled.astype(np.float32)),
        obs=pd.DataFrame(
            {
                "slide": np.repeat(names, n),
                "patient": pd.Categorical([name[0].upper() for name in np.repeat(names, n)]),
                "array_row": np.tile(np.arange(n) // 6, 6),
                "array_col": np.tile(np.arange(n) % 6, 6),
            },
            index=[f"s{i}" for i in range(n * 6)],
        ),
        layers={"counts": sparse.csr_matrix(counts.astype(np.float32))},
    )
    adata.var_names = [f"g{i}" for i in range(40)]
    adata.obsm["spatial"] = 10.0 * adata.obs[["array_col", "array_row"]].to_numpy()
    noise = rng.normal(0, np.repeat([0.2, 0.5, 0.8, 1.2, 1.6, 3], n)[:, None], size=scaled.shape)
    adata.layers["mine"] = scaled + noise
    return adata[rng.permutation(adata.n_obs)].copy()


def row(adata: AnnData, panel: str, metric: str = "pearson", layer: str = "bleep") -> pd.Series:
    table = adata.uns[f"{layer}_scores"]["summary"]
    found = table[(table["panel"] == panel) & (table["metric"] == metric)]
    assert len(found) == 1
    return found.iloc[0]


def test_pearson_by_gene_within_sections(scored: AnnData) -> None:
    scored.layers["bleep"][30:] += 50  # a shift between sections is not a pattern within them
    bl.tl.evaluate(scored, library_key="section")
    for number, gene in enumerate(scored.var_names):
        expected = np.mean(
            [
                scipy.stats.pearsonr(scored.X[rows, number], scored.layers["bleep"][rows, number])[0]
                for rows in (np.arange(30), np.arange(30, 60))
            ]
        )
        assert scored.var.loc[gene, "bleep_pearson"] == pytest.approx(expected, abs=1e-6)
    assert row(scored, "all")["value"] == pytest.approx(scored.var["bleep_pearson"].mean())
    assert row(scored, "all")["n_sections"] == scored.uns["bleep_scores"]["n_sections"] == 2


def test_every_metric_of_a_section(tissue: AnnData) -> None:
    one = tissue[tissue.obs["slide"] == "b1"].copy()
    bl.tl.evaluate(one, layer="mine")
    truth, prediction = one.X.toarray().astype(float), one.layers["mine"]
    depth = np.log(one.layers["counts"].toarray().astype(float).sum(axis=1))
    graph = m.spot_graph(one.obsm["spatial"])
    before, after = m.morans_i(truth, graph), m.morans_i(prediction, graph)
    expected = {
        "pearson": m.pearson(truth, prediction),
        "spearman": m.spearman(truth, prediction),
        "rmse": m.rmse(truth, prediction),
        "mae": m.mae(truth, prediction),
        "r2": m.r2(truth, prediction),
        "ccc": m.ccc(truth, prediction),
        "pearson_depth_free": m.partial_pearson(truth, prediction, depth),
        "ssim": m.ssim(truth, prediction, grid_positions(one.obs, one.obsm["spatial"])),
        "moran_difference": after - before,
        "variance_ratio": m.variance_ratio(truth, prediction),
    }
    assert tuple(expected) == PER_GENE
    for metric, values in expected.items():
        np.testing.assert_allclose(one.var[f"mine_{metric}"], values, rtol=1e-10)
        assert row(one, "all", metric, "mine")["value"] == pytest.approx(values.mean())
    assert row(one, "all", "gene_gene", "mine")["value"] == pytest.approx(m.gene_gene(truth, prediction))
    agreement = scipy.stats.pearsonr(before, after)[0]
    assert row(one, "all", "moran_agreement", "mine")["value"] == pytest.approx(agreement)


def test_panels_stand_in_one_order(scored: AnnData, tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    """In the table and in the log, also after reading from a file, which sorts by letters."""
    genes = np.array(["g1", "g2", "g3"], dtype=object)
    scored.uns["bleep"]["panels"] = {"HEG-50": genes, "HVG-50": genes[:2], "HVG-200": genes}
    scored.write_h5ad(tmp_path / "scored.h5ad")
    back = ad.read_h5ad(tmp_path / "scored.h5ad")
    assert list(back.uns["bleep"]["panels"]) == ["HEG-50", "HVG-200", "HVG-50"]
    for adata in (scored, back):
        log.clear()
        bl.tl.evaluate(adata, library_key="section", metrics=["pearson"])
        order = list(dict.fromkeys(adata.uns["bleep_scores"]["summary"]["panel"]))
        assert order == ["all", "HEG-50", "HVG-50", "HVG-200"]
        assert log.text.index("HVG-50") < log.text.index("HVG-200")


def test_genes_then_sections_then_patients(tissue: AnnData, log: pytest.LogCaptureFixture) -> None:
    bl.tl.evaluate(tissue, layer="mine", library_key="slide", metrics=["pearson"])
    scores = tissue.uns["mine_scores"]["scores"].set_index("section")["value"]
    for slide in ("a1", "a2", "a3", "b1", "b2", "c1"):
        rows = (tissue.obs["slide"] == slide).to_numpy()
        by_gene = m.pearson(tissue.X[rows].toarray(), tissue.layers["mine"][rows])
        assert scores[slide] == pytest.approx(by_gene.mean())
    patients = [scores[["a1", "a2", "a3"]].mean(), scores[["b1", "b2"]].mean(), scores["c1"]]
    found = row(tissue, "all", layer="mine")
    # a patient with three sections weighs no more than one with a single section
    assert found["value"] == pytest.approx(np.mean(patients))
    assert abs(found["value"] - scores.mean()) > 0.02
    assert (found["n_sections"], found["n_patients"], found["interval_over"]) == (6, 3, "patients")
    drawn = m.bootstrap_mean([np.array(patients)], n_draws=1000, rng=np.random.default_rng(0))
    assert (found["low"], found["high"]) == pytest.approx(m.interval(drawn))
    assert tissue.uns["mine_scores"]["params"]["patient_key"] == "patient"
    assert "within 6 sections of 3 patients" in log.text
    assert "Intervals are over patients." in log.text


@pytest.mark.parametrize(
    ("slides", "patient_key", "over"),
    [
        (["a1", "a2", "a3"], "patient", "sections"),
        (["a1", "a2", "a3", "b1"], "patient", "spots"),  # b's one section has no spread
        (["a1", "a2", "b1"], "slide", "patients"),
        (["a1", "c1"], "patient", "spots"),
        (["b2"], "patient", "spots"),
    ],
)
def test_intervals_are_over_the_largest_unit_there_are_three_of(
    slides: list[str], patient_key: str, over: str, tissue: AnnData, log: pytest.LogCaptureFixture
) -> None:
    part = tissue[tissue.obs["slide"].isin(slides)].copy()
    bl.tl.evaluate(part, layer="mine", library_key="slide", patient_key=patient_key)
    table = part.uns["mine_scores"]["summary"].set_index("metric")
    for metric in METRICS:
        found = table.loc[metric]
        with_interval = over != "spots" or metric in ("pearson", "pearson_depth_free")
        assert found["interval_over"] == (over if with_interval else "")
        assert np.isfinite(found[["low", "high"]].to_numpy(dtype=float)).all() == with_interval
        if with_interval:
            assert found["low"] < found["high"]
    assert table.loc["pearson", "low"] < table.loc["pearson", "value"] < table.loc["pearson", "high"]
    assert f"Intervals are over {over}" in log.text
    assert ("nothing of other patients" in log.text) == (over != "patients")


def test_sections_are_drawn_within_their_patient(tissue: AnnData) -> None:
    tissue.obs["patient"] = tissue.obs["patient"].astype(str).replace("C", "B")  # two patients of three sections
    part = tissue
    bl.tl.evaluate(part, layer="mine", library_key="slide", metrics="mae")
    values = part.uns["mine_scores"]["scores"].set_index("section")["value"]
    groups = [values[["a1", "a2", "a3"]].to_numpy(), values[["b1", "b2", "c1"]].to_numpy()]
    drawn = m.bootstrap_mean(groups, n_draws=1000, rng=np.random.default_rng(0))
    assert tuple(row(part, "all", "mae", "mine")[["low", "high"]]) == pytest.approx(m.interval(drawn))


def test_interval_over_spots_is_that_of_the_mean_over_sections(tissue: AnnData) -> None:
    part = tissue[tissue.obs["slide"].isin(["a1", "b1"])].copy()
    part.layers["mine"][:, 3] = np.nan
    bl.tl.evaluate(part, layer="mine", library_key="slide", n_bootstrap=400, random_state=5)
    draws = []
    for slide in ("a1", "b1"):
        of_slide = part[part.obs["slide"] == slide]
        of_slide = of_slide[sorted(of_slide.obs_names)]  # spots are drawn in the order of their names
        truth, prediction = of_slide.X.toarray(), np.nan_to_num(of_slide.layers["mine"])
        share = np.where(np.arange(40) == 3, 0, 1 / 40)
        rng = np.random.default_rng(5)
        draws.append(m.bootstrap_pearson(truth, prediction, panels=[share], n_draws=400, rng=rng)[0][:, 0])
    found = row(part, "all", layer="mine")
    assert (found["low"], found["high"]) == pytest.approx(m.interval(np.mean(draws, axis=0)), abs=1e-5)


def test_same_seed_same_interval_and_none_without_draws(scored: AnnData) -> None:
    intervals = []
    for seed in (0, 0, 1):
        bl.tl.evaluate(scored, random_state=seed)
        intervals.append(tuple(row(scored, "all")[["low", "high"]]))
    assert intervals[0] == intervals[1] != intervals[2]
    bl.tl.evaluate(scored, n_bootstrap=0)
    assert np.isnan(row(scored, "all")["low"])
    assert row(scored, "all")["interval_over"] == ""


def test_panels_come_from_the_reference_and_absent_genes_count(scored: AnnData) -> None:
    bl.tl.evaluate(scored)
    pearson = scored.var["bleep_pearson"]
    panel = row(scored, "HEG-50")
    assert panel["value"] == pytest.approx((pearson["g1"] + pearson["g2"]) / 3)
    assert (panel["n_genes"], panel["n_missing"]) == (3, 1)
    assert row(scored, "HEG-50", "mae")["value"] == pytest.approx(scored.var.loc[["g1", "g2"], "bleep_mae"].mean())
    ref = AnnData(np.ones((2, 1)), uns={"bleep": {"panels": {"mine": np.array(["g7"])}}})
    bl.tl.evaluate(scored, ref=ref)
    assert set(scored.uns["bleep_scores"]["summary"]["panel"]) == {"all", "mine"}
    assert row(scored, "mine")["value"] == pytest.approx(pearson["g7"])


def test_a_foreign_prediction(scored: AnnData, log: pytest.LogCaptureFixture) -> None:
    scored.layers["theirs"] = scored.layers["bleep"] * 2
    scored.uns["other"] = {}
    bl.tl.evaluate(scored, layer="theirs", markers=["g3", "g5", "gone", "g3"])
    assert "has no gene panels" in log.text
    assert list(scored.uns["theirs_scores"]["summary"]["panel"].unique()) == ["all", "markers"]
    pearson = scored.var["theirs_pearson"]
    found = row(scored, "markers", layer="theirs")
    assert found["value"] == pytest.approx((pearson["g3"] + pearson["g5"]) / 3)
    assert (found["n_genes"], found["n_missing"]) == (3, 1)
    # panels of a reference's model of any name that is known, or chosen on its values
    ref = AnnData(np.ones((2, 1)), uns={"bleep": {"panels": {"mine": np.array(["g7"])}}})
    bl.tl.evaluate(scored, layer="theirs", ref=ref)
    assert row(scored, "mine", layer="theirs")["value"] == pytest.approx(pearson["g7"])
    rng = np.random.default_rng(7)
    ref = AnnData(sparse.csr_matrix(np.log1p(rng.poisson(np.arange(1, 61), size=(30, 60)))))
    ref.var_names = [f"g{i}" for i in range(60)]
    ref.obs["section"] = np.repeat(["x", "y"], 15)
    bl.tl.evaluate(scored, layer="theirs", ref=ref, library_key="section")
    chosen = choose_panels(ref.X, ref.var_names.to_numpy(), ref.obs["section"].to_numpy())
    expected = sum(scored.var["theirs_pearson"].get(gene, 0) for gene in chosen["HEG-50"]) / 50
    assert row(scored, "HEG-50", layer="theirs")["value"] == pytest.approx(expected)
    assert list(scored.uns["theirs_scores"]["summary"]["panel"].unique()) == ["all", *chosen]


def test_panels_are_never_chosen_on_the_query(scored: AnnData, unchanged: Callable[..., None]) -> None:
    scored.layers["theirs"] = scored.layers["bleep"] * 2
    del scored.uns["bleep"]
    unchanged(scored)
    for ref in (scored, scored[:40, 5:].copy()):
        with pytest.raises(ValueError, match=r"`ref` holds \d+ of the query's own spots, such as '0'"):
            bl.tl.evaluate(scored, layer="theirs", ref=ref)
    # names recur from section to section: spots of other values are others
    ref = scored.copy()
    ref.X = ref.X[:, ::-1]
    bl.tl.evaluate(scored, layer="theirs", ref=ref, copy=True)


def test_constant_and_missing_genes_are_counted_not_dropped(scored: AnnData) -> None:
    scored.X[:, 0] = 1
    scored.layers["bleep"][:, 1] = 2
    scored.layers["bleep"][:, 2] = np.nan
    scored.obsm["spatial"] = np.argwhere(np.ones((10, 6)))[:, ::-1].astype(float)
    scored.layers["counts"] = np.random.default_rng(0).poisson(3, size=scored.shape)
    bl.tl.evaluate(scored)
    for metric in PER_GENE:
        column = scored.var[f"bleep_{metric}"]
        assert np.isnan(column.iloc[[0, 2]]).all()
        assert np.isfinite(column.iloc[1])
        found = row(scored, "all", metric)
        assert (found["n_missing"], found["n_constant_truth"], found["n_constant_prediction"]) == (1, 1, 1)
        assert found["value"] == pytest.approx(column.sum() / (18 if metric in ERROR_LIKE else 20))
    assert (scored.var.iloc[1][[f"bleep_{name}" for name in ("pearson", "spearman", "ccc")]] == 0).all()
    assert scored.var["bleep_pearson_depth_free"].iloc[1] == 0
    moran = m.morans_i(scored.X.astype(float), m.spot_graph(scored.obsm["spatial"]))
    assert scored.var["bleep_moran_difference"].iloc[1] == pytest.approx(-moran[1])


def test_a_prediction_that_is_constant_everywhere(scored: AnnData) -> None:
    scored.layers["bleep"][:] = scored.X.mean(axis=0)
    scored.obsm["spatial"] = np.argwhere(np.ones((10, 6))).astype(float)
    bl.tl.evaluate(scored)
    for metric in ("pearson", "spearman", "ccc", "gene_gene", "moran_agreement", "variance_ratio"):
        assert row(scored, "all", metric)["value"] == 0
    assert row(scored, "all", "rmse")["value"] == pytest.approx(scored.X.std(axis=0).mean(), rel=1e-5)
    assert row(scored, "all", "r2")["value"] == pytest.approx(0, abs=1e-6)
    assert tuple(row(scored, "all")[["low", "high"]]) == (0, 0)


def test_a_gene_without_counts_in_one_section(scored: AnnData) -> None:
    scored.X[:30, 0] = 0
    bl.tl.evaluate(scored, library_key="section")
    second = m.pearson(scored.X[30:], scored.layers["bleep"][30:])
    assert scored.var["bleep_pearson"].iloc[0] == pytest.approx(second[0])
    scores = scored.uns["bleep_scores"]["scores"]
    scores = scores[(scores["panel"] == "all") & (scores["metric"] == "pearson")]
    assert scores["n_constant_truth"].tolist() == [1, 0]
    first = m.pearson(scored.X[:30], scored.layers["bleep"][:30])
    np.testing.assert_allclose(scores["value"], [np.nansum(first) / 20, second.mean()])
    assert row(scored, "all")["n_constant_truth"] == 1


def test_without_counts_or_coordinates(scored: AnnData, log: pytest.LogCaptureFixture) -> None:
    bl.tl.evaluate(scored)
    for metric in ("pearson_depth_free", "ssim", "moran_difference", "moran_agreement"):
        assert np.isnan(row(scored, "all", metric)["value"])
    assert scored.var["bleep_ssim"].isna().all()
    assert np.isnan(row(scored, "all")["ceiling"])
    assert "noise_ceiling" not in scored.var
    assert "No depth-free Pearson" in log.text
    assert "No SSIM" in log.text
    log.clear()
    bl.tl.evaluate(scored, metrics=["rmse", "pearson"])
    assert "No SSIM" not in log.text
    assert list(scored.uns["bleep_scores"]["summary"]["metric"].unique()) == ["pearson", "rmse"]


def test_share_of_the_ceiling(tissue: AnnData) -> None:
    alone = tissue.copy()
    bl.tl.noise_ceiling(alone, library_key="slide")
    tissue.layers["mine"][:, 0] = np.nan
    bl.tl.evaluate(tissue, layer="mine", library_key="slide", markers=["g0", "g1", "gone"])
    np.testing.assert_array_equal(tissue.var["noise_ceiling"], alone.var["noise_ceiling"])
    assert tissue.uns["noise_ceiling"] == alone.uns["noise_ceiling"]
    found, ceiling = row(tissue, "all", layer="mine"), tissue.var["noise_ceiling"]
    assert found["ceiling"] == pytest.approx(ceiling.mean())
    assert found["share_of_ceiling"] == pytest.approx(found["value"] / ceiling.mean())
    assert np.isnan(row(tissue, "all", "rmse", "mine")["ceiling"])
    # a gene that the query lacks counts as 0 on both sides, one that was not predicted only in the score
    assert row(tissue, "markers", layer="mine")["ceiling"] == pytest.approx((ceiling["g0"] + ceiling["g1"]) / 3)
    tissue.var["noise_ceiling"] = 0.5
    bl.tl.evaluate(tissue, layer="mine", library_key="slide")
    assert row(tissue, "all", layer="mine")["ceiling"] == pytest.approx(0.5)


@pytest.mark.odd
def test_counts_that_are_none(tissue: AnnData) -> None:
    tissue.layers["counts"].data[0] = 0.5
    with pytest.warns(UserWarning, match=r"No noise ceiling.*whole numbers.*0\.5"):
        bl.tl.evaluate(tissue, layer="mine", library_key="slide")
    assert np.isnan(row(tissue, "all", layer="mine")["ceiling"])


def test_two_layers_do_not_overwrite_each_other(scored: AnnData, tmp_path: Path) -> None:
    scored.layers["other"] = scored.X.copy()
    bl.tl.evaluate(scored)
    before = scored.var["bleep_pearson"].copy()
    bl.tl.evaluate(scored, layer="other")
    assert scored.var["bleep_pearson"].equals(before)
    np.testing.assert_allclose(scored.var["other_pearson"], 1)
    scored.write_h5ad(tmp_path / "s.h5ad")
    assert row(ad.read_h5ad(tmp_path / "s.h5ad"), "all", layer="other")["value"] == pytest.approx(1)


def test_tables_through_h5ad(tissue: AnnData, tmp_path: Path) -> None:
    bl.tl.evaluate(tissue, layer="mine", library_key="slide", markers=["g1"])
    written = tissue.uns["mine_scores"]
    assert tuple(written["summary"].columns) == SUMMARY
    assert tuple(written["scores"].columns) == SCORES
    assert len(written["summary"]) == 2 * len(METRICS)
    assert len(written["scores"]) == 6 * 2 * len(METRICS)
    tissue.write_h5ad(tmp_path / "t.h5ad")
    read = ad.read_h5ad(tmp_path / "t.h5ad").uns["mine_scores"]
    for name in ("summary", "scores"):
        pd.testing.assert_frame_equal(read[name], written[name], check_dtype=False)
        assert written[name].index.tolist() == [str(i) for i in range(len(written[name]))]
    assert read["params"]["metrics"].tolist() == list(METRICS)


def test_copy_sparse_and_lazy_predictions(tissue: AnnData, unchanged: Callable[..., None]) -> None:
    tissue.layers["mine"] = np.round(np.clip(tissue.layers["mine"], 0, None), 1)
    tissue.layers["sparse"] = sparse.csr_matrix(tissue.layers["mine"])
    tissue.layers["lazy"] = da.from_array(tissue.layers["mine"])
    unchanged(tissue)
    dense = bl.tl.evaluate(tissue, layer="mine", library_key="slide", copy=True)
    columns = ["value", "low", "high", "share_of_ceiling"]
    for layer in ("sparse", "lazy"):
        same = bl.tl.evaluate(tissue, layer=layer, library_key="slide", copy=True)
        pd.testing.assert_frame_equal(
            dense.uns["mine_scores"]["summary"][columns], same.uns[f"{layer}_scores"]["summary"][columns]
        )


def test_a_layer_in_a_store_is_read_by_chunks_of_genes(tissue: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all sections, whose rows are in no order; and never more genes at once."""
    lazy = tissue.copy()
    lazy.layers["mine"] = da.from_array(tissue.layers["mine"], chunks=(11, 7))
    read: list[int] = []
    compute = da.Array.compute

    def counted(array: Any, **how: Any) -> Any:
        read.append(array.shape[1] if len(array) > 11 else 0)
        return compute(array, **how)

    monkeypatch.setattr(da.Array, "compute", counted)
    metrics = ["pearson", "pearson_depth_free", "moran_difference"]
    for adata in (tissue, lazy):
        bl.tl.evaluate(adata, layer="mine", library_key="slide", metrics=metrics)
    assert max(read) == 7
    pd.testing.assert_frame_equal(lazy.uns["mine_scores"]["summary"], tissue.uns["mine_scores"]["summary"])
    pd.testing.assert_frame_equal(lazy.var, tissue.var)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Writing zarr v2 data will no longer be the default:UserWarning")
def test_an_object_that_stays_on_disk_is_scored_too(tissue: AnnData, tmp_path: Path) -> None:
    """Its `obs` too, which tells the grid that SSIM and Moran's I need."""
    from anndata.experimental import read_lazy

    tissue.write_zarr(tmp_path / "tissue.zarr")
    lazy = read_lazy(tmp_path / "tissue.zarr")
    for adata in (tissue, lazy):
        bl.tl.evaluate(adata, layer="mine", library_key="slide")
    pd.testing.assert_frame_equal(lazy.uns["mine_scores"]["summary"], tissue.uns["mine_scores"]["summary"])


def test_a_large_panel_in_a_store_is_scored_gene_by_gene(tissue: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    one = tissue[tissue.obs["slide"] == "a1"].copy()
    whole = bl.tl.evaluate(one, layer="mine", markers=list(one.var_names[:9]), copy=True)
    one.layers["mine"] = da.from_array(np.asarray(one.layers["mine"]), chunks=(11, 7))
    for module in ("panels", "summary"):
        monkeypatch.setattr(f"bleep_sc.metrics.{module}.MOST_GENES_OF_A_STORE", 9)
    bl.tl.evaluate(one, layer="mine", markers=list(one.var_names[:9]))
    for metric in METRICS:
        of_markers = pd.DataFrame([row(adata, "markers", metric, "mine") for adata in (one, whole)])
        pd.testing.assert_series_equal(*(of_markers.iloc[n].infer_objects() for n in (0, 1)), check_names=False)
        found, expected = (row(adata, "all", metric, "mine") for adata in (one, whole))
        assert np.isnan(found["value"]) if METRICS[metric].whole_panel else found["value"] == expected["value"]
        assert found["interval_over"] == ""
    assert row(one, "markers", layer="mine")["interval_over"] == "spots"


@pytest.mark.odd
def test_infinite_values_in_a_store_are_named(tissue: AnnData, unchanged: Callable[..., None]) -> None:
    values = np.array(tissue.layers["mine"])
    values[3, 30] = np.inf
    tissue.layers["mine"] = da.from_array(values, chunks=(11, 7))
    with pytest.raises(ValueError, match=r"`query\.layers\['mine'\]` must hold numbers.*found infinite values"):
        bl.tl.evaluate(tissue, layer="mine", library_key="slide")
    assert "mine_scores" not in tissue.uns


def test_blocks_of_genes_leave_no_seam(tissue: AnnData) -> None:
    """Every gene many times over, more than are scored at once: each time the same."""
    one = tissue[tissue.obs["slide"] == "a1"].copy()
    metrics = ["pearson", "rmse", "variance_ratio"]
    many = AnnData(np.tile(one.X.toarray(), 450), layers={"mine": np.tile(one.layers["mine"], 450)})
    for adata in (one, many):
        bl.tl.evaluate(adata, layer="mine", metrics=metrics, n_bootstrap=0)
    for name in metrics:
        found = many.var[f"mine_{name}"].to_numpy().reshape(450, 40)
        np.testing.assert_allclose(found, np.tile(one.var[f"mine_{name}"], (450, 1)), rtol=1e-9)


def test_sections_are_those_of_the_crops(scored: AnnData) -> None:
    scored.uns["crops"] = {"a": {"library_key": "section"}, "b": {"library_key": "section"}}
    bl.tl.evaluate(scored)
    assert scored.uns["bleep_scores"]["n_sections"] == 2


def test_says_in_sample_and_prints_a_table(scored: AnnData, log: pytest.LogCaptureFixture) -> None:
    scored.uns["bleep"]["in_sample"] = True
    bl.tl.evaluate(scored)
    assert "IN-SAMPLE" in log.text
    assert scored.uns["bleep_scores"]["in_sample"] is True
    assert "HEG-50" in log.text
    log.clear()
    bl.tl.evaluate(scored, metrics=["spearman"])
    found = row(scored, "all", "spearman")
    assert f"{found['value']:.3f}" in log.text
    assert "Spearman of layer 'bleep'" in log.text


def give(adata: AnnData, **columns: Any) -> None:
    for name, values in columns.items():
        adata.obs[name] = values


BAD: dict[str, tuple[Callable[[AnnData], Any], dict[str, Any], type[Exception], str]] = {
    "no layer": (lambda a: None, {"layer": "x"}, KeyError, r"layers\['x'\].*bleep_sc\.tl\.impute"),
    "no truth": (lambda a: setattr(a, "X", None), {}, ValueError, r"no measured expression"),
    "no truth layer": (lambda a: None, {"truth": "norm"}, KeyError, r"layers\['norm'\]"),
    "column": (lambda a: None, {"library_key": "slide"}, KeyError, r"obs\['slide'\]"),
    "patient column": (lambda a: None, {"patient_key": "donor"}, KeyError, r"obs\['donor'\]"),
    "NaN": (lambda a: a.X.__setitem__((0, 0), np.nan), {}, ValueError, r"query\.X.*NaN"),
    "infinite prediction": (
        lambda a: a.layers["bleep"].__setitem__((0, 0), np.inf),
        {},
        ValueError,
        r"layers\['bleep'\].*infinite",
    ),
    "two spots": (
        lambda a: give(a, section=["x"] * 2 + ["y"] * 58),
        {"library_key": "section"},
        ValueError,
        r"'x' has 2 spots",
    ),
    "two patients": (
        lambda a: give(a, patient=["P"] * 20 + ["Q"] * 40),
        {"library_key": "section"},
        ValueError,
        r"'a' holds spots of 2 patients, such as 'P' and 'Q'.*library_key",
    ),
    "metric": (lambda a: None, {"metrics": ["pearson", "auc"]}, ValueError, r"`metrics`.*'pearson'.*\['auc'\]"),
    "no metric": (lambda a: None, {"metrics": []}, ValueError, r"`metrics` must be some of"),
    "markers": (lambda a: None, {"markers": ["ERBB2"]}, ValueError, r"`markers`.*\['ERBB2'\].*'g0'"),
    "one marker": (lambda a: None, {"markers": "ERBB2"}, ValueError, r"`markers`.*\['ERBB2'\]"),
    "draws": (lambda a: None, {"n_bootstrap": -1}, ValueError, r"`n_bootstrap`"),
    "seed": (lambda a: None, {"random_state": None}, ValueError, r"`random_state`"),
    "coordinates": (
        lambda a: a.obsm.__setitem__("spatial", np.full((60, 2), np.nan)),
        {},
        ValueError,
        r"obsm\['spatial'\].*NaN",
    ),
    "sections taken for one": (
        lambda a: (
            a.obsm.__setitem__("spatial", np.zeros((60, 2))),
            give(a, array_row=np.tile(np.arange(30), 2), array_col=0),
        ),
        {},
        ValueError,
        r"60 of 60 spots share.*library_key",
    ),
}


@pytest.mark.odd
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str, scored: AnnData, unchanged: Callable[..., None]) -> None:
    damage, arguments, error, message = BAD[case]
    damage(scored)
    unchanged(scored)
    with pytest.raises(error, match=message):
        bl.tl.evaluate(scored, **arguments)


@pytest.mark.odd
def test_counts_as_truth_are_warned_of(scored: AnnData) -> None:
    scored.layers["raw"] = np.random.default_rng(0).poisson(100, size=scored.shape).astype(np.float32)
    with pytest.warns(UserWarning, match=r"raw counts"):
        bl.tl.evaluate(scored, truth="raw")


def test_a_prediction_made_elsewhere_is_matched_by_name(tissue: AnnData) -> None:
    bl.tl.evaluate(tissue, layer="mine", library_key="slide", metrics=["pearson"])
    expected = tissue.var["mine_pearson"].to_numpy()
    theirs = AnnData(tissue.layers["mine"].copy(), obs=tissue.obs[[]].copy(), var=tissue.var[[]].copy())
    order = np.random.default_rng(0).permutation(tissue.n_obs)
    theirs = theirs[order, ::-1][:, 3:].copy()
    before = theirs.copy()
    bl.tl.evaluate(tissue, layer="theirs", prediction=theirs, library_key="slide", metrics=["pearson"])
    np.testing.assert_allclose(tissue.var["theirs_pearson"][:-3], expected[:-3], rtol=1e-5)
    assert tissue.var["theirs_pearson"][-3:].isna().all()
    assert "theirs" not in tissue.layers
    assert np.array_equal(theirs.X, before.X)
    with pytest.raises(ValueError, match=r"`prediction` lacks 3 of the"):
        bl.tl.evaluate(tissue, prediction=theirs[3:].copy())
    theirs.var_names = [f"ENSG{i}" for i in range(theirs.n_vars)]
    with pytest.raises(ValueError, match=r"shares no gene.*ENSG0"):
        bl.tl.evaluate(tissue, prediction=theirs)
