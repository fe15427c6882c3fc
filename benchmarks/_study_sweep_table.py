"""The table and the figure of how much k and the temperature matter, from the figures in benchmarks/results/."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _trust_tables import sources
from anndata import AnnData

import bleep_sc as bl

RESULTS = Path(__file__).parent / "results"
SWEEPS = RESULTS / "study-sweep.md"
SWEEP_FIGURE = Path(__file__).parents[1] / "docs" / "_static" / "study-sweep.svg"
DATA = {
    "her2st": "HER2ST, one of five sections",
    "mob2k": "Bulb, one animal to the other",
    "toy": "Toy tissue, one of three patients",
}
RECIPES = {"paper": "paper", "published": "early stop", "default": "default"}
PANELS = ("all", "HVG-50")


def sweep_records() -> list[dict[str, Any]]:
    """What `study_sweep.py` has written, in a fixed order."""
    paths = [RESULTS / f"study-sweep-{data}-{recipe}.json" for data in DATA for recipe in RECIPES]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def sweeps() -> str:
    """A table for each tissue: by recipe what both ranges give, what the folds chose, and its honest score."""
    records = sweep_records()
    header = ["recipe", "panel", "k = 1", "k = 5", "k = 20", "over τ", "honest score", "chosen k", "chosen τ"]
    lines = []
    for data, title in DATA.items():
        of_tissue = [record for record in records if record["data"] == data]
        lines += [f"**{title}**", "", "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
        lines += ["| " + " | ".join(cells) + " |" for record in of_tissue for cells in _rows(record)]
        lines.append("")
    lines += ['Columns of k are means over τ. "over τ" gives the lowest and the highest score at k = 20.', ""]
    lines += ["The verdict of each sweep:", ""]
    for record in records:
        title = f"{DATA[record['data']]}, {RECIPES[record['recipe']]}"
        # what was stored before the verdict was two sentences
        verdict = record["verdict"].replace("; the farthest", ". The farthest")
        lines.append(f"- **{title}.** {verdict} ({_seconds(record)})")
    return "\n".join([*lines, "", sources(records), ""])


def _rows(record: dict[str, Any]) -> Iterator[list[str]]:
    """Give a row of cells for each panel."""
    summary = pd.DataFrame(record["summary"]).query("metric == 'pearson'")
    chosen = pd.DataFrame(record["chosen"])
    for panel in PANELS:
        rows = summary[summary["panel"] == panel]
        honest = rows[rows["k"].isna()].iloc[0]
        at = rows.groupby("k")["value"].mean()
        most = rows.loc[rows["k"] == rows["k"].max(), "value"]
        scores = [*(f"{at[k]:.3f}" for k in (1, 5, 20)), f"{most.min():.3f} to {most.max():.3f}"]
        choices = [_distinct(chosen[name]) for name in ("k", "temperature")]
        yield [RECIPES[record["recipe"]], panel, *scores, _with_interval(honest), *choices]


SWEEP_PAGES: dict[Path, Callable[[], str]] = {SWEEPS: sweeps}
"""What is written, and what it is made by."""


def _with_interval(row: pd.Series) -> str:
    known = "" if pd.isna(row["low"]) else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['value']:.3f}{known}"


def _distinct(values: pd.Series) -> str:
    counts = values.value_counts().sort_index()
    return ", ".join(f"{value:g}" + (f" ({n}×)" if len(counts) > 1 else "") for value, n in counts.items())


def _seconds(record: dict[str, Any]) -> str:
    return f"{record['seconds']['processor']:,.0f} s of one core"


def draw_sweeps(path: Path) -> None:
    """Draw the map of the first sweep, as `bl.pl.sweep` draws a user's."""
    import matplotlib as mpl

    records = sweep_records()
    if not records:
        return
    mpl.rcParams["svg.hashsalt"] = "bleep_sc"  # the same figures give the same file
    record = records[0]
    adata = AnnData(np.zeros((1, 1), dtype=np.float32))
    parts = {name: pd.DataFrame(record[name]) for name in ("summary", "chosen")}
    adata.uns["sweep"] = {**parts, "verdict": record["verdict"], "config": record["config"]}
    fig = bl.pl.sweep(adata, panels=list(PANELS), return_fig=True)
    assert fig is not None
    fig.savefig(path, metadata={"Date": None})
