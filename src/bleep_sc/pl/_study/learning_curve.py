import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc._adata import check_readable
from bleep_sc._checks import check_choice, check_in, check_key
from bleep_sc.pl._figure import errors_naming, finish, text_colour
from bleep_sc.pl._summary import chosen, count_of, number_text, record_of, words_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TABLES = {
    "summary": ("size", "value", "low", "high", "ceiling", "n_genes"),
    "scores": ("size", "value"),
    "forecast": ("size_from", "size_to", "gain", "low", "high"),
    "law": ("size", "value"),
    "cost": ("size", "seconds_fit", "seconds_predict", "seconds_search", "mb_reference"),
}
"""Tables that are drawn, and their columns of numbers."""
_WORDS = {
    "summary": ("panel", "metric"),
    "scores": ("panel", "metric", "section"),
    "forecast": ("panel", "metric", "question", "verdict", "answer"),
    "law": ("panel", "metric"),
    "cost": (),
}
"""Their columns of words."""
_WIDTH, _HEIGHT, _LETTER, _LEFT = 3.0, 3.8, 0.072, 0.01
_LOG_FROM = 8


def learning_curve(
    adata: AnnData,
    *,
    key: str = "learning_curve",
    metric: str = "pearson",
    panels: str | Sequence[str] | None = None,
    cost: bool = True,
    show: bool | None = None,
    return_fig: bool = False,
) -> "Figure | None":
    """Draw scores against the size of the reference, and what a larger one would gain.

    Dots are means with their intervals, pale lines single sections. The dashed line is the power law. It goes on to
    larger references, where a hollow dot and its interval stand for each question that could be told. All answers
    stand below in words. Seconds and memory are drawn beside.

    Parameters
    ----------
    adata
        Spots with a learning curve by :func:`~bleep_sc.tl.learning_curve`.
    key
        Key of the learning curve in `adata.uns`.
    metric
        Score to draw, such as ``"pearson"``.
    panels
        One gene panel or several; ``None`` draws all.
    cost
        Draw seconds and memory too.
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
        No learning curve at `key`.
    ValueError
        A metric or panel that is not in it.

    Examples
    --------
    >>> bl.tl.learning_curve(adata)  # doctest: +SKIP
    >>> bl.pl.learning_curve(adata, panels=["HVG-50"])  # doctest: +SKIP
    """
    import matplotlib.pyplot as plt

    check_readable(adata)
    check_key("key", key)
    tables = _stored(adata, key)
    check_choice("metric", metric, tables["summary"]["metric"].unique())
    panels = chosen("panels", panels, tables["summary"]["panel"])
    of_metric = {name: table[table["metric"] == metric] for name, table in tables.items() if name != "cost"}
    by = _counted(tables["forecast"])
    columns = len(panels) + cost
    mosaic: Any = [[*range(len(panels)), *[at] * cost] for at in (-1, -2)]
    width = _WIDTH * columns + 0.6
    summary = of_metric["summary"]
    scope, over = words_of(summary, "scope"), words_of(summary, "interval_over", join=" or ")
    notes = [
        f"Pale: single sections. Lines through dots: 95 % intervals over {over}."
        if over
        else "Pale: single sections. No interval could be given.",
        *_answers(of_metric["forecast"], panels),
    ]
    lines = [line for note in notes for line in textwrap.wrap(note, int(width / _LETTER), subsequent_indent="   ")]
    fig, axes = plt.subplot_mosaic(mosaic, figsize=(width, _HEIGHT + 0.16 * len(lines)), layout="constrained")
    for number, panel in enumerate(panels):
        rows = {name: table[table["panel"] == panel] for name, table in of_metric.items()}
        _draw_panel(axes[number], _Panel(**rows), by=by)
        genes = count_of(rows["summary"]["n_genes"], "gene")
        limit = rows["summary"]["ceiling"].mean()
        axes[number].set_title(
            f"{panel}\n{genes}" + (f", ceiling {number_text(limit, decimals=2)}" if np.isfinite(limit) else ""),
            fontsize="medium",
        )
    axes[0].set_ylabel(record_of(metric).label)
    if cost:
        _draw_cost(axes[-1], axes[-2], tables["cost"], by=by)
    fig.suptitle(
        f"{record_of(metric).title} by size of the reference" + (f", {scope}" if scope else ""), x=_LEFT, ha="left"
    )
    fig.supxlabel("\n".join(lines), x=_LEFT, ha="left", fontsize="small", fontweight="normal", parse_math=False)
    return finish(fig, show=show, return_fig=return_fig)


@dataclass(frozen=True)
class _Panel:
    """The tables of one panel."""

    summary: pd.DataFrame
    scores: pd.DataFrame
    forecast: pd.DataFrame
    law: pd.DataFrame


def _stored(adata: AnnData, key: str) -> dict[str, pd.DataFrame]:
    """Read the tables of a learning curve."""
    writer = "`bleep_sc.tl.learning_curve` writes it."
    check_in("adata.uns", key, adata.uns.keys(), remedy=writer)
    path = f"adata.uns[{key!r}]"
    with errors_naming(path, writer="learning_curve"):
        entry: Mapping[str, Any] = dict(adata.uns[key])
        for name in _TABLES:
            check_in(path, name, entry, remedy=writer)
        tables = {
            name: entry[name].assign(
                **{column: pd.to_numeric(entry[name][column]) for column in numbers},
                **{column: entry[name][column].astype(str) for column in _WORDS[name]},
            )
            for name, numbers in _TABLES.items()
        }
        if empty := [name for name, table in tables.items() if name != "law" and table.empty]:
            msg = f"`{empty[0]}` is empty"
            raise ValueError(msg)
        return tables


def _counted(forecast: pd.DataFrame) -> str:
    """Say what a size counts, from the question that is always asked."""
    return str(forecast["question"].iloc[-1]).rpartition(" ")[2]


def _answers(forecast: pd.DataFrame, panels: Sequence[str]) -> list[str]:
    """Put each answer in words, with the panels that share it."""
    rows = forecast[forecast["panel"].isin(panels)]
    named = ["question", "size_from", "size_to", "answer"]
    return [
        f"{question} ({start:g} to {end:g}), {', '.join(own['panel'])}: {answer}".replace("-0.", "−0.")
        for (question, start, end, answer), own in rows.groupby(named, sort=False)
    ]


def _draw_panel(ax: "Axes", panel: _Panel, *, by: str) -> None:
    summary = panel.summary.sort_values("size")
    for _, own in panel.scores.groupby("section"):
        means = own.groupby("size")["value"].mean()
        ax.plot(means.index, means, color="C0", alpha=0.2, lw=0.8, zorder=1, label="_section")
    ax.vlines(summary["size"], summary["low"], summary["high"], color="C0", lw=1.6, alpha=0.7, zorder=3)
    ax.plot(summary["size"], summary["value"], "o", color="C0", ms=5, zorder=4, label="mean")
    told = panel.forecast[panel.forecast["verdict"] != "cannot be told"]
    furthest = max([summary["size"].max(), *told["size_to"]])
    law = panel.law[panel.law["size"] <= 1.001 * furthest]
    ax.plot(law["size"], law["value"], "--", color=text_colour(pale=True), lw=1, zorder=2, label="power law")
    for row in told.itertuples():
        start = np.interp(row.size_from, panel.law["size"], panel.law["value"])
        ax.vlines(row.size_to, start + row.low, start + row.high, color="C1", lw=1.6, zorder=3)
        ax.plot(
            row.size_to, start + row.gain, "o", color="C1", mfc=ax.get_facecolor(), ms=5, zorder=4, label=row.question
        )
    _set_sizes(ax, summary["size"].to_numpy(), furthest)
    ax.set_xlabel(f"{by} trained on")


def _set_sizes(ax: "Axes", sizes: np.ndarray, furthest: float) -> None:
    """Set a tick at each size, on a log scale where they span eight times or more."""
    from matplotlib.ticker import NullLocator

    ticks = [*sizes, furthest] if furthest > sizes.max() else list(sizes)
    if sizes.max() >= _LOG_FROM * sizes.min():
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(ticks, [f"{size:g}" for size in ticks], rotation=90 if max(ticks) >= 100 else 0)


def _draw_cost(upper: "Axes", lower: "Axes", cost: pd.DataFrame, *, by: str) -> None:
    """Draw the seconds of a training and of a prediction, and below the memory."""
    means = cost.groupby("size").median(numeric_only=True)  # the first training of a process compiles code
    names = {"seconds_fit": "fit", "seconds_predict": "predict", "seconds_search": "search in it"}
    for number, (column, label) in enumerate(names.items()):
        if means[column].notna().any():
            upper.plot(means.index, means[column], "o-", color=f"C{number}", ms=3, lw=1, label=label)
    upper.set_yscale("log")
    upper.set_ylabel("seconds")
    upper.legend(
        frameon=False, fontsize="x-small", ncols=3, loc="lower left", bbox_to_anchor=(-0.1, 1), columnspacing=0.8
    )
    lower.plot(means.index, means["mb_reference"], "o-", color=text_colour(pale=True), ms=3, lw=1)
    lower.set_ylim(0)
    lower.set_ylabel("MB read to predict")
    lower.set_xlabel(f"{by} trained on")
    for ax in (upper, lower):
        _set_sizes(ax, means.index.to_numpy(), means.index.max())
    upper.set_xticklabels([])
