import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import check_readable
from bleep_sc._checks import MissingKeyError, check_in, check_key, check_number
from bleep_sc.pl._figure import errors_naming, finish, text_colour
from bleep_sc.pl._tissue import Section, draw_ground, draw_spots, sections_to_draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = ("way", "kind", "score", "standard_error", "n_spots")
_AXIS = {"expression": "Share of expression that colours explain", "tissue": "Share of spots on tissue"}
_GIVEN, _BEST, _OTHERS = "#d1495b", "#00798c", "0.55"
_TITLE_WIDTH, _NAME_WIDTH = 60, 60
_RINGS = 0.7


def alignment_check(
    adata: AnnData,
    *,
    key: str = _keys.ALIGNMENT_CHECK,
    library_key: str | None = None,
    library_id: str | Sequence[str] | None = None,
    img_key: str | None = "hires",
    size: float = 1.0,
    show: bool | None = None,
    return_fig: bool = False,
) -> "Figure | None":
    """Draw how well the given placement of the spots fits the image, compared with all other placements.

    The left side shows the spots on the picture of the section, as given. The right side shows the score of each
    placement: the given one in red, the best other one in blue, the rest in grey. Shifts by the same distance share a
    line. The grey band is chance: mean and standard deviation of placements that cannot be right. The bar of the best
    other placement is the standard error of its difference from the given one.

    Parameters
    ----------
    adata
        Spots, after :func:`~bleep_sc.pp.check_alignment`.
    key
        Key of the check in `uns`.
    library_key
        Column of `obs` with each spot's section.
    library_id
        Sections to draw; ``None`` draws all that were checked.
    img_key
        Picture of ``uns['spatial'][library_id]['images']``; ``None`` draws the spots alone.
    size
        Diameter of a ring, in spot diameters.
    show
        Whether to show the figure. ``None`` shows it unless it is returned.
    return_fig
        Return the figure.

    Returns
    -------
    ``None``, or the :class:`matplotlib.figure.Figure` if ``return_fig=True``.

    Raises
    ------
    KeyError
        :func:`~bleep_sc.pp.check_alignment` was not run, or no such column, section or picture.
    ValueError
        ``uns[key]`` is damaged, or there are several sections and no `library_key`.

    Examples
    --------
    >>> bl.pp.check_alignment(adata)  # doctest: +SKIP
    >>> bl.pl.alignment_check(adata)  # doctest: +SKIP
    """
    import matplotlib.pyplot as plt

    check_readable(adata)
    check_key("key", key)
    check_number("size", size, above=0)
    records: Any = adata.uns.get(key)
    if not isinstance(records, Mapping) or not records:
        msg = f"`adata.uns[{key!r}]` does not exist. `bleep_sc.pp.check_alignment(adata)` writes it."
        raise MissingKeyError(msg)
    sections = sections_to_draw(
        adata,
        library_key=library_key,
        library_id=library_id,
        img_key=img_key,
        size=size,
        of_all=str(next(iter(records))) if library_key is None and len(records) == 1 else None,
    )
    names = [section.name for section in sections]
    if names == [""]:
        msg = (
            f"`adata.uns[{key!r}]` tells of the sections {list(records)}, but no column says which spot is of which: "
            "name that column of `obs` by `library_key`."
        )
        raise ValueError(msg)
    for name in names:
        check_in(f"adata.uns[{key!r}]", name, records, remedy="`bleep_sc.pp.check_alignment` checks all sections.")
    tables = []
    for name in names:
        with errors_naming(f"adata.uns[{key!r}][{name!r}]", writer="check_alignment", room="pp"):
            tables.append(_read(records[name]))
    heights = [1.6 + 0.21 * max(8, table["line"].nunique()) for table in tables]
    fig, axes = plt.subplots(
        len(sections),
        2,
        figsize=(10.5, sum(heights)),
        squeeze=False,
        layout="constrained",
        width_ratios=[1, 1.1],
        height_ratios=heights,
    )
    for (left, right), section, name, table in zip(axes, sections, names, tables, strict=True):
        _draw_spots(left, section, name)
        _draw_scores(right, table, records[name])
    return finish(fig, show=show, return_fig=return_fig)


def _read(record: Mapping[str, Any]) -> pd.DataFrame:
    """Read the table of a section, with the line that each way is drawn on."""
    table = pd.DataFrame(record["table"])
    if not len(table):
        return pd.DataFrame(columns=[*_COLUMNS, "line", "is_best"])
    table = table[list(_COLUMNS)].astype({"score": float, "standard_error": float, "n_spots": int})
    table["way"], table["kind"] = table["way"].astype(str), table["kind"].astype(str)
    shifts = table["kind"] == "shift"
    table["line"] = table["way"].where(~shifts, table["way"].str.partition(" to the ")[0] + ", 8 directions")
    table["is_best"] = table["way"] == str(record["best"])
    return table


def _draw_spots(ax: "Axes", section: Section, name: str) -> None:
    draw_ground(ax, section)
    rings = draw_spots(ax, section, np.zeros(len(section.rows)), cmap="viridis", limits=None)
    rings.set_array(None)
    rings.set_facecolor("none")
    rings.set_edgecolor("black")
    rings.set_linewidth(_RINGS)
    ax.set_title(f"{name}: spots as given", fontsize="medium", parse_math=False)


def _draw_scores(ax: "Axes", table: pd.DataFrame, record: Mapping[str, Any]) -> None:
    ax.set_title("\n".join(textwrap.wrap(str(record["verdict"]), _TITLE_WIDTH)), fontsize="medium", parse_math=False)
    if not len(table):
        ax.text(0.5, 0.5, "\n".join(textwrap.wrap(str(record["found"]), _TITLE_WIDTH)), ha="center", parse_math=False)
        ax.set_axis_off()
        return
    lines = list(dict.fromkeys(table["line"]))
    place = {line: len(lines) - 1 - number for number, line in enumerate(lines)}
    chance = np.asarray(record["chance"], dtype=np.float64)
    if len(chance) > 1:
        low, high = chance.mean() - chance.std(ddof=1), chance.mean() + chance.std(ddof=1)
        ax.axvspan(low, high, color="0.9", zorder=0, label="chance")
    ax.axvline(float(table["score"].iloc[0]), color=_GIVEN, lw=0.8, ls=":", zorder=1)
    for is_best, way in zip(table["is_best"], table.itertuples(), strict=True):
        colour = _GIVEN if way.kind == "given" else _BEST if is_best else _OTHERS
        marked = way.kind == "given" or is_best
        error = way.standard_error if is_best else None
        label = "as given" if way.kind == "given" else "best other way" if is_best else None
        ax.errorbar(
            way.score,
            place[way.line],
            xerr=error,
            fmt="o",
            ms=7 if marked else 4,
            color=colour,
            capsize=2,
            label=label,
            zorder=3 if marked else 2,
        )
    labels = [textwrap.shorten(line, _NAME_WIDTH, placeholder="…") for line in lines]
    ax.set_yticks(list(place.values()), labels, fontsize="small", parse_math=False)
    ax.set(ylim=(-0.7, len(lines) - 0.3), xlabel=_AXIS.get(str(record["by"]), "Score"))
    ax.xaxis.label.set_color(text_colour(pale=False))
    ax.grid(axis="y", alpha=0.25)
    ax.legend(fontsize="small", loc="best", frameon=True)  # no dot of any outcome may hide below it
