import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc._adata import check_readable
from bleep_sc._checks import check_choice, check_names
from bleep_sc.metrics.registry import PlottedMetric
from bleep_sc.pl._figure import finish, text_colour
from bleep_sc.pl._summary import chosen, count_of, number_text, record_of, stored_summary, words_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FLOORS = ("mean", "counts", "coordinates", "ridge", "knn", "regressor")

_SCOPES = {
    "within-patient": "Within-patient: the patient's other sections were trained on; expect less on a new patient.",
    "patients unknown": "Patients unknown: a patient may be on both sides of the split.",
}


def scores(
    adata: AnnData,
    *,
    key: str = "cv",
    layers: str | Sequence[str] | None = None,
    metric: str = "pearson",
    panels: str | Sequence[str] | None = None,
    methods: str | Sequence[str] | None = None,
    floors: str | Sequence[str] = _FLOORS,
    ceiling: bool = True,
    show: bool | None = None,
    return_fig: bool = False,
) -> "Figure | None":
    """Draw a comparison of methods, with a row for each method and a column for each gene panel.

    A dot is the score, and the line through it is the interval. Hollow dots are floors, which any other method should
    beat. The dashed line is the best floor, and the dotted line is the noise ceiling. The title and the notes below the
    panels say what the numbers hold for: across patients or within one patient, normalised inside or outside the folds.

    Parameters
    ----------
    adata
        Spots with a comparison by :func:`~bleep_sc.tl.cross_validate`, or with layers that
        :func:`~bleep_sc.tl.evaluate` has scored.
    key
        Key of the comparison in `adata.uns`.
    layers
        Layers to draw instead of the comparison. Each must have been scored by :func:`~bleep_sc.tl.evaluate`.
    metric
        Score to draw, such as ``"pearson"`` or ``"rmse"``.
    panels
        One gene panel or several; ``None`` draws all. The first panel orders the methods, best on top.
    methods
        One method or several; ``None`` draws all.
    floors
        Methods that are floors, by name or by the beginning of the name: ``"ridge"`` also means ``"ridge (colour)"``.
        The dashed line is the best of all floors in the table, drawn or not. An empty sequence draws no line.
    ceiling
        Draw the noise ceiling, if it is known.
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
        No comparison at `key`, or a layer that was not scored.
    ValueError
        A metric, panel or method that is not in the table.

    Examples
    --------
    >>> bl.tl.cross_validate(adata, methods=["bleep", "stnet", "ridge", "mean"])  # doctest: +SKIP
    >>> bl.pl.scores(adata, panels=["HEG-50", "HVG-50"])  # doctest: +SKIP
    """
    check_readable(adata)
    table = stored_summary(adata, key, layers, numbers=("ceiling", "n_sections", "n_patients"))
    check_choice("metric", metric, table["metric"].unique())
    methods = chosen("methods", methods, table["method"])
    table = table[table["metric"] == metric]
    panels = chosen("panels", panels, table["panel"])
    measure = record_of(metric)
    prefix = f"{key}_" if layers is not None else ""
    floors = check_names("floors", floors)
    floor_methods = [m for m in table["method"].unique() if _is_floor(m.removeprefix(prefix), floors)]

    # a method without a score in a panel keeps its row there
    scored = {panel: table[table["panel"] == panel].set_index("method") for panel in panels}
    order = measure.rank(scored[panels[0]]["value"].reindex(methods)).sort_values(ascending=False, kind="stable").index
    drawn = {panel: rows.reindex(order) for panel, rows in scored.items()}
    best_floors = {panel: _best_floor(rows["value"], floor_methods, measure) for panel, rows in scored.items()}
    together = table[table["method"].isin(methods) & table["panel"].isin(panels)].set_index("method")
    starred = _query_counts(table)

    names = [f"{method} *" if method in starred else method for method in order]
    scope = words_of(together, "scope")
    fig, axes = _make_figure(
        names,
        panels,
        title=measure.title + (f", {scope}" if scope else ""),
        notes=_notes(together, best_floors, starred, floors=floor_methods, ceiling=ceiling)
        + (["–: no score."] if any(rows["value"].isna().any() for rows in drawn.values()) else []),
        above=ceiling and bool(together["ceiling"].notna().any()),
        below=any(best_floors.values()),
    )
    for ax, panel in zip(axes, panels, strict=True):
        ax.set_title(f"{panel}\n{count_of(drawn[panel]['n_genes'], 'gene')}", fontsize="medium")
        floor = best_floors[panel]
        _draw_panel(
            ax,
            drawn[panel],
            floors=floor_methods,
            best_floor=None if floor is None else float(scored[panel].loc[floor, "value"]),
            ceilings=drawn[panel]["ceiling"] if ceiling else pd.Series(dtype=float),
            mark=measure.mark,
        )
    for label, method in zip(axes[0].get_yticklabels(), order, strict=True):
        label.set(color=text_colour(pale=method in floor_methods), parse_math=False)
    return finish(fig, show=show, return_fig=return_fig)


def _is_floor(method: str, floors: Iterable[str]) -> bool:
    """Whether a method has a floor's name, alone or before a label: `ridge (colour)` and `knn_20`, not `meaning`."""
    return any(method.startswith(floor) and not method[len(floor) :][:1].isalnum() for floor in floors)


def _best_floor(values: pd.Series, floors: Sequence[str], measure: PlottedMetric) -> str | None:
    """Name the best of the floors by a metric; None where no floor has a score."""
    ranks = measure.rank(values[values.index.isin(floors)]).dropna()
    return str(ranks.idxmax()) if len(ranks) else None


def _query_counts(table: pd.DataFrame) -> list[str]:
    """List the methods that saw the counts of the very spots that they predict."""
    if "uses_query_counts" not in table:
        return []
    return list(table.loc[table["uses_query_counts"].astype(bool), "method"].unique())


def _notes(
    rows: pd.DataFrame,
    best_floors: dict[str, str | None],
    starred: Sequence[str],
    *,
    floors: Sequence[str],
    ceiling: bool,
) -> list[str]:
    """Notes below the panels: what a reader must know to read the numbers, and nothing about what is not drawn."""
    scope, normalised = words_of(rows, "scope"), words_of(rows, "normalisation")
    patients = f" of {count_of(rows['n_patients'], 'patient')}" if rows["n_patients"].max() > 0 else ""
    over = words_of(rows[rows["low"].notna() & rows["high"].notna()], "interval_over", join=" or ")
    facts = [
        f"Mean over {count_of(rows['n_sections'], 'section')}{patients}",
        *([f"normalised {normalised}"] if normalised else []),
        f"line through a dot: bootstrap interval over {over}" if over else "no interval could be given",
    ]
    notes = ["; ".join(facts) + "."]
    notes += [text for word, text in _SCOPES.items() if word in scope]
    named = {panel: floor + (" *" if floor in starred else "") for panel, floor in best_floors.items() if floor}
    if named:
        best = set(named.values())
        best_floor = (
            best.pop() if len(best) == 1 else ", ".join(f"{floor} in {panel}" for panel, floor in named.items())
        )
        hollow = "Hollow: floors, which any other method should beat. " if rows.index.isin(floors).any() else ""
        notes.append(f"{hollow}Dashed: the best floor, {best_floor}.")
    if ceiling and rows["ceiling"].notna().any():
        notes.append("Dotted: noise ceiling, the mean correlation that the noise of the measured counts allows.")
    if rows.index.isin(starred).any() or any(floor in starred for floor in best_floors.values()):
        notes.append("* uses the measured counts of the very spots that it predicts: impossible with only an image.")
    return notes


def _make_figure(
    names: Sequence[str], panels: Sequence[str], *, title: str, notes: Sequence[str], above: bool, below: bool
) -> "tuple[Figure, np.ndarray]":
    """Make a row of axes with one list of names; the size follows the font, so that it fits whatever the user has set.

    A line above and a line below the methods are kept for the names of the reference lines, where there are any.
    """
    import matplotlib.pyplot as plt
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    em = plt.rcParams["font.size"] / 72
    margin = 0.6 * em * max(map(len, names))
    width = margin + max(20 * em * len(panels), 54 * em - margin)
    lines = [line for note in notes for line in textwrap.wrap(note, int(width / (0.43 * em)), subsequent_indent="   ")]
    titles = textwrap.wrap(title, int(width / (0.65 * em)))
    height = em * (2.2 * (len(names) + above + below) + 1.2 * len(lines) + 1.6 * len(titles) + 7)
    # room between the numbers of one panel and the rows of the next
    layout = ConstrainedLayoutEngine(w_pad=0.7 * em, h_pad=0.5 * em)
    fig, axes = plt.subplots(1, len(panels), figsize=(width, height), sharey=True, squeeze=False, layout=layout)
    left = 0.7 * em / width
    fig.suptitle("\n".join(titles), x=left, ha="left", fontsize="large")
    fig.supxlabel("\n".join(lines), x=left, ha="left", fontsize="small", fontweight="normal", linespacing=1.3)
    axes[0, 0].set(ylim=(len(names) - (-0.1 if below else 0.5), -1.1 if above else -0.5))
    axes[0, 0].set_yticks(range(len(names)), names)
    return fig, axes[0]


def _draw_panel(
    ax: Any,
    rows: pd.DataFrame,
    *,
    floors: Sequence[str],
    best_floor: float | None,
    ceilings: pd.Series,
    mark: float | None,
) -> None:
    """Draw the scores of one panel: a row for each method, and lines for the best floor and the noise ceiling."""
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties

    ink, pale, last = text_colour(pale=False), text_colour(pale=True), len(rows) - 0.5
    ax.grid(visible=False)
    ax.hlines(range(len(rows)), 0, 1, transform=ax.get_yaxis_transform(), color=ink, alpha=0.15, lw=0.6, zorder=0.5)
    ax.spines[["left", "right", "top"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.locator_params(axis="x", nbins=4)
    if mark is not None:
        ax.plot([mark, mark], [-0.5, last], color=ink, alpha=0.3, lw=0.8, zorder=0.6, label="mark")
    size = FontProperties(size=rcParams["ytick.labelsize"]).get_size_in_points()
    numbers = [number_text(value) for value in rows["value"]]
    for y, (method, row) in enumerate(rows.iterrows()):
        colour, face = (pale, ax.get_facecolor()) if method in floors else ("C0", "C0")
        ax.plot([row["low"], row["high"]], [y, y], "-", color=colour, lw=1.6, zorder=2, label="interval")
        ax.plot([row["value"]], [y], "o", color=colour, mfc=face, ms=0.55 * size, zorder=3, label=str(method))
        ax.annotate(
            numbers[y],
            (1, y),
            xycoords=ax.get_yaxis_transform(),
            xytext=(size * (0.5 + 0.64 * max(map(len, numbers))), 0),
            textcoords="offset points",
            ha="right",
            va="center_baseline",
            size=size,
            color=pale if method in floors else ink,
        )
    if best_floor is not None:
        ax.plot([best_floor] * 2, [-0.5, last], "--", color=pale, lw=1, zorder=1, label="best floor")
    known = np.unique(ceilings.dropna().round(6))
    for value in known:
        ax.plot([value] * 2, [-0.5, last], ":", color=ink, lw=1.2, zorder=1, label="noise ceiling")
    # the two names stand at opposite ends of their lines, so that neither meets the other's line
    if best_floor is not None:
        _name_line(ax, best_floor, last, f"best floor {number_text(best_floor)}", va="top", color=pale)
    if len(known):
        span = "–".join(number_text(value) for value in dict.fromkeys([known[0], known[-1]]))
        _name_line(ax, known.mean(), -0.55, f"ceiling {span}", va="bottom", color=ink)


def _name_line(ax: Any, x: float, y: float, text: str, *, va: str, color: Any) -> None:
    """Write a name at the end of a vertical line, towards the middle where the line is near a side."""
    low, high = ax.get_xlim()
    place = (x - low) / (high - low)
    ha = "left" if place < 1 / 3 else "right" if place > 2 / 3 else "center"
    ax.text(x, y, text, ha=ha, va=va, size="small", color=color)
