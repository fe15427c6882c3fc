"""The tables of a learning curve, and the text that is printed of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bleep_sc.metrics.summary import for_uns, summarize
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


def report(summary: pd.DataFrame, answers: pd.DataFrame, *, metric: str, by: By, n_folds: int, group_key: str) -> str:
    """Write the curve of one metric, and the answers, as text."""
    rows = summary[summary["metric"] == metric]
    panels = list(dict.fromkeys(rows["panel"]))
    over = rows["interval_over"].iloc[0] or "nothing"
    lines = [
        f"{metric} by gene within sections, by number of {by} trained on; {n_folds} folds by {group_key!r}, "
        f"{rows['scope'].iloc[0].upper()}; intervals over {over}:",
        f"{by:<10}" + "".join(f"{panel:>24}" for panel in panels),
    ]
    for size, of_size in rows.groupby("size"):
        own = of_size.set_index("panel")
        lines.append(f"{size:<10}" + "".join(f"{_cell(own.loc[panel]):>24}" for panel in panels))
    if rows["ceiling"].notna().any():
        ceilings = rows.groupby("panel", sort=False)["ceiling"].first()
        lines.append(f"{'ceiling':<10}" + "".join(f"{ceilings[panel]:>24.3f}" for panel in panels))
    return "\n".join([*lines, *verdict_lines(answers, metric)])


def _cell(row: pd.Series) -> str:
    interval = "" if np.isnan(row["low"]) else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['value']:.3f}{interval}"
