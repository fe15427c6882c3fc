"""Draws what `tl.sweep` has written: a line for one parameter, a map for two, and what the folds chose."""

import json
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc._checks import check_choice, check_names
from bleep_sc.metrics.registry import PlottedMetric
from bleep_sc.pl._figure import errors_naming, text_colour
from bleep_sc.pl._summary import chosen as chosen_names
from bleep_sc.pl._summary import count_of, number_text, record_of, stored_summary, words_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SWEEP = "sweep"
"""Key in `uns` under which `tl.sweep` writes, unless the user names another."""
_WIDTH, _HEIGHT, _LETTER, _TITLE_LETTER, _LEFT = 3.6, 3.9, 0.075, 0.11, 0.01
_LOG_FROM, _MOST_TICKS = 10, 11
_HONEST, _CURVE = "C1", "C0"


@dataclass(frozen=True)
class Stored:
    """What a sweep has left, as it is drawn."""

    summary: pd.DataFrame
    """Means of each setting, and in the rows that are `honest` those of what the folds chose."""
    values: dict[str, list[Any]]
    """The values of each parameter."""
    chosen: Counter[tuple[Any, ...]]
    """How many folds chose each setting."""
    verdict: str
    judged_by: tuple[str, str]
    """Metric and panel by which the folds chose, and of which the verdict speaks."""


def is_sweep(entry: Any) -> bool:
    """Tell whether a field of `uns` is what `tl.sweep` writes."""
    return isinstance(entry, Mapping) and "verdict" in entry


def draw_sweep(
    adata: AnnData,
    key: str,
    parameter: str | Sequence[str] | None,
    *,
    metric: str,
    panels: str | Sequence[str] | None,
) -> "Figure":
    """Draw the sweep of one key: against one parameter or two, all others held where most folds have them."""
    import matplotlib.pyplot as plt

    stored = _read(adata, key)
    summary = stored.summary
    check_choice("metric", metric, summary["metric"].unique())
    panels = chosen_names("panels", panels, summary["panel"])
    axes_of = _parameters(parameter, stored)
    settings, held = _held(stored, axes_of)
    rows = settings[settings["metric"] == metric]
    honest = summary[summary["honest"] & (summary["metric"] == metric)].set_index("panel")
    measure = record_of(metric)
    width = _WIDTH * len(panels) + 1
    fig, grid = plt.subplots(1, len(panels), figsize=(width, _HEIGHT), squeeze=False, layout="constrained")
    for ax, panel in zip(grid[0], panels, strict=True):
        of_panel, score = rows[rows["panel"] == panel], honest.loc[panel]
        if len(axes_of) == 1:
            _draw_lines(ax, of_panel, score, parameter=axes_of[0], stored=stored, held=held, measure=measure)
        else:
            _draw_map(ax, of_panel, axes_of=axes_of, stored=stored, held=held, measure=measure)
        ax.set_title(
            f"{panel}\n{count_of(of_panel['n_genes'], 'gene')}; honest {_with_interval(score)}", fontsize="medium"
        )
    grid[0, 0].set_ylabel(measure.label if len(axes_of) == 1 else axes_of[1])
    scope = words_of(summary, "scope")
    title = textwrap.wrap(measure.title + (f", {scope}" if scope else ""), int(width / _TITLE_LETTER))
    fig.suptitle("\n".join(title), x=_LEFT, ha="left")
    notes = _notes(rows, stored, held, metric, is_map=len(axes_of) > 1)
    lines = [line for note in notes for line in textwrap.wrap(note, int(width / _LETTER))]
    fig.supxlabel("\n".join(lines), x=_LEFT, ha="left", fontsize="small", fontweight="normal")
    return fig


def _read(adata: AnnData, key: str) -> Stored:
    path = f"adata.uns[{key!r}]"
    summary = stored_summary(adata, key, None)
    with errors_naming(path, writer="sweep"):
        config = json.loads(str(adata.uns[key]["config"]))
        values = {str(name): list(each) for name, each in config["parameters"].items()}
        table = adata.uns[key]["chosen"]
        picked = Counter(tuple(row[name] for name in values) for row in table.to_dict("records"))
        first = summary[list(values)].isna() | (summary[list(values)] == "")
        judged_by = str(config["metric"]), str(config["panel"])
        return Stored(
            summary.assign(honest=first.all(axis=1)), values, picked, str(adata.uns[key]["verdict"]), judged_by
        )


def _parameters(asked: str | Sequence[str] | None, stored: Stored) -> list[str]:
    """Choose the parameters that are drawn: those that the user names, else those that were varied."""
    varied = [name for name, values in stored.values.items() if len(values) > 1]
    if asked is None:
        if len(varied) > 2:
            msg = f"{len(varied)} parameters were varied: name one or two of {', '.join(map(repr, varied))}."
            raise ValueError(msg)
        return varied
    names = list(dict.fromkeys(check_names("parameter", asked)))
    for name in names:
        check_choice("parameter", name, varied)
    if not 1 <= len(names) <= 2:
        msg = f"`parameter` must name one or two parameters, found {len(names)}."
        raise ValueError(msg)
    return names


def _held(stored: Stored, drawn: Sequence[str]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Keep the settings that are drawn, and say where the parameters that are not are held."""
    at = list(stored.values)
    rows, held = stored.summary[~stored.summary["honest"]], {}
    for name, values in stored.values.items():
        spread = len(drawn) == 1 and name not in drawn and sum(len(v) > 1 for v in stored.values.values()) == 2
        if name in drawn or spread:  # a second parameter makes several lines
            continue
        votes = Counter(dict.fromkeys(values, 0))
        for setting, folds in stored.chosen.items():
            votes[setting[at.index(name)]] += folds
        held[name] = max(values, key=lambda value: votes[value])
        rows = rows[rows[name] == held[name]]
    return rows, held


def _places(values: Sequence[Any]) -> tuple[dict[Any, float], bool]:
    """Lay out values on an axis, names one after the other, and say whether they are numbers."""
    numeric = all(isinstance(value, int | float) for value in values)
    return ({v: float(v) for v in sorted(values)} if numeric else {v: float(i) for i, v in enumerate(values)}), numeric


def _draw_lines(
    ax: "Axes",
    rows: pd.DataFrame,
    honest: pd.Series,
    *,
    parameter: str,
    stored: Stored,
    held: Mapping[str, Any],
    measure: PlottedMetric,
) -> None:
    """Draw the score against one parameter: a line, or one for each value of a second parameter."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullLocator

    places, numeric = _places(stored.values[parameter])
    others = [
        name for name, values in stored.values.items() if name != parameter and name not in held and len(values) > 1
    ]
    families = rows.groupby(others[0], sort=True) if others else [("", rows)]
    colours = [_CURVE] if not others else plt.colormaps["viridis"](np.linspace(0, 0.9, len(families)))
    for (value, family), colour in zip(families, colours, strict=True):
        family = family.assign(at=family[parameter].map(places)).sort_values("at")
        if not others:
            ax.vlines(family["at"], family["low"], family["high"], color=colour, lw=1.2, alpha=0.7)
        label = " ".join([*others, _text(value)])
        ax.plot(family["at"], family["value"], "o-", color=colour, ms=4, lw=1.5, label=label)
    ax.axhline(honest["value"], color=_HONEST, lw=1.2, ls="--", zorder=1)
    if np.isfinite(honest["low"]):
        ax.axhspan(honest["low"], honest["high"], color=_HONEST, alpha=0.15, lw=0, zorder=0)
    for setting, folds in _picked(stored, held):
        row = rows[np.logical_and.reduce([rows[name] == setting[name] for name in stored.values])]
        _ring(ax, places[setting[parameter]], float(row["value"].iloc[0]), folds)
    if measure.mark is not None and rows["value"].min() < measure.mark:
        ax.axhline(measure.mark, lw=0.8, color=text_colour(pale=False), alpha=0.3, zorder=0)
    if others:
        ax.legend(fontsize="x-small", frameon=False)
    at = list(places.values())
    if numeric and min(at) > 0 and max(at) >= _LOG_FROM * min(at):
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(*_ticks(places, on_log=ax.get_xscale() == "log"))
    ax.set_xlabel(parameter)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float | np.number) else str(value)


def _draw_map(
    ax: "Axes",
    rows: pd.DataFrame,
    *,
    axes_of: Sequence[str],
    stored: Stored,
    held: Mapping[str, Any],
    measure: PlottedMetric,
) -> None:
    """Draw the score by two parameters, each value in a column or row of the same width."""
    x, y = axes_of
    orders = {name: {v: float(i) for i, v in enumerate(_places(stored.values[name])[0])} for name in axes_of}
    table = rows.pivot_table(index=y, columns=x, values="value").reindex(index=list(orders[y]), columns=list(orders[x]))
    # of errors the low values are the good ones: bright is good
    image = ax.pcolormesh(table.to_numpy(), cmap="viridis" if measure.best is None else "viridis_r")
    ax.figure.colorbar(image, ax=ax, shrink=0.9)
    for setting, folds in _picked(stored, held):
        _ring(ax, orders[x][setting[x]] + 0.5, orders[y][setting[y]] + 0.5, folds)
    for name, axis in ((x, ax.xaxis), (y, ax.yaxis)):
        at, labels = _ticks(orders[name], on_log=False)
        axis.set_ticks([place + 0.5 for place in at], labels)
    ax.set_xlabel(x)


def _picked(stored: Stored, held: Mapping[str, Any]) -> list[tuple[dict[str, Any], int]]:
    """List the settings that folds chose, of those that are drawn, with the number of folds."""
    named = [(dict(zip(stored.values, setting, strict=True)), folds) for setting, folds in stored.chosen.items()]
    return [(setting, folds) for setting, folds in named if all(setting[name] == v for name, v in held.items())]


def _ring(ax: "Axes", x: float, y: float, folds: int) -> None:
    """Mark a choice; a white edge keeps the ring in sight on every colour of a map."""
    from matplotlib.patheffects import withStroke

    edge = [withStroke(linewidth=3.5, foreground="white")]
    ax.plot(x, y, "o", ms=12, mfc="none", mec=_HONEST, mew=1.8, zorder=5, path_effects=edge)
    ax.annotate(
        str(folds),
        (x, y),
        xytext=(8, 6),
        textcoords="offset points",
        color=_HONEST,
        fontsize="small",
        fontweight="bold",
        path_effects=edge,
    )


def _ticks(places: Mapping[Any, float], *, on_log: bool) -> tuple[list[float], list[str]]:
    """Set a tick at each value; of very many at every second, third, ..., or at some that are even on a log axis."""
    values = list(places)
    if len(values) > _MOST_TICKS and on_log:
        wanted = np.geomspace(places[values[0]], places[values[-1]], _MOST_TICKS // 2)
        values = list(dict.fromkeys(min(values, key=lambda v: abs(places[v] - w)) for w in wanted))
    values = values[:: -(-len(values) // _MOST_TICKS)]
    return [places[v] for v in values], [_text(v) for v in values]


def _with_interval(row: pd.Series) -> str:
    text = number_text(float(row["value"]))
    return text if np.isnan(row["low"]) else f"{text} [{number_text(row['low'])}, {number_text(row['high'])}]"


def _notes(rows: pd.DataFrame, stored: Stored, held: Mapping[str, Any], metric: str, *, is_map: bool) -> list[str]:
    folds = sum(stored.chosen.values())
    unseen = folds - sum(number for _, number in _picked(stored, held))
    line = "" if is_map else "Dashed, shaded: their honest score, on groups that were held out. "
    notes = [f"Rings: chosen on training sections, by how many of {folds} folds. {line}".strip()]
    over = words_of(rows[rows["low"].notna() & rows["high"].notna()], "interval_over", join=" or ")
    notes += [f"Intervals: bootstrap over {over}."] if over else ["No interval could be given."]
    fixed = {name: value for name, value in held.items() if len(stored.values[name]) > 1}
    if fixed:
        where = ", ".join(f"{name}={value}" for name, value in fixed.items())
        other = f" Of the folds, {unseen} chose otherwise." if unseen else ""
        notes.append(f"Held where most folds have them: {where}.{other}")
    return notes + ([stored.verdict] if metric == stored.judged_by[0] else [])
