"""The tables of a learning curve, and the text that is printed of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bleep_sc._logging import log_table
from bleep_sc.metrics.summary import for_uns, summarize
from bleep_sc.tl._cv.scores import with_interval
from bleep_sc.tl._study._curve.by import By
from bleep_sc.tl._study._curve.forecast import verdict_lines

_OF_CURVE = ["size", "section", "patient", "panel", "metric"]
_MEANS = ("value", "ceiling")


def averaged(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Average the scores of each section over draws: one row for each size, section, panel and metric."""
    table = pd.DataFrame(list(rows))
    largest = [name for name in table if name.startswith("n_")]
    how = dict.fromkeys(_MEANS, "mean") | dict.fromkeys(largest, "max") | {"n_spots": "mean"}
    grouped = table.groupby(_OF_CURVE, sort=False, as_index=False)
    return grouped.agg({**how, "draw": "nunique"}).rename(columns={"draw": "n_draws"})


def summary_of(
    over_draws: pd.DataFrame,
    rows: Sequence[Mapping[str, Any]],
    *,
    words: Mapping[str, str],
    n_bootstrap: int,
    random_state: int,
) -> pd.DataFrame:
    """Take the mean over sections, then patients, at each size, with an interval over patients, else sections."""
    named = over_draws.assign(method=over_draws["size"])
    plain: Any = named.to_dict("records")
    summary = summarize(plain, draws=None, n_bootstrap=n_bootstrap, random_state=random_state)
    summary = summary.rename(columns={"method": "size"})
    by_size = over_draws.groupby("size")
    summary["n_spots"] = summary["size"].map(by_size["n_spots"].mean())
    summary["n_draws"] = summary["size"].map(by_size["n_draws"].max())
    drawn = pd.DataFrame(list(rows)).groupby([*_OF_CURVE])["value"].std()
    spread = drawn.groupby(level=["size", "panel", "metric"]).mean()
    keys = pd.MultiIndex.from_frame(summary[["size", "panel", "metric"]])
    summary["sd_draws"] = spread.reindex(keys).to_numpy()
    for name, value in words.items():
        summary[name] = value
    return for_uns(summary.sort_values(["size"], kind="stable"))


def report(summary: pd.DataFrame, answers: pd.DataFrame, *, metric: str, by: By, n_folds: int, group_key: str) -> None:
    """Log the curve of one metric, and the answers."""
    rows = summary[summary["metric"] == metric]
    panels = list(dict.fromkeys(rows["panel"]))
    over = rows["interval_over"].iloc[0] or "nothing"
    heading = (
        f"{metric} by gene within sections, by number of {by} trained on; {n_folds} folds by {group_key!r}, "
        f"{rows['scope'].iloc[0].upper()}; intervals over {over}:"
    )
    cells = {}
    for size, of_size in rows.groupby("size"):
        own = of_size.set_index("panel")
        cells[str(size)] = [with_interval(own.loc[panel]) for panel in panels]
    if rows["ceiling"].notna().any():
        ceilings = rows.groupby("panel", sort=False)["ceiling"].first()
        cells["ceiling"] = [f"{ceilings[panel]:.3f}" for panel in panels]
    table = pd.DataFrame.from_dict(cells, orient="index", columns=panels).rename_axis(by)
    log_table(heading, table, widths=[10] + [24] * len(panels), notes=verdict_lines(answers, metric))
