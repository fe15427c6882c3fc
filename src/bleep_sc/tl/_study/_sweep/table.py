"""The tables of a sweep: what each fold chose, all scores, and their means with the honest ones beside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bleep_sc._logging import logger
from bleep_sc.metrics.registry import METRICS
from bleep_sc.metrics.summary import for_uns, summarize
from bleep_sc.tl._study._sweep.apart import differences, in_words
from bleep_sc.tl._study._sweep.grid import Grid

CHOSEN = "chosen by the folds"
"""Name of the honest score among the settings."""
_ROUNDED = 9
_COUNTED = ("n_genes", "n_missing", "n_constant_truth", "n_constant_prediction")


@dataclass(frozen=True)
class Swept:
    """The results of a sweep."""

    scores: pd.DataFrame
    summary: pd.DataFrame
    chosen: pd.DataFrame
    verdict: str


def tables(
    outer: Sequence[Mapping[str, Any]],
    inner: Sequence[Mapping[str, Any]],
    grid: Grid,
    *,
    metric: str,
    panel: str,
    labels: Mapping[str, str],
    n_bootstrap: int,
    random_state: int,
) -> Swept:
    """Choose a setting in each fold by its inner folds, and put all scores together."""
    by_fold = _inner_means(pd.DataFrame(inner))
    chosen = _choose(by_fold, metric=metric, panel=panel)
    scores = pd.DataFrame(outer).sort_values(["fold", "setting"], kind="stable")
    scores["chosen"] = scores["setting"] == scores["fold"].map(chosen)
    scores = scores.join(by_fold, on=["fold", "setting", "panel", "metric"])
    found = {
        key: differences(rows, random_state=random_state)
        for key, rows in scores.groupby(["panel", "metric"], sort=False)
    }
    names = [grid.label(number) for number in range(len(grid.settings))]
    summary = _summary(scores, names, found, n_bootstrap=n_bootstrap, random_state=random_state)
    summary = _with_parameters(summary, grid).assign(**labels)
    apart, over = found[panel, metric]
    verdict = in_words(apart, names, over, metric=metric, panel=panel) + _at_an_end(chosen, grid)
    table = _with_parameters(scores.assign(**labels), grid)
    first = [*grid.values, "fold", "section", "patient", "panel", "metric", "value", "inner_value", "chosen"]
    table = table[[*first, *_COUNTED, *labels]]
    return Swept(for_uns(table), for_uns(summary), _chosen_table(chosen, by_fold, grid, metric, panel), verdict)


def _at_an_end(chosen: Mapping[str, int], grid: Grid) -> str:
    """Say where most folds chose the first or last of the numbers that were tried: the best may lie beyond."""
    said = ""
    for name, values in grid.values.items():
        if len(values) < 3 or isinstance(values[0], str):
            continue
        picked = [grid.settings[number][name] for number in chosen.values()]
        for end, word in ((min(values), "smallest"), (max(values), "largest")):
            if 2 * picked.count(end) > len(picked):
                said += f" Most folds chose the {word} {name} that was tried, {end}: the best may lie beyond."
    return said


def _inner_means(inner: pd.DataFrame) -> pd.Series:
    """Take the mean over the sections of each inner fold, then over inner folds."""
    keys = ["fold", "setting", "panel", "metric"]
    of_inner = inner.groupby([*keys, "inner_fold"])["value"].mean()
    return of_inner.groupby(keys).mean().rename("inner_value")


def _choose(by_fold: pd.Series, *, metric: str, panel: str) -> dict[str, int]:
    """Choose the setting that is best on the inner folds of each fold; of two alike, the one that was given first."""
    of_score = by_fold.xs((panel, metric), level=("panel", "metric")).unstack("fold")
    ranked = {fold: METRICS[metric].rank(values).round(_ROUNDED).dropna() for fold, values in of_score.items()}
    if empty := [fold for fold, values in ranked.items() if values.empty]:
        msg = f"no fold within {empty[0]!r} has a value of {metric!r} on {panel!r}, by which to choose: name another."
        raise ValueError(msg)
    return {str(fold): int(values.idxmax()) for fold, values in ranked.items()}


def _summary(
    scores: pd.DataFrame,
    names: Sequence[str],
    found: Mapping[Any, tuple[pd.DataFrame, str]],
    *,
    n_bootstrap: int,
    random_state: int,
) -> pd.DataFrame:
    """Take means over sections, then patients, of each setting and of what the folds chose."""
    honest = scores[scores["chosen"]].assign(setting=-1)
    rows = pd.concat([honest, scores])
    rows["method"] = rows["setting"].map(lambda number: CHOSEN if number < 0 else names[number])
    summary = summarize(rows.to_dict("records"), n_bootstrap=n_bootstrap, random_state=random_state)
    numbers = {CHOSEN: -1, **{name: number for number, name in enumerate(names)}}
    summary.insert(0, "setting", summary["method"].map(numbers))
    for column in ("difference", "low", "high"):
        name = column if column == "difference" else f"difference_{column}"
        summary[name] = [
            float("nan") if row.setting < 0 else found[row.panel, row.metric][0].loc[row.setting, column]
            for row in summary.itertuples()
        ]
    return summary


def _with_parameters(table: pd.DataFrame, grid: Grid) -> pd.DataFrame:
    """Put the value of each parameter in place of the number of the setting; none for what the folds chose."""
    out = table.drop(columns="setting")
    for at, (name, values) in enumerate(grid.values.items()):
        none = "" if isinstance(values[0], str) else float("nan")
        of_setting = {-1: none, **{number: setting[name] for number, setting in enumerate(grid.settings)}}
        out.insert(at, name, [of_setting[number] for number in table["setting"]])
    return out


def _chosen_table(chosen: Mapping[str, int], by_fold: pd.Series, grid: Grid, metric: str, panel: str) -> pd.DataFrame:
    rows = [
        {"fold": fold, **grid.settings[number], "inner_value": float(by_fold.loc[(fold, number, panel, metric)])}
        for fold, number in chosen.items()
    ]
    return for_uns(pd.DataFrame(rows))


def report(swept: Swept, *, metric: str, panel: str) -> None:
    """Print what the folds chose, the honest score, and whether the settings can be told apart."""
    rows = swept.summary[(swept.summary["metric"] == metric) & (swept.summary["panel"] == panel)]
    honest = rows[rows["method"] == CHOSEN].iloc[0]
    parameters = [name for name in swept.chosen if name not in ("fold", "inner_value")]
    lines = [
        f"{row['fold']!r} held out: " + ", ".join(f"{name}={row[name]}" for name in parameters)
        for _, row in swept.chosen.iterrows()
    ]
    known = "" if pd.isna(honest["low"]) else f" [{honest['low']:.3f}, {honest['high']:.3f}]"
    logger.info(
        "Chosen on training sections:\n%s\nHonest %s of %r: %.3f%s, %s. %s",
        "\n".join(lines),
        metric,
        panel,
        honest["value"],
        known,
        honest["scope"],
        swept.verdict,
    )
