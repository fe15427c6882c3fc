"""What `pl.calibration` and the bounds of `pl.imputed` draw."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import bleep_sc as bl

LEVELS = [0.5, 0.8, 0.9, 0.95]


@pytest.fixture
def ref() -> AnnData:
    """A table as `tl.calibrate` writes it: the coverage is the level, less .01 for each group, less .05 for HEG."""
    adata = AnnData(np.zeros((4, 2), dtype=np.float32))
    rows = [
        (group, 10 * (number + 1), panel, level, level - 0.01 * number - less)
        for number, group in enumerate(("P1", "_P2", "P$3$"))
        for level in LEVELS
        for panel, less in (("all", 0.0), ("HEG", 0.05), ("own top tenth", 0.3))
    ]
    table = pd.DataFrame(rows, columns=["group", "n_spots", "panel", "level", "coverage"])
    adata.uns["bleep"] = {"coverage": table, "scope": "across 3 patients"}
    return adata


def draw(ref: AnnData, **how: Any) -> Any:
    return bl.pl.calibration(ref, return_fig=True, **how)


def test_a_line_for_each_patient(ref: AnnData, unchanged: Callable[..., None]) -> None:
    unchanged(ref)
    fig = draw(ref)
    left, right = fig.axes
    diagonal, *lines = left.get_lines()
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    assert len(lines) == 3
    for number, line in enumerate(lines):
        np.testing.assert_allclose(line.get_xdata(), LEVELS)
        np.testing.assert_allclose(line.get_ydata(), np.array(LEVELS) - 0.01 * number)
    legend = [text.get_text().strip("\N{ZERO WIDTH SPACE}") for text in left.get_legend().get_texts()]
    assert legend == ["as promised", "P1", "_P2", "P$3$"]
    assert fig.get_suptitle() == "Held-out tissue, tested across 3 patients"
    assert [tick.get_text() for tick in right.get_yticklabels()][::-1] == [
        "P1 (10 spots)",
        "_P2 (20 spots)",
        "P$3$ (30 spots)",
    ]


@pytest.mark.parametrize("scope", ["on 3 sections of one patient", "on 3 sections of unknown patients", ""])
def test_the_diagonal_promises_nothing_without_patients(ref: AnnData, scope: str) -> None:
    ref.uns["bleep"]["scope"] = scope
    diagonal = draw(ref).axes[0].get_legend().get_texts()[0]
    assert diagonal.get_text() == "if the bounds held exactly"


@pytest.mark.parametrize(("wanted", "taken"), [(0.9, 0.9), (0.6, 0.5), (0.999, 0.95)])
def test_panels_at_the_nearest_level(ref: AnnData, wanted: float, taken: float) -> None:
    right = draw(ref, level=wanted).axes[1]
    promised, *panels = right.get_lines()
    assert set(np.ravel(promised.get_xdata())) == {taken}
    for line, less in zip(panels, (0.0, 0.05, 0.3), strict=True):
        np.testing.assert_allclose(line.get_xdata(), taken - less - 0.01 * np.arange(3))
    assert right.get_xlabel() == f"Measured values within, level {taken:g}"


def test_many_groups_stay_legible(ref: AnnData) -> None:
    table = ref.uns["bleep"]["coverage"].query("group == 'P1'")
    ref.uns["bleep"]["coverage"] = pd.concat([table.assign(group=f"section {i}") for i in range(40)])
    fig = draw(ref)
    fig.canvas.draw()
    labels = [label.get_window_extent() for label in fig.axes[1].get_yticklabels()]
    assert not any(a.overlaps(b) for a, b in pairwise(labels))


@pytest.mark.odd
def test_what_is_not_calibrated(ref: AnnData) -> None:
    with pytest.raises(KeyError, match=r"ref\.uns\['no'\]\['coverage'\]` does not exist.*calibrate\(ref\)"):
        draw(ref, key="no")
    with pytest.raises(ValueError, match=r"`level`"):
        draw(ref, level=0)
    for damaged in (3, pd.DataFrame({"group": ["a"]}), ref.uns["bleep"]["coverage"].assign(level="high")):
        ref.uns["bleep"]["coverage"] = damaged
        with pytest.raises(ValueError, match=r"\['coverage'\]` is damaged.*calibrate"):
            draw(ref)


def test_bounds_beside_the_imputed_map(calibrated: tuple[AnnData, AnnData]) -> None:
    ref, query = calibrated
    with pytest.raises(KeyError, match=r"layers\['bleep_lower'\]` does not exist.*key_added='bleep'"):
        bl.pl.imputed(query, "g1", interval=True, return_fig=True)
    bl.tl.intervals(query, ref, key_added="bleep")
    fig: Any = bl.pl.imputed(query, "g1", interval=True, return_fig=True)
    drawn = {ax.get_title(): ax for ax in fig.axes if ax.get_title()}
    assert list(drawn) == [
        "g1, measured",
        "g1, imputed",
        "g1, lower bound",
        "g1, upper bound",
        "g1, imputed − measured",
    ]
    scales = {title: ax.collections[0].get_clim() for title, ax in drawn.items()}
    assert len({scales[title] for title in list(drawn)[:4]}) == 1, "equal colours are equal expression"
    column = query.var_names.get_loc("g1")
    for end in ("lower", "upper"):
        values = np.asarray(drawn[f"g1, {end} bound"].collections[0].get_array())
        np.testing.assert_allclose(np.sort(values), np.sort(query.layers[f"bleep_{end}"][:, column]), rtol=1e-6)
