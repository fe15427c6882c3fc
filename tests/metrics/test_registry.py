"""Each metric stands in the registry once, and all that is done with a metric follows from its record."""

import ast
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from anndata import AnnData

import bleep_sc as bl
from bleep_sc import metrics as m
from bleep_sc.metrics import panels, registry
from bleep_sc.metrics.moran import moran_values
from bleep_sc.metrics.registry import METRICS, NEEDS_OF_PLACES, RECORDS, Metric, needs_of

RNG = np.random.default_rng(0)
GRID = np.argwhere(np.ones((6, 8)))
TRUTH = RNG.normal(size=(48, 5)).cumsum(axis=0)
PREDICTION = TRUTH + RNG.normal(size=TRUTH.shape)
DEPTH = RNG.normal(size=48)
GRAPH = m.spot_graph(GRID)
BESIDE: dict[registry.Need, Any] = {
    "depth": DEPTH,
    "grid": GRID,
    "moran": moran_values(TRUTH, PREDICTION, GRAPH),
}
# what users can compute themselves, metric by metric
BY_HAND: dict[str, Callable[[], Any]] = {
    "pearson": lambda: m.pearson(TRUTH, PREDICTION),
    "spearman": lambda: m.spearman(TRUTH, PREDICTION),
    "rmse": lambda: m.rmse(TRUTH, PREDICTION),
    "mae": lambda: m.mae(TRUTH, PREDICTION),
    "r2": lambda: m.r2(TRUTH, PREDICTION),
    "ccc": lambda: m.ccc(TRUTH, PREDICTION),
    "pearson_depth_free": lambda: m.partial_pearson(TRUTH, PREDICTION, DEPTH),
    "ssim": lambda: m.ssim(TRUTH, PREDICTION, GRID),
    "moran_difference": lambda: m.morans_i(PREDICTION, GRAPH) - m.morans_i(TRUTH, GRAPH),
    "variance_ratio": lambda: m.variance_ratio(TRUTH, PREDICTION),
    "gene_gene": lambda: m.gene_gene(TRUTH, PREDICTION),
    "moran_agreement": lambda: scipy.stats.pearsonr(m.morans_i(TRUTH, GRAPH), m.morans_i(PREDICTION, GRAPH))[0],
}


def test_the_registry_is_complete_and_in_order() -> None:
    assert tuple(METRICS) == tuple(BY_HAND)
    assert len(METRICS) == len(RECORDS), "two records of one name"
    assert len({metric.label for metric in RECORDS}) == len(RECORDS)
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.label.strip()
        assert set(metric.needs) <= set(BESIDE)
        # a pure error has no value that its axis must show, and where 0 is praise no gene may count as 0 unscored
        assert metric.best is None or not metric.zero_without_value
        assert not (metric.whole_panel and metric.over_spots), "only means over genes are redrawn over spots"


@pytest.mark.parametrize("name", METRICS)
def test_a_record_scores_as_the_public_function_does(name: str) -> None:
    metric = METRICS[name]
    value = metric.value(TRUTH, PREDICTION, BESIDE)
    np.testing.assert_allclose(value, BY_HAND[name](), rtol=1e-12)
    assert np.shape(value) == (() if metric.whole_panel else (5,))
    for need in metric.needs:
        assert metric.value(TRUTH, PREDICTION, BESIDE | {need: None}) is None


def test_needs_are_those_of_all_metrics_asked_for() -> None:
    assert needs_of(METRICS) == set(BESIDE)
    assert needs_of(["pearson", "gene_gene"]) == set()
    assert needs_of(["ssim", "pearson"]) == {"grid"}
    assert {name for name in METRICS if needs_of([name]) & NEEDS_OF_PLACES} == {
        *("ssim", "moran_difference", "moran_agreement")
    }


def test_title_and_rank_follow_from_what_is_best() -> None:
    assert METRICS["pearson"].title == "Pearson correlation"
    assert METRICS["rmse"].title == "RMSE (lower is better)"
    assert METRICS["variance_ratio"].title == "Variance, predicted to measured (best is 1)"
    values = pd.Series([0.2, 0.9, 1.2])
    assert METRICS["r2"].rank(values).idxmax() == 2
    assert METRICS["mae"].rank(values).idxmax() == 0
    assert METRICS["variance_ratio"].rank(values).idxmax() == 1


def test_moran_is_found_once_for_both_metrics(tissue: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []

    def counted(truth: np.ndarray, prediction: np.ndarray, graph: Any) -> Any:
        calls.append(truth.shape)
        return moran_values(truth, prediction, graph)

    monkeypatch.setattr("bleep_sc.metrics.panels.moran_values", counted)
    bl.tl.evaluate(tissue, metrics=["moran_difference", "moran_agreement"], n_bootstrap=0)
    assert calls == [(48, 5)]


def test_threads_share_the_genes_and_no_score_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panels, "_BLOCK_VALUES", len(TRUTH))  # a gene at a time
    prediction = PREDICTION.copy()
    prediction[0, 1], prediction[:, 3] = np.nan, 2
    pair = panels.SectionPair("S1", "", TRUTH, prediction, depth=DEPTH, xy=GRID, grid=GRID)
    seen = []

    def in_threads(work: Callable[[slice], None], n: int) -> None:
        seen.append(n)
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(work, [slice(0)] * 3))

    expected = panels.score_genes(pair, list(METRICS))
    pd.testing.assert_frame_equal(panels.score_genes(pair, list(METRICS), in_threads=in_threads), expected)
    assert seen == [TRUTH.shape[1]]
    assert expected["pearson"].isna().tolist() == [False, True, False, False, False]


@pytest.fixture
def tissue() -> AnnData:
    """One section with coordinates and a prediction in `layers["bleep"]`."""
    adata = AnnData(TRUTH.astype(np.float32), layers={"bleep": PREDICTION.astype(np.float32)})
    adata.var_names = list("abcde")
    adata.obsm["spatial"] = GRID.astype(float)
    adata.uns["bleep"] = {"panels": {"two": np.array(["a", "b"], dtype=object)}}
    return adata


def added(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a record, which is all that a new metric takes beside its function."""
    monkeypatch.setitem(METRICS, metric.name, metric)  # type: ignore[arg-type]


def test_a_new_metric_of_genes_is_scored_drawn_and_named(tissue: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    def furthest(truth: np.ndarray, prediction: np.ndarray, grid: np.ndarray) -> np.ndarray:
        assert sorted(grid[:, ::-1].tolist()) == GRID.tolist()  # x is the column; spots come in the order of names
        return np.abs(prediction - truth).max(axis=0)

    label = "Largest error"
    added(Metric("furthest", label, furthest, needs=("grid",), best=0.0, zero_without_value=False), monkeypatch)
    bl.tl.evaluate(tissue, metrics=["furthest", "pearson"])
    expected = np.abs(tissue.layers["bleep"] - tissue.X).max(axis=0)
    np.testing.assert_allclose(tissue.var["bleep_furthest"], expected, rtol=1e-6)
    summary = tissue.uns["bleep_scores"]["summary"].set_index(["panel", "metric"])
    assert summary.loc[("two", "furthest"), "value"] == pytest.approx(expected[:2].mean())
    assert list(summary.loc["two"].index) == ["pearson", "furthest"], "in the order of the registry"
    fig = bl.pl.scores(tissue, layers="bleep", metric="furthest", return_fig=True)
    assert fig.get_suptitle() == "Largest error (lower is better)"
    fig = bl.pl.gene_scores(tissue, metric="furthest", return_fig=True)
    (ax,) = fig.axes
    assert ax.get_ylabel() == "Largest error (lower is better)"
    drawn = ax.get_lines()[1].get_ydata()
    np.testing.assert_allclose(drawn, np.sort(expected), rtol=1e-6, err_msg="best first: the smallest")
    with pytest.raises(ValueError, match=r"`metrics` must be some of 'pearson'.*'moran_agreement', 'furthest'; found"):
        bl.tl.evaluate(tissue, metrics=["nearest"])
    plt.close("all")


def test_a_new_metric_of_panels_is_scored_and_named(tissue: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    def shape(truth: Any, prediction: Any, moran: Any) -> float:
        return float(100 * truth.shape[1] + len(moran.truth))

    tissue.layers["bleep"][:, 0] = np.nan  # not predicted, so no metric of panels gets it
    added(Metric("shape", "Shape", shape, whole_panel=True, needs=("moran",)), monkeypatch)
    bl.tl.evaluate(tissue, metrics="shape")
    assert not [name for name in tissue.var if "shape" in name]
    summary = tissue.uns["bleep_scores"]["summary"].set_index("panel")["value"]
    assert summary.to_dict() == {"all": 404, "two": 101}
    assert bl.pl.scores(tissue, layers="bleep", metric="shape", return_fig=True).get_suptitle() == "Shape"
    del tissue.obsm["spatial"]
    bl.tl.evaluate(tissue, metrics="shape")
    assert tissue.uns["bleep_scores"]["summary"]["value"].isna().all()
    plt.close("all")


def test_no_metric_is_asked_for_by_name() -> None:
    """Where scores are made, a metric's name is only asked for to choose what a log shows first."""
    source = Path(bl.__file__).parent
    found = []
    for path in [*(source / "metrics").glob("*.py"), *(source / "tl").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and any(
                isinstance(each, ast.Constant) and each.value in METRICS for each in [node.left, *node.comparators]
            ):
                found.append((path.name, ast.unparse(node)))
    assert sorted(found) == [
        ("_evaluate.py", "'pearson' in metrics"),
        ("_evaluate.py", "'pearson_depth_free' in wide"),  # a column of the table that is logged
        ("scores.py", "'pearson' in names"),
    ]
