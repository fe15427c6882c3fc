import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc._adata import check_readable
from bleep_sc._checks import check_choice, check_in, check_key, check_names
from bleep_sc.pl._figure import errors_naming, finish, text_colour
from bleep_sc.pl._study.sweep import SWEEP, draw_sweep, is_sweep
from bleep_sc.pl._summary import chosen, count_of, record_of, stored_summary, words_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NO_SETTING = ("methods", "n_bootstrap")
_PANEL_WIDTH, _LETTER, _TITLE_LETTER, _LEFT = 3.2, 0.075, 0.11, 0.01
_LOG_FROM, _CROWDED = 10, 32


def sweep(
    adata: AnnData,
    parameter: str | Sequence[str] | None = None,
    *,
    key: str | Sequence[str] | None = None,
    metric: str = "pearson",
    panels: str | Sequence[str] | None = None,
    methods: str | Sequence[str] | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> "Figure | None":
    """Draw scores against a parameter that was varied in a sweep, in a comparison, or between several comparisons.

    In a sweep (:func:`~bleep_sc.tl.sweep`), one parameter makes a line, and two make a map. Rings mark the values that
    the folds chose on their training sections, and the number of folds. A dashed line, or the title, gives the honest
    score of these choices.

    In a comparison, labels that differ only in the parameter are joined by a line. Vertical lines are their intervals.
    A label that does not set the parameter is a dashed line across the panel.

    Parameters
    ----------
    adata
        Spots with a sweep by :func:`~bleep_sc.tl.sweep`, or a comparison by :func:`~bleep_sc.tl.cross_validate`.
    parameter
        Name of the parameter that was varied. For a sweep, name one or two parameters; ``None`` takes both. If three or
        more were varied, the others are fixed at the value that most folds chose. For a comparison, name an argument in
        `method_kwargs`, such as ``"dim"`` or ``"temperature"``. You can also name an argument of
        :func:`~bleep_sc.tl.cross_validate` itself, such as ``"k"`` or ``"n_top_genes"``. Each of its values is then a
        comparison of its own (`key_added`).
    key
        Key of the sweep or comparison in `adata.uns`, or of several comparisons. ``None`` takes ``"cv"`` if it exists
        and `parameter` is given, else ``"sweep"``.
    metric
        Score to draw, such as ``"pearson"`` or ``"rmse"``.
    panels
        One gene panel or several; ``None`` draws all.
    methods
        One label of the comparison or several; ``None`` draws all. A sweep has only one method.
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
        No sweep or comparison at `key`.
    ValueError
        - The parameter was not varied.
        - More than two parameters for a sweep.
        - `methods` for a sweep.
        - A metric, panel or method that is not in the table.

    Notes
    -----
    The scores are those of the held-out groups. If you pick the best value here, you pick it on the test data. So
    report how many values you tried, or let the folds choose, as :func:`~bleep_sc.tl.sweep` does.

    Examples
    --------
    >>> bl.tl.sweep(adata, {"k": [5, 20, 50], "temperature": [0.1, 1.0]})  # doctest: +SKIP
    >>> bl.pl.sweep(adata)  # doctest: +SKIP
    >>> labels = {f"dim {dim}": {"method": "bleep", "dim": dim} for dim in (32, 128, 256)}  # doctest: +SKIP
    >>> bl.tl.cross_validate(adata, methods=["ridge", *labels], method_kwargs=labels)  # doctest: +SKIP
    >>> bl.pl.sweep(adata, "dim", panels=["HVG-50"])  # doctest: +SKIP
    """
    import matplotlib.pyplot as plt

    check_readable(adata)
    if key is None:
        key = "cv" if parameter is not None and ("cv" in adata.uns or SWEEP not in adata.uns) else SWEEP
    if isinstance(key, str) and (parameter is None or is_sweep(adata.uns.get(key))):
        check_in("adata.uns", key, adata.uns.keys(), remedy="`bleep_sc.tl.sweep` writes it.")
        if not is_sweep(adata.uns[key]):
            msg = f"`adata.uns[{key!r}]` is no sweep: name the `parameter` that was varied in this comparison."
            raise ValueError(msg)
        if methods is not None:
            msg = f"`methods`: `adata.uns[{key!r}]` is a sweep, which is of one method. Leave it out."
            raise ValueError(msg)
        return finish(draw_sweep(adata, key, parameter, metric=metric, panels=panels), show=show, return_fig=return_fig)
    check_key("parameter", parameter)
    parameter = str(parameter)
    keys = list(dict.fromkeys(check_names("key", key)))
    if not keys:
        msg = "`key` names no comparison: pass one or several."
        raise ValueError(msg)
    table = pd.concat(
        [stored_summary(adata, comparison, None).assign(key=comparison) for comparison in keys], ignore_index=True
    )
    check_choice("metric", metric, table["metric"].unique())
    methods = chosen("methods", methods, table["method"])
    table = table[(table["metric"] == metric) & table["method"].isin(methods)]
    panels = chosen("panels", panels, table["panel"])
    table = table[table["panel"].isin(panels)]
    runs = _runs(adata, table, parameter)
    varied = list(dict.fromkeys(run.value for run in runs if run.value is not None))
    if len(varied) < 2:
        raise ValueError(_not_varied(parameter, keys, runs))
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in varied)
    varied = sorted(varied) if numeric else varied
    places = {value: value if numeric else at for at, value in enumerate(varied)}
    families = _families(runs, parameter)

    measure = record_of(metric)
    scope = words_of(table, "scope")
    width = _PANEL_WIDTH * len(panels) + 0.8 + 0.09 * max(map(len, families))
    fig, axes = plt.subplots(1, len(panels), figsize=(width, 4), sharex=True, squeeze=False, layout="constrained")
    scores = table.set_index(["key", "method", "panel"])
    for ax, panel in zip(axes[0], panels, strict=True):
        if measure.mark is not None:
            ax.axhline(measure.mark, lw=0.8, color=text_colour(pale=False), alpha=0.3, zorder=0)
        for number, (family, members) in enumerate(families.items()):
            points = [
                (places.get(run.value), *scores.loc[(run.key, run.label, panel), ["value", "low", "high"]])
                for run in members
                if (run.key, run.label, panel) in scores.index
            ]
            _draw_family(ax, family, points, colour=f"C{number}")
        _set_ticks(ax, places, numeric=numeric)
        ax.set(title=f"{panel}\n{count_of(table.loc[table['panel'] == panel, 'n_genes'], 'gene')}", xlabel=parameter)
    axes[0, 0].set_ylabel(measure.label)
    # each name once: a label may lack a score in one panel, or stand in several comparisons
    named = {n: handle for ax in axes[0] for handle, n in zip(*ax.get_legend_handles_labels(), strict=True)}
    legend = fig.legend(named.values(), named.keys(), loc="outside right center")
    for text in legend.get_texts():
        text.set_parse_math(False)
    title = textwrap.wrap(measure.title + (f", {scope}" if scope else ""), int(width / _TITLE_LETTER))
    fig.suptitle("\n".join(title), x=_LEFT, ha="left")
    over = words_of(table[table["low"].notna() & table["high"].notna()], "interval_over", join=" or ")
    note = f"Vertical lines: bootstrap intervals over {over}." if over else "No interval could be given."
    fig.supxlabel(
        "\n".join(textwrap.wrap(note, int(width / _LETTER))), x=_LEFT, ha="left", fontsize="small", fontweight="normal"
    )
    return finish(fig, show=show, return_fig=return_fig)


@dataclass(frozen=True)
class _Run:
    """One method of one comparison, and how it was set."""

    key: str
    label: str
    value: Any
    """Value of the parameter; None where it was not set."""
    rest: Mapping[str, Any]
    """All arguments but the parameter."""


def _runs(adata: AnnData, table: pd.DataFrame, parameter: str) -> list[_Run]:
    """The settings of each label that is drawn, its own and those of its comparison."""
    runs = []
    for key, label in table[["key", "method"]].drop_duplicates().itertuples(index=False):
        path = f"adata.uns[{key!r}]"
        check_in(path, "config", adata.uns[key], remedy="`bleep_sc.tl.cross_validate` writes it.")
        with errors_naming(f"{path}['config']", writer="cross_validate"):
            config = json.loads(str(adata.uns[key]["config"]))
            check_in(f"{path}['config']['methods']", label, config["methods"])
            told = {name: value for name, value in config.items() if name not in _NO_SETTING} | config["methods"][label]
            told = {name: str(value) if isinstance(value, list) else value for name, value in told.items()}
            check_in(f"{path}['config']['methods'][{label!r}]", "method", told)
        runs.append(_Run(key, label, told.pop(parameter, None), told))
    return runs


def _families(runs: Sequence[_Run], parameter: str) -> dict[str, list[_Run]]:
    """Group runs that differ in the parameter alone.

    A group is named by its method, and by the settings that tell it from that method's other groups. A run without the
    parameter is a group of its own, named by its label.
    """
    rests = list({json.dumps(run.rest, sort_keys=True): run.rest for run in runs if run.value is not None}.values())
    families: dict[str, list[_Run]] = {}
    for rest in rests:
        others = [other for other in rests if other["method"] == rest["method"]]
        differing = [name for name in rest if any(other.get(name) != rest[name] for other in others)]
        name = ", ".join([str(rest["method"]), *(f"{n}={rest[n]}" for n in differing)])
        families[name] = [run for run in runs if run.value is not None and run.rest == rest]
    named = list(families)
    for run in runs:
        if run.value is None:
            name = f"{run.label} ({parameter} not set)" if run.label in named else run.label
            families.setdefault(name, []).append(run)
    return families


def _not_varied(parameter: str, keys: Sequence[str], runs: Sequence[_Run]) -> str:
    """Message that the parameter was not varied. It says what was, so that a misspelt name is seen at once."""
    differing = sorted(
        name
        for name in {name for run in runs for name in run.rest} - {"method"}
        if len({str(run.rest[name]) for run in runs if name in run.rest}) > 1
    )
    values = list(dict.fromkeys(run.value for run in runs if run.value is not None))
    return (
        f"`parameter={parameter!r}` was not varied in {', '.join(map(repr, keys))}: "
        + (f"its only value is {values[0]!r}. " if values else "no method sets it. ")
        + (f"Varied were {', '.join(map(repr, differing))}. " if differing else "")
        + "Give `bleep_sc.tl.cross_validate` several labels that set it differently by `method_kwargs`, or name "
        "several comparisons by `key`."
    )


def _draw_family(ax: "Axes", name: str, points: Sequence[Sequence[Any]], *, colour: str) -> None:
    """Draw a line through the scores of a group, or one right across where the parameter was not set."""
    varied = sorted((point for point in points if point[0] is not None), key=lambda point: point[0])
    for _, value, _, _ in (point for point in points if point[0] is None):
        ax.axhline(value, ls="--", lw=1.2, color=colour, label=name)
    if not varied:
        return
    at, value, low, high = np.array(varied, dtype=np.float64).T
    ax.vlines(at, low, high, color=colour, lw=1.2, alpha=0.7)
    ax.plot(at, value, "o-", color=colour, ms=5, lw=1.5, label=name)


def _set_ticks(ax: "Axes", places: Mapping[Any, float], *, numeric: bool) -> None:
    """Set a tick at each value that was tried, on a log scale where the values span ten times or more."""
    from matplotlib.ticker import NullLocator

    at = list(places.values())
    if numeric and min(at) > 0 and max(at) >= _LOG_FROM * min(at):
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
    crowded = sum(len(str(value)) for value in places) > _CROWDED
    ax.set_xticks(at, [f"{v:g}" if numeric else str(v) for v in places], rotation=90 if crowded else 0)
