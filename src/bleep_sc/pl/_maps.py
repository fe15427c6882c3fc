"""Lay out maps of expression on a page, with their colour bars: a gene in a row, or several genes across."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bleep_sc.pl._tissue import Section

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import EllipseCollection
    from matplotlib.figure import Figure

_GENES_IN_A_LINE = 6
_ALONE, _AMONG_OTHERS = 3.6, 2.3
"""Width of a map in inches, with its colour bar: of one gene alone, and of one gene among others."""
_PICTURE = 1.6
"""How much wider the picture is than a map of one gene among others, beside which it has several rows of them."""


@dataclass(frozen=True)
class Page:
    """The empty axes of a figure: for each section one for its picture, and for each of its genes one a map."""

    fig: "Figure"
    pictures: "list[Axes | None]"
    maps: "list[list[list[Axes]]]"
    """By section, gene and kind of map."""
    leftmost: frozenset[int]
    """The genes whose maps stand first in a line."""
    picture_width: float
    """Of the widest picture, in inches."""

    @property
    def picture_pixels(self) -> int:
        """How many pixels of width a picture has on the screen or in a file, whichever shows more."""
        from matplotlib import rcParams

        saved = rcParams["savefig.dpi"]
        return math.ceil(self.picture_width * max(self.fig.dpi, 0 if saved == "figure" else saved))


def page_for(sections: Sequence[Section], *, n_genes: int, n_kinds: int, pictures: bool) -> Page:
    """Make the figure: a row for each section, with its picture first.

    The maps of one gene alone stand beside one another. Those of several genes stand below one another, each gene in a
    column of its own.
    """
    sizes = np.array([np.diff(section.window, axis=0)[0] for section in sections])
    aspect = float(np.clip((sizes[:, 1] / sizes[:, 0]).max(), 0.4, 2))
    if n_genes == 1:
        return _row_of_one_gene(len(sections), n_kinds=n_kinds, pictures=pictures, aspect=aspect)
    return _genes_across(len(sections), n_genes=n_genes, n_kinds=n_kinds, pictures=pictures, aspect=aspect)


def _row_of_one_gene(n_sections: int, *, n_kinds: int, pictures: bool, aspect: float) -> Page:
    import matplotlib.pyplot as plt

    shape = (n_sections, pictures + n_kinds)
    figsize = (_ALONE * shape[1], (0.5 + 2.9 * aspect) * n_sections)
    fig, axes = plt.subplots(*shape, figsize=figsize, squeeze=False, layout="constrained")
    firsts = [row[0] if pictures else None for row in axes]
    return Page(fig, firsts, [[list(row[pictures:])] for row in axes], frozenset([0]), _ALONE)


def _genes_across(n_sections: int, *, n_genes: int, n_kinds: int, pictures: bool, aspect: float) -> Page:
    import matplotlib.pyplot as plt

    lines = math.ceil(n_genes / _GENES_IN_A_LINE)
    across = math.ceil(n_genes / lines)  # lines are as long as one another
    widths = [_PICTURE] * pictures + [1.0] * across
    height = lines * (0.45 + (_AMONG_OTHERS - 0.45) * aspect * n_kinds)
    fig = plt.figure(figsize=(_AMONG_OTHERS * sum(widths) + 0.3, height * n_sections), layout="constrained")
    grid = fig.add_gridspec(n_sections * lines * n_kinds, len(widths), width_ratios=widths)
    firsts: list[Axes | None] = []
    maps = []
    for section in range(n_sections):
        top = section * lines * n_kinds
        firsts.append(fig.add_subplot(grid[top : top + n_kinds, 0]) if pictures else None)
        of_section = []
        for gene in range(n_genes):
            line, column = divmod(gene, across)
            rows = range(top + line * n_kinds, top + (line + 1) * n_kinds)
            of_section.append([fig.add_subplot(grid[row, pictures + column]) for row in rows])
        maps.append(of_section)
    return Page(fig, firsts, maps, frozenset(range(0, n_genes, across)), _PICTURE * _AMONG_OTHERS)


def draw_colour_bars(
    fig: "Figure",
    panels: "Sequence[Axes]",
    spots: "Sequence[EllipseCollection]",
    *,
    names: Sequence[str],
    shared: bool,
) -> None:
    """Draw a colour bar for each scale of a gene: one for all its maps of expression together where they share it.

    Maps without any value get none.
    """
    from matplotlib.ticker import MaxNLocator

    groups = [[panel] for panel in range(len(panels))]
    if shared:
        of_expression = [panel for panel, name in enumerate(names) if name != "difference"]
        groups = [of_expression, [panel for panel in range(len(panels)) if panel not in of_expression]]
    for group in groups:
        with_values = [spots[panel] for panel in group if np.isfinite(np.asarray(spots[panel].get_array())).any()]
        if with_values:
            beside = [panels[panel] for panel in group]
            bar = fig.colorbar(with_values[0], ax=beside, shrink=0.8, fraction=0.06, pad=0.03, aspect=18 * len(beside))
            bar.locator = MaxNLocator(4, steps=[1, 2, 5, 10])
            bar.ax.tick_params(labelsize="small")
            bar.outline.set_visible(False)
