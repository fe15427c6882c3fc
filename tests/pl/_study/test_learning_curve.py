from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.axes import Axes

import bleep_sc as bl

SIZES = [32, 64, 128, 512]
VALUES = {"all": [0.1, 0.15, 0.18, 0.2], "HVG-50": [0.2, 0.3, 0.35, 0.4]}
GAINS = {"all": ("little or nothing", 0.002), "HVG-50": ("gain", 0.04)}


def learned(**forecast: Any) -> dict[str, Any]:
    """What `learning_curve` stores: two sections, one below the mean by .05 and one above."""
    rows = [
        {"panel": panel, "metric": "pearson", "size": size, "value": value}
        for panel, values in VALUES.items()
        for size, value in zip(SIZES, values, strict=True)
    ]
    told = {"n_genes": 50, "scope": "across patients", "interval_over": "patients", "ceiling": 0.62}
    answers = [
        {"panel": panel, "metric": "pearson", "question": "twice the spots", "size_from": 600, "size_to": 1200}
        | {"gain": gain, "low": gain - 0.01, "high": gain + 0.02, "verdict": verdict}
        | {"answer": f"{verdict}: {gain:+.3f}"}
        for panel, (verdict, gain) in GAINS.items()
    ]
    law = [
        {"panel": panel, "metric": "pearson", "size": size, "value": values[-1] + 0.1 * np.log2(size / 512)}
        for panel, values in VALUES.items()
        for size in (32, 600, 1200)
    ]
    seconds = {"seconds_fit": 2.0, "seconds_predict": 0.5, "seconds_search": 0.01}
    return {
        "summary": pd.DataFrame({**row, **told, "low": row["value"] - 0.1, "high": row["value"] + 0.2} for row in rows),
        "scores": pd.DataFrame(
            {**row, "value": row["value"] + off, "section": section}
            for section, off in (("a", -0.05), ("b", 0.05))
            for row in rows
        ),
        "forecast": pd.DataFrame(answers).assign(**forecast),
        "law": pd.DataFrame(law),
        "cost": pd.DataFrame({"size": size, **seconds, "mb_reference": size / 100} for size in SIZES),
    }


@pytest.fixture
def curve() -> AnnData:
    adata = AnnData(np.zeros((2, 2), dtype=np.float32))
    adata.uns["learning_curve"] = learned()
    return adata


def points(ax: Axes, label: str) -> np.ndarray:
    (line,) = [line for line in ax.get_lines() if line.get_label() == label]
    return np.asarray(line.get_xydata())


def test_scores_sections_and_forecast(curve: AnnData, unchanged: Callable[..., None]) -> None:
    unchanged(curve)
    fig = bl.pl.learning_curve(curve, return_fig=True)
    assert fig is not None
    for ax, (panel, values) in zip(fig.axes, VALUES.items(), strict=False):
        assert ax.get_title() == f"{panel}\n50 genes, ceiling 0.62"
        np.testing.assert_allclose(points(ax, "mean"), np.column_stack([SIZES, values]))
        intervals, forecast = ax.collections
        np.testing.assert_allclose(
            intervals.get_segments(), [[(x, y - 0.1), (x, y + 0.2)] for x, y in zip(SIZES, values, strict=True)]
        )
        sections = [line.get_ydata() for line in ax.get_lines() if line.get_label() == "_section"]
        np.testing.assert_allclose(sections, [np.array(values) - 0.05, np.array(values) + 0.05])
        start, gain = values[-1] + 0.1 * np.log2(600 / 512), GAINS[panel][1]
        np.testing.assert_allclose(points(ax, "twice the spots"), [[1200, start + gain]])
        np.testing.assert_allclose(
            forecast.get_segments(), [[(1200, start + gain - 0.01), (1200, start + gain + 0.02)]]
        )
        assert ax.get_xlabel() == "spots trained on"
        assert ax.get_xscale() == "log"
    assert fig.get_suptitle() == "Pearson correlation by size of the reference, across patients"
    notes = fig.get_supxlabel().replace("\n   ", " ")
    assert "95 % intervals over patients" in notes
    assert "twice the spots (600 to 1200), HVG-50: gain: +0.040" in notes
    seconds, memory = fig.axes[2:]
    assert [text.get_text() for text in seconds.get_legend().get_texts()] == ["fit", "predict", "search in it"]
    np.testing.assert_allclose(memory.get_lines()[0].get_xydata(), [[size, size / 100] for size in SIZES])


def test_what_cannot_be_told_is_said_and_not_drawn(curve: AnnData) -> None:
    curve.uns["learning_curve"] = learned(verdict="cannot be told", answer="cannot be told: too few")
    fig = bl.pl.learning_curve(curve, panels="all", cost=False, return_fig=True)
    assert fig is not None
    (ax,) = fig.axes
    assert "twice the spots" not in [line.get_label() for line in ax.get_lines()]
    assert points(ax, "power law")[:, 0].max() <= 512
    assert "twice the spots (600 to 1200), all: cannot be told: too few" in fig.get_supxlabel().replace("\n  ", "")


def test_no_interval_and_no_law(curve: AnnData) -> None:
    entry = learned(verdict="cannot be told", gain=np.nan, low=np.nan, high=np.nan)
    entry["summary"] = entry["summary"].assign(low=np.nan, high=np.nan, interval_over="")
    entry["law"], entry["cost"] = entry["law"].iloc[:0], entry["cost"].assign(seconds_search=np.nan)
    curve.uns["learning_curve"] = entry
    fig = bl.pl.learning_curve(curve, return_fig=True)
    assert fig is not None
    assert "No interval could be given." in fig.get_supxlabel()
    assert [text.get_text() for text in fig.axes[2].get_legend().get_texts()] == ["fit", "predict"]


def test_shown_unless_returned(curve: AnnData, check_show: Callable[..., None]) -> None:
    check_show(lambda **arguments: bl.pl.learning_curve(curve, **arguments))


@pytest.mark.odd
@pytest.mark.parametrize("name", ["summary", "scores", "forecast", "law", "cost"])
def test_a_damaged_table_is_named(curve: AnnData, name: str, unchanged: Callable[..., None]) -> None:
    whole = learned()
    damaged: list[Any] = ["x", whole[name].drop(columns="size_from" if name == "forecast" else "size")]
    for table in damaged:
        curve.uns["learning_curve"] = {**whole, name: table}
        with pytest.raises(ValueError, match=r"`adata\.uns\['learning_curve'\]` is damaged.*tl\.learning_curve"):
            bl.pl.learning_curve(curve, show=False)
    del curve.uns["learning_curve"][name]
    with pytest.raises(KeyError, match=rf"\['{name}'\]` does not exist.*tl\.learning_curve"):
        bl.pl.learning_curve(curve, show=False)
