import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bleep_sc._checks import check_choice
from bleep_sc.pl._figure import NOT_KNOWN, axes_for, colour_map, errors_naming, finish, text_colour
from bleep_sc.pl._summary import number_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

_LABELS = {"value": "Pearson", "depth_free": "Pearson beyond depth"}
_ALL, _UNLIKE = "all", "unlike"
"""The name of the joint reference, and the beginning of the verdict under which a prediction is a guess."""
_NOTE_WIDTH = 70
_NAME_WIDTH = 18


def transfer_matrix(
    table: pd.DataFrame,
    *,
    panel: str = "HVG-50",
    value: str = "value",
    cmap: "str | Colormap" = "Blues",
    ax: "Axes | None" = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> "Figure | None":
    """Draw how well each tissue serves as a reference of each other: trained on in rows, tested on in columns.

    Parameters
    ----------
    table
        Table that :func:`~bleep_sc.tl.transfer_matrix` has returned.
    panel
        Gene panel to draw.
    value
        Score to draw: ``"value"``, the Pearson correlation, or ``"depth_free"``, the same with depth regressed out.
    cmap
        Colour map, from 0 to the highest score.
    ax
        Axes to draw into.
    show
        Whether to show the figure. ``None`` shows it unless it is returned, or drawn into `ax`.
    return_fig
        Return the figure.

    Returns
    -------
    ``None``, or the :class:`matplotlib.figure.Figure` if ``return_fig=True``.

    Raises
    ------
    ValueError
        A table of another kind, or a panel that is not in it.

    Notes
    -----
    "do not" stands where the tested tissue looks unlike the reference's, so that the prediction is a guess whatever
    its score is. A frame marks scores of a tissue's own sections, which are cross-validated as those of all tissues
    together are. A dash stands where nothing can be told.

    Examples
    --------
    >>> table = bl.tl.transfer_matrix({"breast": breast, "brain": brain}, map_genes="upper")  # doctest: +SKIP
    >>> bl.pl.transfer_matrix(table)  # doctest: +SKIP
    """
    if not isinstance(table, pd.DataFrame):
        msg = f"`table` must be the table of `bleep_sc.tl.transfer_matrix`, found {type(table).__name__}."
        raise TypeError(msg)
    check_choice("value", value, _LABELS)
    with errors_naming("table", writer="transfer_matrix"):
        panels = list(dict.fromkeys(table["panel"]))
        rows, columns = (list(dict.fromkeys(table[name])) for name in ("trained_on", "tested_on"))
        cells = table[table["panel"] == panel].set_index(["trained_on", "tested_on"])
        scores = cells[value].unstack().reindex(index=rows, columns=columns).to_numpy(dtype=float)
        verdicts = cells["verdict"].astype(str).unstack().reindex(index=rows, columns=columns).to_numpy(dtype=str)
        n_shared = int(table["n_shared_genes"].iloc[0])
    check_choice("panel", panel, panels)
    colours = colour_map("cmap", cmap)
    fig, drawn = axes_for(ax, figsize=(2.6 + 1.25 * len(columns), 2.4 + 0.75 * len(rows)))
    _draw_cells(drawn, scores, verdicts, colours)
    names = [f"{name}\n(joint)" if name == _ALL else _wrapped(name) for name in rows]
    drawn.set_xticks(range(len(columns)), [_wrapped(name) for name in columns], parse_math=False)
    drawn.set_yticks(range(len(rows)), names, parse_math=False)
    _frame_own(drawn, rows, columns)
    drawn.set_ylabel("trained on")
    drawn.set_xlabel("\n".join(["tested on", "", *_notes(scores, verdicts)]))
    drawn.set_title(
        f"{_LABELS[value]}, {panel}\non {n_shared:,} genes that all tissues have", fontsize="medium", loc="left"
    )
    return finish(fig, show=show, return_fig=return_fig, ax=ax)


def _wrapped(name: str) -> str:
    return "\n".join(textwrap.wrap(str(name), _NAME_WIDTH))


def _draw_cells(ax: "Axes", scores: np.ndarray, verdicts: np.ndarray, colours: "Colormap") -> None:
    """Draw scores as colours, with their numbers and the verdict that warns."""
    from matplotlib.colors import Normalize

    highest = float(np.nanmax(scores, initial=0))
    scale = Normalize(0, highest if highest > 0 else 1, clip=True)
    ax.imshow(np.ma.masked_invalid(scores), cmap=colours, norm=scale, aspect="auto")
    ax.grid(visible=False)
    ax.tick_params(length=0)
    for (row, column), score in np.ndenumerate(scores):
        ground: Any = colours(scale(score)) if np.isfinite(score) else NOT_KNOWN
        unlike = str(verdicts[row, column]).startswith(_UNLIKE)
        text = number_text(score, decimals=2) + ("\ndo not" if unlike else "")
        ax.text(column, row, text, ha="center", va="center", color=_readable(ground), gid=f"{row},{column}")


def _readable(ground: Any) -> str:
    """Return black or white, whichever stands out from a colour."""
    from matplotlib.colors import to_rgb

    return "black" if float(np.dot(to_rgb(ground), (0.299, 0.587, 0.114))) > 0.55 else "white"


def _frame_own(ax: "Axes", rows: list[str], columns: list[str]) -> None:
    from matplotlib.patches import Rectangle

    for column, name in enumerate(columns):
        if name in rows:
            corner = (column - 0.47, rows.index(name) - 0.47)
            ax.add_patch(Rectangle(corner, 0.94, 0.94, fill=False, lw=1.6, ec=text_colour(pale=False), gid="own"))


def _notes(scores: np.ndarray, verdicts: np.ndarray) -> list[str]:
    notes = ["Frame: the tissue's own sections. Frame and joint: cross-validated."]
    if any(str(verdict).startswith(_UNLIKE) for verdict in verdicts.flat):
        notes.append("do not: the tissue looks unlike the reference's, so the prediction is a guess.")
    if np.isnan(scores).any():
        notes.append("–: cannot be told, the tissue has one section or patient only.")
    return [line for note in notes for line in textwrap.wrap(note, _NOTE_WIDTH)]
