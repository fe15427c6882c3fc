from itertools import combinations
from pathlib import Path
from typing import Any

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

import bleep_sc as bl

# panel: its number of genes and its noise ceiling
PANELS = {"all": (785, 0.3), "HEG-50": (50, 0.7), "HVG-50": (50, 0.5), "HVG-200": (200, 0.45), "markers": (1, 0.6)}
# method: its value in each of these panels
VALUES = {
    "mean": [0.0, 0.0],
    "bleep": [0.2, 0.5],
    "ridge (colour)": [0.15, 0.3],
    "stnet": [0.1, 0.55],
    "counts": [0.05, 0.4],
    "knn": [0.12, -0.1],
}


def make_summary(values: dict[str, list[float]], *, metric: str = "pearson", folds: bool = True) -> pd.DataFrame:
    """What `cross_validate` stores, or, without folds, `evaluate`."""
    rows: list[dict[str, Any]] = []
    for method, numbers in values.items():
        for (panel, (n_genes, ceiling)), value in zip(PANELS.items(), numbers, strict=False):
            ceiling = ceiling if metric == "pearson" else np.nan
            row = {"method": method, "panel": panel, "metric": metric, "value": value}
            row |= {"low": value - 0.04, "high": value + 0.06, "interval_over": "patients"}
            row |= {"ceiling": ceiling, "share_of_ceiling": value / ceiling, "n_genes": n_genes}
            row |= {"n_missing": 0, "n_constant_truth": 0, "n_constant_prediction": 0}
            row |= {"n_sections": 6, "n_patients": 3}
            if folds:
                row |= {"scope": "across patients", "normalisation": "inside the folds"}
                row |= {"uses_query_counts": method == "counts"}
            rows.append(row)
    table = pd.DataFrame(rows)
    table.index = table.index.astype(str)
    return table


def holding(summary: pd.DataFrame, key: str = "cv") -> AnnData:
    adata = AnnData(np.zeros((2, 2), dtype=np.float32))
    adata.uns[key] = {"summary": summary}
    return adata


@pytest.fixture
def summary() -> pd.DataFrame:
    return make_summary(VALUES)


def lines(ax: Axes, label: str) -> list[Line2D]:
    return [line for line in ax.get_lines() if line.get_label() == label]


def places(ax: Axes, label: str) -> list[float]:
    """Where the vertical lines of this name stand."""
    for line in lines(ax, label):
        assert line.get_xdata()[0] == line.get_xdata()[1]
    return [float(line.get_xdata()[0]) for line in lines(ax, label)]


def names(fig: Figure) -> list[str]:
    """The names of the rows, from the top."""
    ax = fig.axes[0]
    bottom, top = ax.get_ylim()
    assert bottom > top
    return [label.get_text() for _, label in sorted(zip(ax.get_yticks(), ax.get_yticklabels(), strict=True))]


def numbers(ax: Axes, n: int) -> list[str]:
    """What is printed at the right of each row."""
    at = {text.xy[1]: text.get_text() for text in ax.texts if hasattr(text, "xy")}
    return [at[row] for row in range(n)]


def note(fig: Figure) -> str:
    """The footnote, its lines joined."""
    return " ".join(fig.get_supxlabel().split())


def shown(fig: Figure) -> list[Text]:
    """All text that a reader sees."""
    texts = [*fig.texts, *fig.axes[0].get_yticklabels()]
    for ax in fig.axes:
        ticks = zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)
        low, high = ax.get_xlim()
        texts += [ax.title, *ax.texts, *(label for at, label in ticks if low <= at <= high)]
    return texts


def cut_off(fig: Figure) -> list[str]:
    """Text that reaches beyond the figure."""
    boxes = [(text.get_text(), text.get_window_extent()) for text in shown(fig)]
    return [text for text, box in boxes if min(box.x0, box.y0) < 0 or box.x1 > fig.bbox.x1 or box.y1 > fig.bbox.y1]


def test_values_intervals_and_order(summary: pd.DataFrame) -> None:
    fig = bl.pl.scores(holding(summary), return_fig=True)
    order = ["bleep", "ridge (colour)", "knn", "stnet", "counts", "mean"]
    assert names(fig) == [name + " *" if name == "counts" else name for name in order]
    assert [ax.get_title() for ax in fig.axes] == ["all\n785 genes", "HEG-50\n50 genes"]
    for column, ax in enumerate(fig.axes):
        for row, method in enumerate(order):
            (dot,) = lines(ax, method)
            value = VALUES[method][column]
            assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (value, row)
            interval = lines(ax, "interval")[row]
            np.testing.assert_allclose(interval.get_xdata(), [value - 0.04, value + 0.06])
            assert list(interval.get_ydata()) == [row, row]
    assert numbers(fig.axes[0], 6) == ["0.200", "0.150", "0.120", "0.100", "0.050", "0.000"]
    assert numbers(fig.axes[1], 6)[2] == "−0.100"


def test_reference_lines_and_what_they_are_called(summary: pd.DataFrame) -> None:
    fig = bl.pl.scores(holding(summary), return_fig=True)
    for ax, floor, ceiling in zip(fig.axes, (0.15, 0.4), (0.3, 0.7), strict=True):
        assert places(ax, "best floor") == [floor]
        assert places(ax, "noise ceiling") == [ceiling]
        assert lines(ax, "best floor")[0].get_linestyle() == "--"
        assert lines(ax, "noise ceiling")[0].get_linestyle() == ":"
        texts = [text.get_text() for text in ax.texts]
        assert f"best floor {floor:.3f}" in texts
        assert f"ceiling {ceiling:.3f}" in texts
    assert "the best floor, ridge (colour) in all, counts * in HEG-50." in note(fig)
    for method in VALUES:
        (dot,) = lines(fig.axes[0], method)
        hollow = dot.get_markerfacecolor() != dot.get_color()
        assert hollow == (method not in ("bleep", "stnet")), method


def test_title_and_footnote(summary: pd.DataFrame) -> None:
    fig = bl.pl.scores(holding(summary), return_fig=True)
    assert fig.get_suptitle() == "Pearson correlation, across patients"
    for words in (
        "Mean over 6 sections of 3 patients; normalised inside the folds;",
        "bootstrap interval over patients.",
        "Hollow: floors",
        "Dotted: noise ceiling",
        "* uses the measured counts of the very spots",
    ):
        assert words in note(fig)
    assert "no score" not in note(fig)

    within = summary[summary["method"].isin(["bleep", "stnet"])].copy()
    within[["low", "high", "ceiling"]] = np.nan
    within = within.assign(interval_over="", scope="within-patient", normalisation="outside the folds", n_patients=1)
    fig = bl.pl.scores(holding(within), return_fig=True)
    assert fig.get_suptitle() == "Pearson correlation, within-patient"
    assert "of 1 patient; normalised outside the folds; no interval could be given. Within-patient: the" in note(fig)
    for words in ("bootstrap", "Hollow", "Dashed", "Dotted", "*"):
        assert words not in note(fig)
    assert not places(fig.axes[0], "best floor")
    assert not places(fig.axes[0], "noise ceiling")


def test_what_is_missing_keeps_its_row(summary: pd.DataFrame) -> None:
    summary.loc[summary["method"] == "bleep", ["value", "low", "high"]] = np.nan
    summary = summary[(summary["method"] != "stnet") | (summary["panel"] != "HEG-50")]
    other = make_summary({"only rmse": [1.0, 1.0]}, metric="rmse")
    adata = holding(pd.concat([summary, other]))
    fig = bl.pl.scores(adata, return_fig=True)
    assert names(fig) == ["ridge (colour)", "knn", "stnet", "counts *", "mean", "bleep", "only rmse"]
    assert numbers(fig.axes[0], 7)[5:] == ["–", "–"]
    assert [row for row, text in enumerate(numbers(fig.axes[1], 7)) if text == "–"] == [2, 5, 6]
    assert "–: no score." in note(fig)
    only = bl.pl.scores(adata, methods="only rmse", floors=(), return_fig=True)
    assert numbers(only.axes[0], 1) == ["–"]
    only.canvas.draw()
    fig = bl.pl.scores(adata, methods="stnet", return_fig=True)
    assert [numbers(ax, 1) for ax in fig.axes] == [["0.100"], ["–"]]
    assert "–: no score." in note(fig)


def test_chosen_panels_methods_and_floors(summary: pd.DataFrame) -> None:
    adata = holding(summary)
    fig = bl.pl.scores(adata, panels=["HEG-50", "all"], methods=["bleep", "stnet"], ceiling=False, return_fig=True)
    assert [ax.get_title().split("\n")[0] for ax in fig.axes] == ["HEG-50", "all"]
    assert names(fig) == ["stnet", "bleep"]
    # the floor is a reference even where it has no row
    assert [places(ax, "best floor") for ax in fig.axes] == [[0.4], [0.15]]
    assert "Hollow" not in note(fig)
    assert "* uses the measured counts" in note(fig)
    assert not any(places(ax, "noise ceiling") for ax in fig.axes)
    assert "ceiling" not in note(fig)
    fig = bl.pl.scores(adata, panels="all", floors="stnet", return_fig=True)
    assert places(fig.axes[0], "best floor") == [0.1]
    assert not places(bl.pl.scores(adata, floors=(), return_fig=True).axes[0], "best floor")


def test_a_floor_is_known_by_what_its_name_begins_with() -> None:
    values = {"meaning": [0.9], "knn_20": [0.2], "ridge: 8 components": [0.3], "bleep": [0.1], "ridges": [0.8]}
    fig = bl.pl.scores(holding(make_summary(values)), return_fig=True)
    assert places(fig.axes[0], "best floor") == [0.3]


@pytest.mark.parametrize(
    ("metric", "values", "order", "floor", "title"),
    [
        (
            "rmse",
            {"bleep": [1.2], "mean": [1.0], "knn": [1.5]},
            ["mean", "bleep", "knn"],
            1.0,
            "RMSE (lower is better)",
        ),
        (
            *("variance_ratio", {"bleep": [1.3], "mean": [0.0], "knn": [0.8]}, ["knn", "bleep", "mean"], 0.8),
            "Variance, predicted to measured (best is 1)",
        ),
        (
            *("moran_difference", {"bleep": [-0.1], "mean": [-0.5], "knn": [0.2]}, ["bleep", "knn", "mean"], 0.2),
            "Difference of Moran's I (lower is better)",
        ),
        ("my_metric", {"bleep": [0.1], "mean": [0.0], "knn": [0.2]}, ["knn", "bleep", "mean"], 0.2, "my_metric"),
    ],
)
def test_better_is_not_always_more(
    metric: str, values: dict[str, list[float]], order: list[str], floor: float, title: str
) -> None:
    fig = bl.pl.scores(holding(make_summary(values, metric=metric)), metric=metric, return_fig=True)
    assert names(fig) == order
    assert places(fig.axes[0], "best floor") == [floor]
    assert fig.get_suptitle() == f"{title}, across patients"


def test_layers_that_were_scored_one_by_one(tmp_path: Path) -> None:
    adata = AnnData(np.zeros((2, 2), dtype=np.float32))
    for layer, values in {"bleep": [0.2, 0.5], "cv_ridge": [0.1, 0.3], "foreign": [0.25]}.items():
        table = make_summary({layer: values}, folds=False)
        table["ceiling"] += 0.02 * (layer == "foreign")
        adata.uns[f"{layer}_scores"] = {"summary": table}
    adata.write_h5ad(tmp_path / "scored.h5ad")
    adata = ad.read_h5ad(tmp_path / "scored.h5ad")
    fig = bl.pl.scores(adata, layers=["bleep", "cv_ridge", "foreign"], return_fig=True)
    assert names(fig) == ["foreign", "bleep", "cv_ridge"]
    assert numbers(fig.axes[1], 3) == ["–", "0.500", "0.300"]
    assert [places(ax, "best floor") for ax in fig.axes] == [[0.1], [0.3]]
    assert places(fig.axes[0], "noise ceiling") == [0.3, 0.32]
    assert "ceiling 0.300–0.320" in [text.get_text() for text in fig.axes[0].texts]
    assert fig.get_suptitle() == "Pearson correlation"
    assert "folds" not in note(fig)
    assert names(bl.pl.scores(adata, layers="bleep", return_fig=True)) == ["bleep"]


def test_object_is_unchanged_and_shown_unless_returned(
    summary: pd.DataFrame, unchanged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    adata = holding(summary)
    unchanged(adata)
    calls: list[bool] = []
    monkeypatch.setattr(plt, "show", lambda: calls.append(True))
    assert bl.pl.scores(adata) is None
    assert len(calls) == 1
    assert bl.pl.scores(adata, show=False) is None
    assert isinstance(bl.pl.scores(adata, return_fig=True), Figure)
    assert len(calls) == 1


LONG = "bleep with UNI features, tuned on patients"


@pytest.mark.parametrize("style", ["default", "dark_background"])
@pytest.mark.parametrize(("n_methods", "n_panels"), [(1, 1), (2, 5), (15, 1), (15, 5)])
@pytest.mark.parametrize("font", [7.0, 14.0])
@pytest.mark.slow
def test_no_text_meets_another_or_is_cut_off(n_methods: int, n_panels: int, style: str, font: float) -> None:
    rng = np.random.default_rng(0)
    named = [LONG, "ridge", "mean", "counts", *(f"method {i}" for i in range(11))][:n_methods]
    table = make_summary({name: list(rng.uniform(-0.2, 0.6, size=n_panels)) for name in named})
    table.loc[table.index[-1], "value"] = np.nan
    with plt.style.context(style), plt.rc_context({"font.size": font, "axes.grid": True}):
        fig = bl.pl.scores(holding(table), floors=(LONG, "ridge", "mean", "method"), return_fig=True)
        fig.canvas.draw()
        boxes = [(text.get_text(), text.get_window_extent()) for text in shown(fig)]
        ground = plt.rcParams["figure.facecolor"]
    assert sum(text == LONG for text, _ in boxes) == 1
    for (one, a), (other, b) in combinations(boxes, 2):
        assert a.x1 < b.x0 or b.x1 < a.x0 or a.y1 < b.y0 or b.y1 < a.y0, f"{one!r} meets {other!r}"
    assert not cut_off(fig)
    for ax in fig.axes:
        values = [text.get_window_extent() for text in ax.texts if hasattr(text, "xy")]
        called = [text.get_window_extent() for text in ax.texts if not hasattr(text, "xy")]
        assert len(called) == 1 + len(places(ax, "best floor"))
        assert min(box.x0 for box in values) > ax.bbox.x1, "a number stands among the dots"
        assert min(box.x0 for box in called) >= ax.bbox.x0 - 1, "the name of a line leaves its panel"
        assert max(box.x1 for box in called) <= ax.bbox.x1 + 1, "the name of a line leaves its panel"
    for text in fig.axes[0].texts:
        assert abs(np.mean(to_rgb(text.get_color())) - np.mean(to_rgb(ground))) > 0.5


def test_a_long_footnote_and_title_are_broken_into_lines() -> None:
    long = [f"{letter} {LONG}" for letter in "abcde"]
    values = {name: [0.1 + 0.2 * (row == column) for column in range(5)] for row, name in enumerate(long)}
    metric = "a metric of somebody's own, with a name that fills more than one line of a narrow figure, and then some"
    table = make_summary(values, metric=metric)
    fig = bl.pl.scores(holding(table), metric=metric, floors=long, return_fig=True)
    fig.canvas.draw()
    assert not cut_off(fig)
    for name, panel in zip(long, PANELS, strict=True):
        assert f"{name} in {panel}" in note(fig)
    fig = bl.pl.scores(holding(table), metric=metric, methods=long[0], panels="all", return_fig=True)
    fig.canvas.draw()
    assert not cut_off(fig)


@pytest.mark.odd
def test_bad_input(summary: pd.DataFrame) -> None:
    adata = holding(summary)
    with pytest.raises(KeyError, match=r"uns\['x'\].*'cv'.*bleep_sc\.tl\.cross_validate"):
        bl.pl.scores(adata, key="x")
    with pytest.raises(KeyError, match=r"uns\['bleep_scores'\].*bleep_sc\.tl\.evaluate"):
        bl.pl.scores(adata, layers=["bleep"])
    adata.uns["old_scores"] = {"all": {"pearson": 0.1}}
    with pytest.raises(KeyError, match=r"uns\['old_scores'\]\['summary'\].*bleep_sc\.tl\.evaluate"):
        bl.pl.scores(adata, layers="old")
    with pytest.raises(ValueError, match=r"`metric` must be one of 'pearson', found 'rmse'"):
        bl.pl.scores(adata, metric="rmse")
    with pytest.raises(ValueError, match=r"`panels` must be one of 'all', 'HEG-50', found 'markers'"):
        bl.pl.scores(adata, panels=["all", "markers"])
    with pytest.raises(ValueError, match=r"`methods` must be one of 'mean', 'bleep', .* found 'ridge'"):
        bl.pl.scores(adata, methods="ridge")
    for empty in ("panels", "methods", "layers"):
        with pytest.raises(ValueError, match=rf"`{empty}` must name at least one"):
            bl.pl.scores(adata, **{empty: []})
    with pytest.raises(TypeError, match="AnnData"):
        bl.pl.scores(summary)
    assert not plt.get_fignums(), "a refused call left a figure behind"
