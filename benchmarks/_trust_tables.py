"""The tables and the figure of "How far to trust a value", from the figures in benchmarks/results/."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

RESULTS = Path(__file__).parent / "results"
COVERAGE = RESULTS / "trust-coverage.md"
LISTS = RESULTS / "trust-lists.md"
FIGURE = Path(__file__).parents[1] / "docs" / "_static" / "trust.svg"
SPLITS = {
    "toy": "toy tissue, one of four patients",
    "her2st": "HER2ST, one of five sections",
    "mob2k": "bulb, one animal to the other",
    "mob1k": "bulb, two animals to another array",
    "her2st_b": "HER2ST, one patient to another",
    "her2st-best": "HER2ST, one of five sections, `preset='best'`",
    "mob2k-best": "bulb, one animal to the other, `preset='best'`",
    "mob1k-best": "bulb, two animals to another array, `preset='best'`",
    "her2st_b-best": "HER2ST, one patient to another, `preset='best'`",
}
"""What the tables of trust call the splits of `trust_intervals.py`."""


def trust_rows(data: str) -> pd.DataFrame:
    """Rows of coverage of one kind of split; none where it was not run."""
    return pd.DataFrame([row for record in _trust_records(data) for row in record["rows"]])


def _trust_records(data: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"trust-{data}.json"))]


def coverage() -> str:
    """The table of coverage, and what made it."""
    names = ["all", "HEG", "genes ≥ 0.8", "top", "nearest", "farthest", "own table"]
    lines = ["| | label | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    records = []
    for data, title in SPLITS.items():
        if not (found := _trust_records(data)):
            continue
        records += found
        rows = trust_rows(data)
        at = rows[np.isclose(rows["level"], 0.9)]
        mean = at.groupby("panel")["coverage"].mean()
        shown = ["all", "HEG", None, "top", "distance 1", "distance 5", "own table, all"]
        values = [at[at["panel"] == "all"]["genes_above"].mean() if panel is None else mean[panel] for panel in shown]
        label = str(at["scope"].iloc[0])
        lines.append(f"| {title} | {label} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
    by_split = ["| scored | " + " | ".join(f"{level:.0%}" for level in (0.5, 0.8, 0.9, 0.95)) + " | HEG, 90% |"]
    by_split.append("|---|" + "---|" * 5)
    for data in SPLITS:
        rows = trust_rows(data)
        if rows.empty:
            continue
        for split, own in rows.groupby("split", sort=False):
            level = own[own["panel"] == "all"].groupby("level")["coverage"].mean()
            heg = own[(own["panel"] == "HEG") & np.isclose(own["level"], 0.9)]["coverage"].mean()
            cells = [f"{value:.3f}" for value in [*level, heg]]
            tissue, *_, last = SPLITS[data].split(", ")
            named = f"{tissue}, {split}" + (f", {last}" if "preset" in last else "")
            by_split.append(f"| {named} | " + " | ".join(cells) + " |")
    table, splits = "\n".join(lines), "\n".join(by_split)
    return f"{table}\n\nThe same, section by section, at four levels:\n\n{splits}\n\n{sources(records)}\n"


def draw_coverage(path: Path) -> None:
    """Draw coverage by level, by what is scored, and by distance to the reference."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "bleep_sc"  # the same figures give the same file
    fig, axes = plt.subplots(1, 3, figsize=(10, 5), layout="constrained", width_ratios=[1, 1.2, 1])
    by_level, by_split, by_distance = axes
    by_level.plot([0.45, 1], [0.45, 1], ":", color="0.4", lw=1)
    labels, place = [], 0
    colors = {tissue: f"C{number}" for number, tissue in enumerate(d for d in SPLITS if not d.endswith("-best"))}
    for data in SPLITS:
        rows = trust_rows(data)
        if rows.empty:
            continue
        best = data.endswith("-best")
        color = colors[data.removesuffix("-best")]
        line: dict[str, Any] = {"color": color, "ls": "--" if best else "-", "marker": "o", "ms": 3.5, "lw": 1.2}
        level = rows[rows["panel"] == "all"].groupby("level")["coverage"].mean()
        by_level.plot(level.index, level, **line, label=SPLITS[data].replace("`", ""))
        at = rows[np.isclose(rows["level"], 0.9)]
        for split, own in at.groupby("split", sort=False):
            mean = own.groupby("panel")["coverage"].mean()
            by_split.plot(mean["all"], place, "o", color=color, ms=5)
            by_split.plot(mean["HEG"], place, "s", color=color, ms=5, mfc="white")
            labels.append(f"{split}, best" if best else str(split))
            place -= 1
        fifths = at[at["panel"].str.startswith("distance")].groupby("panel")["coverage"].mean()
        by_distance.plot(np.arange(1, len(fifths) + 1), fifths, **line)
    by_level.set(xlabel="level", ylabel="measured values within", xlim=(0.45, 1), ylim=(0.45, 1))
    by_split.axvline(0.9, ls=":", color="0.4", lw=1)
    by_split.set_yticks(-np.arange(len(labels)), labels, fontsize="x-small")
    by_split.set(xlabel="within, level 0.9 (hollow: highest genes)", xlim=(None, 1))
    by_distance.axhline(0.9, ls=":", color="0.4", lw=1)
    by_distance.set(xlabel="fifth of the spots, nearest first", ylabel="within, level 0.9", xticks=range(1, 6))
    fig.legend(loc="outside lower center", ncols=2, fontsize="small", frameon=False)
    fig.savefig(path, metadata={"Date": None})
    plt.close(fig)


LISTED = ("listed", "positive", "unlisted positive", "expected r holds", "false finds", "power")
"""What is said of each list, in the order of the table."""
ARTEFACTS_OF = ("C6", "MOB3")
PRESETS = {"": "reliability", ", `preset='best'`": "reliability-best"}
"""What the table of planted faults adds to a section's name, and the figures of that preset."""


def lists() -> str:
    """The tables of genes and of spots, and what made them."""
    lines = ["| a list that is tried on | genes | positive there | of others | expected r holds | false | power |"]
    lines.append("|---|" + "---|" * len(LISTED))
    records = []
    for data, title in SPLITS.items():
        rows = trust_rows(data)
        if rows.empty:
            continue
        records += _trust_records(data)
        mean = rows[rows["panel"].str.startswith("list: ")].groupby("panel")["coverage"].mean()
        cells = [f"{mean[f'list: {name}']:.3f}" if f"list: {name}" in mean else "" for name in LISTED]
        cells[0] = f"{mean['list: listed']:.0f}"
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    parts = ["\n".join(lines) + "\n"]
    if turned := _trust_records("genes-mob2k"):
        records += turned
        right, *wrong = turned[0]["rows"]
        found = ", ".join(f"{row['listed']} ({row['listed, naive']})" for row in wrong)
        parts.append(
            f"Wrong predictions were made by turning those of the olfactory bulb by 90, 180 and 270°: {found} of "
            f"{right['genes']} genes were then listed. Not turned, {right['listed']} ({right['listed, naive']}) were. "
            "In brackets are the numbers for p-values that treat spots as independent.\n"
        )
    if painted := _trust_records("genes-toy"):
        records += painted
        rows = pd.DataFrame(painted[0]["rows"])
        parts.append(
            f"On painted tissue of {len(rows)} seeds, with four patients, {rows['false finds'].mean():.3f} of the "
            f"lists were false, at a power of {rows['power'].mean():.3f}. For the screen before any model, the numbers "
            f"were {rows['screen: false finds'].mean():.3f} and {rows['screen: power'].mean():.3f}.\n"
        )
    if costs := _trust_records("cost"):
        records += costs
        alone, with_lists = (row["seconds"] for row in costs[0]["rows"])
        row = costs[0]["rows"][0]
        parts.append(
            f"`bl.tl.calibrate` took {alone:.0f} s for intervals on {row['n_spots']:,} spots × {row['n_genes']:,} "
            f"genes, with one thread, and {with_lists - alone:.0f} s more for the lists.\n"
        )
    if strange := {name: found for name, data in PRESETS.items() for found in _trust_records(data)}:
        records += strange.values()
        parts.append(_artefacts(strange))
    commands = dict.fromkeys(f"- `{r['command']}` (commit {r['commit']})\n" for r in records)
    return "\n".join([*parts, "Made by:\n", "".join(commands)])


def _artefacts(records: dict[str, dict[str, Any]]) -> str:
    """How well spots with a planted fault are told from clean ones, by preset."""
    columns = {}
    for preset, record in records.items():
        rows = pd.DataFrame(record["artefacts"])
        for section in ARTEFACTS_OF:
            of_section = rows[rows["section"] == section].set_index("artefact")
            columns[f"AUROC, {section}{preset}"] = of_section["auroc"]
    table = pd.DataFrame(columns, index=dict.fromkeys(next(iter(columns.values())).index))
    lines = ["| planted in 60 spots | " + " | ".join(table) + " |", "|---|" + "---|" * table.shape[1]]
    lines += [f"| {name} | " + " | ".join(f"{value:.3f}" for value in row) + " |" for name, row in table.iterrows()]
    return "\n".join(lines) + "\n"


def sources(records: list[dict[str, Any]]) -> str:
    """Name the commands, and the commits that they were run at."""
    return "Made by " + ", ".join(f"`{r['command']}` (commit {r['commit']})" for r in records) + "."
