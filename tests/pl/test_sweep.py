import json
from collections.abc import Callable
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

import bleep_sc as bl

Labels = dict[str, tuple[dict[str, Any], list[float]]]
PANELS = {"all": 785, "HVG-50": 50}
DIMS: Labels = {
    "small": ({"method": "bleep", "dim": 16}, [0.1, 0.2]),
    "large": ({"method": "bleep", "dim": 64}, [0.2, 0.4]),
    "middle": ({"method": "bleep", "dim": 32}, [0.15, 0.5]),
    "ridge": ({"method": "ridge"}, [0.3, 0.45]),
}


def comparison(labels: Labels, **config: Any) -> dict[str, Any]:
    """What `cross_validate` stores."""
    rows = [
        {"method": label, "panel": panel, "metric": "pearson", "value": value, "low": value - 0.05, "high": value + 0.1}
        | {"n_genes": PANELS[panel], "interval_over": "patients", "scope": "across patients"}
        for label, (_, values) in labels.items()
        for panel, value in zip(PANELS, values, strict=True)
    ]
    told = {"k": None, "n_top_genes": 1000, "n_bootstrap": 50, "markers": [], **config}
    methods = {label: arguments for label, (arguments, _) in labels.items()}
    return {"summary": pd.DataFrame(rows), "config": json.dumps({**told, "methods": methods})}


@pytest.fixture
def swept() -> AnnData:
    adata = AnnData(np.zeros((2, 2), dtype=np.float32))
    adata.uns["cv"] = comparison(DIMS)
    return adata


def lines(ax: Axes) -> dict[str, Line2D]:
    """By name; a panel's own marks have none."""
    found = [line for line in ax.get_lines() if not str(line.get_label()).startswith("_")]
    return {str(line.get_label()): line for line in found}


def legend(fig: Any) -> list[str]:
    return [text.get_text() for text in fig.legends[0].get_texts()]


def test_scores_and_intervals_in_order_of_the_parameter(swept: AnnData, unchanged: Callable[..., None]) -> None:
    unchanged(swept)
    fig = bl.pl.sweep(swept, "dim", return_fig=True)
    assert [ax.get_title() for ax in fig.axes] == ["all\n785 genes", "HVG-50\n50 genes"]
    for ax, scores, floor in zip(fig.axes, ([0.1, 0.15, 0.2], [0.2, 0.5, 0.4]), (0.3, 0.45), strict=True):
        found = lines(ax)
        assert list(found) == ["bleep", "ridge"]
        np.testing.assert_allclose(found["bleep"].get_xdata(), [16, 32, 64])
        np.testing.assert_allclose(found["bleep"].get_ydata(), scores)
        np.testing.assert_allclose(found["ridge"].get_ydata(), [floor, floor])
        assert found["ridge"].get_linestyle() == "--"
        (intervals,) = ax.collections
        expected = [[(x, y - 0.05), (x, y + 0.1)] for x, y in zip([16, 32, 64], scores, strict=True)]
        np.testing.assert_allclose(intervals.get_segments(), expected)
        assert [label.get_text() for label in ax.get_xticklabels()] == ["16", "32", "64"]
        assert ax.get_xlabel() == "dim"
        assert ax.get_xscale() == "linear"
    assert legend(fig) == ["bleep", "ridge"]
    assert fig.get_suptitle() == "Pearson correlation, across patients"
    assert fig.get_supxlabel() == "Vertical lines: bootstrap intervals over patients."


def test_labels_that_differ_in_more_are_lines_of_their_own(swept: AnnData) -> None:
    labels: Labels = {
        f"{encoder} {dim}": ({"method": "bleep", "encoder": encoder, "dim": dim, "max_epochs": 2}, [dim / 1000, 0.1])
        for encoder in ("color", "resnet18")
        for dim in (10, 100)
    }
    labels["bleep"] = ({"method": "bleep"}, [0.3, 0.3])
    labels["st"] = ({"method": "stnet", "dim": 10}, [0.35, 0.35])
    swept.uns["cv"] = comparison(labels)
    fig = bl.pl.sweep(swept, "dim", panels="all", return_fig=True)
    names = ["bleep, encoder=color, max_epochs=2", "bleep, encoder=resnet18, max_epochs=2"]
    assert legend(fig) == ["bleep, encoder=color", "bleep, encoder=resnet18", "stnet", "bleep"], names
    found = lines(fig.axes[0])
    np.testing.assert_allclose(found["bleep, encoder=resnet18"].get_ydata(), [0.01, 0.1])
    np.testing.assert_allclose(found["stnet"].get_xdata(), [10])
    assert fig.axes[0].get_xscale() == "log"
    assert [label.get_text() for label in fig.axes[0].get_xticklabels()] == ["10", "100"]
    one = bl.pl.sweep(swept, "encoder", methods=["color 10", "resnet18 10"], return_fig=True)
    np.testing.assert_allclose(lines(one.axes[0])["bleep"].get_xdata(), [0, 1])
    assert [label.get_text() for label in one.axes[0].get_xticklabels()] == ["color", "resnet18"]


def test_what_has_no_score_in_one_panel_is_drawn_in_the_others(swept: AnnData) -> None:
    table = swept.uns["cv"]["summary"]
    swept.uns["cv"]["summary"] = table[(table["method"] != "ridge") | (table["panel"] != "all")]
    swept.uns["cv_again"] = swept.uns["cv"]
    fig = bl.pl.sweep(swept, "dim", key=["cv", "cv_again"], return_fig=True)
    assert [list(lines(ax)) for ax in fig.axes] == [["bleep"], ["bleep", "ridge"]]
    assert legend(fig) == ["bleep", "ridge"]


def test_a_parameter_of_the_comparison_is_varied_between_comparisons(swept: AnnData) -> None:
    for k in (50, 5):
        labels: Labels = {"bleep": ({"method": "bleep"}, [k / 100, 0.2]), "mean": ({"method": "mean"}, [0.0, 0.0])}
        swept.uns[f"cv_{k}"] = comparison(labels, k=k, n_bootstrap=k)
    swept.uns["cv"] = comparison({"bleep": ({"method": "bleep"}, [0.4, 0.3])})
    fig = bl.pl.sweep(swept, "k", key=["cv_50", "cv_5", "cv"], return_fig=True)
    found = lines(fig.axes[0])
    assert list(found) == ["bleep", "mean", "bleep (k not set)"]
    np.testing.assert_allclose(found["bleep"].get_xdata(), [5, 50])
    np.testing.assert_allclose(found["bleep"].get_ydata(), [0.05, 0.5])
    np.testing.assert_allclose(found["bleep (k not set)"].get_ydata(), [0.4, 0.4])


@pytest.mark.slow
def test_of_a_real_comparison() -> None:
    tissue = bl.datasets.toy(n_patients=2, n_sections=1, n_spots=40, n_genes=40)
    told = {f"{n} components": {"method": "ridge", "n_components": n} for n in (1, 5)}
    bl.tl.cross_validate(
        tissue, library_key="section", methods=["mean", *told], method_kwargs=told, metrics=["pearson"], n_bootstrap=0
    )
    fig = bl.pl.sweep(tissue, "n_components", panels="all", return_fig=True)
    summary = tissue.uns["cv"]["summary"].query("panel == 'all'").set_index("method")["value"]
    np.testing.assert_allclose(lines(fig.axes[0])["ridge"].get_ydata(), summary[list(told)])
    np.testing.assert_allclose(lines(fig.axes[0])["mean"].get_ydata(), [summary["mean"]] * 2)
    assert fig.get_supxlabel() == "No interval could be given."


@pytest.mark.parametrize("n_panels", [1, 2])
def test_nothing_is_cut_off_in_the_dark(swept: AnnData, n_panels: int) -> None:
    labels: Labels = {
        f"{name} {dim}": ({"method": "bleep", "encoder": name, "dim": dim}, [0.1, 0.2])
        for name in ("timm:a_network_of_a_long_name_$1$", "color")
        for dim in (1, 2, 4, 8, 1024, 2048)
    }
    swept.uns["cv"] = comparison(labels)
    with plt.style.context("dark_background"):
        swept.uns["cv"]["summary"]["metric"] = "pearson_depth_free"
        fig = bl.pl.sweep(swept, "dim", metric="pearson_depth_free", panels=list(PANELS)[:n_panels], return_fig=True)
        fig.canvas.draw()
    box, title = fig.legends[0].get_window_extent(), fig._suptitle.get_window_extent()
    assert title.x1 <= fig.bbox.x1
    assert title.y0 >= box.y1
    assert box.x1 <= fig.bbox.x1 + 1
    assert fig.axes[-1].get_window_extent().x1 <= box.x0
    assert fig.axes[0].get_window_extent().width > 100
    assert fig.axes[0].xaxis.label.get_window_extent().y0 >= 0


def test_shows_unless_it_returns(swept: AnnData, check_show: Callable[..., None]) -> None:
    check_show(partial(bl.pl.sweep, swept, "dim"))


@pytest.mark.odd
def test_bad_input(swept: AnnData) -> None:
    with pytest.raises(KeyError, match=r"adata\.uns\['x'\].*tl\.cross_validate"):
        bl.pl.sweep(swept, "dim", key="x")
    with pytest.raises(ValueError, match=r"`key` names no comparison"):
        bl.pl.sweep(swept, "dim", key=[])
    with pytest.raises(ValueError, match=r"`metric` must be one of 'pearson', found 'rmse'"):
        bl.pl.sweep(swept, "dim", metric="rmse")
    with pytest.raises(ValueError, match=r"`panels` must be one of"):
        bl.pl.sweep(swept, "dim", panels="HVG-9")
    with pytest.raises(ValueError, match=r"`methods` must be one of"):
        bl.pl.sweep(swept, "dim", methods="x")
    with pytest.raises(ValueError, match=r"'dims'` was not varied in 'cv': no method sets it\. Varied were 'dim'\."):
        bl.pl.sweep(swept, "dims")
    with pytest.raises(ValueError, match=r"'n_top_genes'` was not varied in 'cv': its only value is 1000\."):
        bl.pl.sweep(swept, "n_top_genes")
    with pytest.raises(ValueError, match=r"'dim'` was not varied in 'cv': its only value is 16\."):
        bl.pl.sweep(swept, "dim", methods=["small", "ridge"])
    swept.uns["bleep_scores"] = {"summary": swept.uns["cv"]["summary"]}
    with pytest.raises(KeyError, match=r"\['bleep_scores'\]\['config'\].*tl\.cross_validate"):
        bl.pl.sweep(swept, "dim", key="bleep_scores")
    assert not plt.get_fignums()
