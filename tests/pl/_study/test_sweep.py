"""The plot of a sweep: a line, several lines or a map, what the folds chose, and the honest score."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import bleep_sc as bl
from bleep_sc.pl._study.sweep import _ticks

KS, TEMPERATURES = [1, 5, 20], [0.1, 1.0]
HONEST = {"all": 0.31, "HVG-50": 0.41}
VERDICT = "Cannot be told from this data: no setting differs."


def score(setting: dict[str, Any]) -> float:
    return 0.01 * setting.get("k", 0) + 0.1 * setting.get("temperature", 0)


def swept(values: dict[str, list[Any]], chosen: list[dict[str, Any]], *, interval: bool = True) -> AnnData:
    """What `tl.sweep` stores; a score is a hundredth of k, plus a tenth of the temperature."""
    settings: list[dict[str, Any]] = [{}]
    for name, each in values.items():
        settings = [{**setting, name: value} for setting in settings for value in each]
    rows: list[dict[str, Any]] = []
    for panel, honest in HONEST.items():
        named = [(str(setting), setting, score(setting)) for setting in settings]
        nothing = {name: "" if isinstance(each[0], str) else np.nan for name, each in values.items()}
        for method, setting, value in [("chosen by the folds", nothing, honest), *named]:
            rows.append(
                {**setting, "method": method, "panel": panel, "metric": "pearson", "value": value, "n_genes": 50}
                | {"low": value - 0.02 if interval else np.nan, "high": value + 0.03 if interval else np.nan}
                | {"interval_over": "patients" if interval else "", "scope": "across patients"}
            )
    table = pd.DataFrame([{"fold": f"P{i}", **each, "inner_value": 0.2} for i, each in enumerate(chosen)])
    adata = AnnData(np.zeros((2, 2), dtype=np.float32))
    config = json.dumps({"parameters": values, "metric": "pearson", "panel": "all"})
    adata.uns["sweep"] = {
        "summary": pd.DataFrame(rows),
        "chosen": table,
        "verdict": VERDICT,
        "config": config,
        "scores": pd.DataFrame(),
    }
    return adata


TWO = [{"k": 5, "temperature": 0.1}, {"k": 20, "temperature": 1.0}, {"k": 5, "temperature": 0.1}]


def rings(ax: Any) -> list[tuple[float, float]]:
    return [tuple(line.get_xydata()[0]) for line in ax.get_lines() if line.get_markersize() == 12]


def test_one_parameter_is_a_line(unchanged: Callable[..., None]) -> None:
    adata = swept({"k": KS}, [{"k": 5}, {"k": 20}, {"k": 5}])
    unchanged(adata)
    fig = bl.pl.sweep(adata, return_fig=True)
    ax = fig.axes[0]
    curve = next(line for line in ax.get_lines() if len(line.get_xdata()) == 3)
    np.testing.assert_allclose(curve.get_xdata(), KS)
    np.testing.assert_allclose(curve.get_ydata(), [0.01, 0.05, 0.2])
    np.testing.assert_allclose(sorted(rings(ax)), [(5, 0.05), (20, 0.2)])
    assert sorted(text.get_text() for text in ax.texts) == ["1", "2"]
    honest = next(line for line in ax.get_lines() if line.get_linestyle() == "--")
    np.testing.assert_allclose(honest.get_ydata(), HONEST["all"])
    assert ax.get_title() == "all\n50 genes; honest 0.310 [0.290, 0.340]"
    assert ax.get_xscale() == "log"
    assert VERDICT.split(":")[0] in fig.get_supxlabel().replace("\n", " ")
    assert "by how many of 3 folds" in fig.get_supxlabel().replace("\n", " ")


def test_two_parameters_are_a_map() -> None:
    fig = bl.pl.sweep(swept({"k": KS, "temperature": TEMPERATURES}, TWO), panels="HVG-50", return_fig=True)
    ax = fig.axes[0]
    (mesh,) = ax.collections
    np.testing.assert_allclose(np.asarray(mesh.get_array()).reshape(2, 3), [[0.02, 0.06, 0.21], [0.11, 0.15, 0.3]])
    assert sorted(rings(ax)) == [(1.5, 0.5), (2.5, 1.5)]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("k", "temperature")
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "5", "20"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0.1", "1"]
    assert ax.get_title() == "HVG-50\n50 genes; honest 0.410 [0.390, 0.440]"


def test_one_of_two_parameters_has_a_line_for_each_value_of_the_other() -> None:
    fig = bl.pl.sweep(swept({"k": KS, "temperature": TEMPERATURES}, TWO), "k", panels="all", return_fig=True)
    ax = fig.axes[0]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["temperature 0.1", "temperature 1"]
    np.testing.assert_allclose(sorted(rings(ax)), [(5, 0.06), (20, 0.3)])


def test_further_parameters_are_held_where_most_folds_have_them() -> None:
    chosen = [{**each, "predict": "hybrid"} for each in TWO]
    adata = swept({"k": KS, "temperature": TEMPERATURES, "predict": ["retrieval", "hybrid"]}, chosen)
    fig = bl.pl.sweep(adata, ["k", "temperature"], panels="all", return_fig=True)
    assert "predict=hybrid." in fig.get_supxlabel().replace("\n", " ")
    one = bl.pl.sweep(adata, "predict", panels="all", return_fig=True)
    assert "k=5, temperature=0.1. Of the folds, 1 chose otherwise." in one.get_supxlabel().replace("\n", " ")
    assert [label.get_text() for label in one.axes[0].get_xticklabels()] == ["retrieval", "hybrid"]
    with pytest.raises(ValueError, match="3 parameters were varied: name one or two of 'k', 'temperature', 'predict'"):
        bl.pl.sweep(adata)


def test_without_intervals_it_says_so() -> None:
    fig = bl.pl.sweep(swept({"k": KS}, [{"k": 5}], interval=False), panels="all", return_fig=True)
    assert "No interval could be given." in fig.get_supxlabel()
    assert fig.axes[0].get_title().endswith("honest 0.310")


def test_a_sweep_beside_a_comparison() -> None:
    adata = swept({"k": KS}, [{"k": 5}])
    adata.uns["mine"] = adata.uns.pop("sweep")
    assert bl.pl.sweep(adata, key="mine", return_fig=True).axes[0].get_xlabel() == "k"
    assert bl.pl.sweep(adata, "k", key="mine", return_fig=True).axes[0].get_xlabel() == "k"
    adata.uns["sweep"] = adata.uns["mine"]
    assert bl.pl.sweep(adata, "k", return_fig=True).axes[0].get_xlabel() == "k"


@pytest.mark.slow
def test_of_a_real_sweep() -> None:
    tissue = bl.datasets.toy(n_sections=1, n_spots=40, n_genes=40)
    scores = bl.tl.sweep(
        tissue, {"alpha": [1.0, 100.0]}, method="coordinates", library_key="section", metrics=["pearson"], n_bootstrap=0
    )
    fig = bl.pl.sweep(tissue, panels="all", return_fig=True)
    rows = scores[(scores["panel"] == "all")]
    curve = next(line for line in fig.axes[0].get_lines() if len(line.get_xdata()) == 2 and line.get_marker() == "o")
    np.testing.assert_allclose(curve.get_ydata(), rows.groupby("alpha")["value"].mean())
    assert f"honest {rows[rows['chosen']]['value'].mean():.3f}" in fig.axes[0].get_title()


def test_ticks_are_few_and_even() -> None:
    places = {float(k): float(k) for k in range(1, 21)}
    assert _ticks(places, on_log=False)[0] == list(range(1, 21, 2))
    on_log = _ticks(places, on_log=True)[0]
    assert on_log[0] == 1
    assert len(on_log) == 5


def test_shows_unless_it_returns(check_show: Callable[..., None]) -> None:
    check_show(partial(bl.pl.sweep, swept({"k": KS}, [{"k": 5}])))


@pytest.mark.odd
def test_bad_input() -> None:
    adata = swept({"k": KS}, [{"k": 5}])
    with pytest.raises(KeyError, match=r"adata\.uns\['x'\].*bleep_sc\.tl\.sweep"):
        bl.pl.sweep(adata, key="x")
    with pytest.raises(ValueError, match=r"`parameter` must be one of 'k', found 'dim'"):
        bl.pl.sweep(adata, "dim")
    with pytest.raises(ValueError, match=r"`metric` must be one of 'pearson'"):
        bl.pl.sweep(adata, metric="rmse")
    with pytest.raises(ValueError, match=r"`panels` must be one of"):
        bl.pl.sweep(adata, panels="HEG-9")
    with pytest.raises(ValueError, match=r"`methods`.*is a sweep, which is of one method"):
        bl.pl.sweep(adata, methods="bleep")
    adata.uns["cv"] = {"summary": pd.DataFrame()}
    with pytest.raises(ValueError, match=r"\['cv'\]` is no sweep: name the `parameter`"):
        bl.pl.sweep(adata, key="cv")
    adata.uns["sweep"]["config"] = "{"
    with pytest.raises(ValueError, match=r"adata\.uns\['sweep'\]` is damaged.*bleep_sc\.tl\.sweep"):
        bl.pl.sweep(adata)
    assert not plt.get_fignums()
