from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import check_reference
from bleep_sc._checks import MissingKeyError, check_key, check_number
from bleep_sc.pl._figure import errors_naming, finish, text_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS = {
    "all": "all genes",
    "HEG": "the tenth of the genes with the highest mean",
    "own top tenth": "each gene's own highest tenth of values",
}
"""The panels of the table, and how the legend calls them."""
_ACROSS = "across "
"""The scope begins so where several patients were held out."""
_MARKERS = ("o", "s", "v")
_APART = 0.18
_MOST_NAMES = 12
_COLUMNS = ("group", "n_spots", "panel", "level", "coverage")


def calibration(
    ref: AnnData,
    *,
    key: str = _keys.MODEL,
    level: float = 0.9,
    show: bool | None = None,
    return_fig: bool = False,
) -> "Figure | None":
    """Draw how many measured values lay within intervals that were computed without them.

    Each patient of the reference (or each section, if there is one patient) is tested with intervals that come from the
    others alone. Where patients were held out, it shows what to expect for a new one.

    On the left, one line for each patient or section shows the share of measured values within the intervals at every
    level. Below the diagonal, intervals hold fewer values than their level says. On the right, the shares at one level
    are shown for three sets of values. They are all genes that the model learned from, the tenth of these genes with
    the highest mean, and the highest tenth of each gene's own values. The last lie outside the intervals more often.

    Parameters
    ----------
    ref
        A reference, after :func:`~bleep_sc.tl.calibrate`.
    key
        Name of the model in `ref.uns`.
    level
        The level shown on the right side. The nearest calibrated level is used.
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
        There is no such model, or it is not calibrated.
    ValueError
        ``uns[key]["coverage"]`` is damaged.

    Examples
    --------
    >>> bl.tl.calibrate(ref)  # doctest: +SKIP
    >>> bl.pl.calibration(ref)  # doctest: +SKIP
    """
    import matplotlib.pyplot as plt

    check_reference(ref)
    check_key("key", key)
    wanted = check_number("level", level, above=0)
    path = f"ref.uns[{key!r}]['coverage']"
    entry = ref.uns.get(key)
    if not isinstance(entry, dict) or "coverage" not in entry:
        msg = f"`{path}` does not exist. `bleep_sc.tl.calibrate(ref)` writes it."
        raise MissingKeyError(msg)
    with errors_naming(path, writer="calibrate"):
        table = pd.DataFrame(entry["coverage"])[list(_COLUMNS)].astype({"level": float, "coverage": float})
        table["group"], table["panel"] = table["group"].astype(str), table["panel"].astype(str)
        levels = np.sort(table["level"].unique())
        at = levels[np.abs(levels - wanted).argmin()]
        groups = list(dict.fromkeys(table["group"]))
    scope = str(entry.get("scope", ""))
    # names stand below each other: the more there are, the higher the figure
    height = 3.8 + 0.16 * max(0, min(len(groups), 40) - 8)
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.2, height), layout="constrained", width_ratios=[1, 1.15])
    # sections of one patient, or of unknown ones, promise nothing
    _draw_levels(left, table[table["panel"] == "all"], groups, promised=scope.startswith(_ACROSS))
    _draw_groups(right, table[table["level"] == at], groups, at)
    fig.suptitle(
        f"Held-out tissue, tested {scope}" if scope else "Held-out tissue", fontsize="medium", parse_math=False
    )
    return finish(fig, show=show, return_fig=return_fig)


def _draw_levels(ax: "Axes", table: pd.DataFrame, groups: list[str], *, promised: bool) -> None:
    """Draw the share of values within, by level, a line for each group."""
    label = "as promised" if promised else "if the bounds held exactly"
    ax.plot([0, 1], [0, 1], ":", color=text_colour(pale=False), lw=1.2, label=label)
    for number, group in enumerate(groups):
        own = table[table["group"] == group].sort_values("level")
        (line,) = ax.plot(own["level"], own["coverage"], ".-", lw=1.2, color=f"C{number % 10}")
        # a name that begins with "_" would be left out
        line.set_label(f"\N{ZERO WIDTH SPACE}{group}" if len(groups) <= _MOST_NAMES else "_")
    lowest = float(min(table["level"].min(), table["coverage"].min()))
    low = max(0.0, np.floor(20 * lowest - 1) / 20)
    ax.set(xlim=(low, 1), ylim=(low, 1), aspect="equal", xlabel="Level", ylabel="Measured values within")
    for text in ax.legend(fontsize="small", loc="lower right").get_texts():
        text.set_parse_math(False)


def _draw_groups(ax: "Axes", table: pd.DataFrame, groups: list[str], level: float) -> None:
    """Draw the shares of each group at one level, a mark for each panel."""
    place = {group: number for number, group in enumerate(reversed(groups))}
    ax.axvline(level, ls=":", color=text_colour(pale=False), lw=1.2)
    for number, (panel, title) in enumerate(_PANELS.items()):
        own = table[table["panel"] == panel]
        # a little apart, so that equal shares do not hide each other
        at = np.array([place[group] for group in own["group"]], dtype=np.float64) + _APART * (1 - number)
        ax.plot(own["coverage"], at, _MARKERS[number], color=f"C{number}", label=title, ms=6)
    sizes = table.drop_duplicates("group").set_index("group")["n_spots"]
    labels = [f"{group} ({sizes[group]:,} spots)" for group in place]
    ax.set_yticks(list(place.values()), labels, fontsize="small" if len(groups) < 20 else "xx-small", parse_math=False)
    ax.set(xlim=(0, 1.02), ylim=(-0.7, len(groups) - 0.3), xlabel=f"Measured values within, level {level:g}")
    ax.grid(axis="y", alpha=0.25)
    ax.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.4, -0.14), ncols=1, frameon=False)
