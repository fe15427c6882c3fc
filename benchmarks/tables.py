"""Write BENCHMARKS.md and the tables of other pages from the figures in benchmarks/results/: none is typed by hand.

python benchmarks/tables.py
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "BENCHMARKS.md"
ATLAS = RESULTS / "atlas.md"
TRUST = RESULTS / "trust.md"
TRUST_FIGURE = Path(__file__).parents[1] / "docs" / "_static" / "trust.svg"
PANELS = ("all", "HEG-50", "HVG-50", "markers")

TITLES = {
    "her2st": ("HER2ST, patient C, sections C2 to C6", "Leave one section out; all five sections are of one patient."),
    "mob2k": ("Mouse olfactory bulb, four sections of two animals", "Leave one animal out."),
    "toy": ("Toy tissue, three patients, truth known", "Leave one patient out; two thirds of the genes are linked."),
}

STRUCTURE = {"gene_gene": "genes", "moran_agreement": "space"}
"""Metrics of structure, and what the tables call them."""

INTRODUCTION = """\
# Benchmarks

Mean Pearson correlation of each gene over the spots of each held-out section, on measured log-expression, and in
brackets the same with sequencing depth regressed out of truth and prediction. Spots of at least 500 counts. Genes,
panels (HEG-50, HVG-50: highest mean and variance), penalties, `k` and epochs are chosen on the training sections of
each fold. Mean ± standard deviation over seeds where a method has a random part and several were run. *Variance*: that
of the prediction over that of the truth, HVG-50. Floors are in italics; `counts` reads the total counts of the spots
that it predicts. "z": features standardised within each section. No pretrained weights anywhere; networks start from
random weights and train for 5 epochs, with one seed, since this was run on a CPU; networks that a command names and a
table lacks were not run in the time at hand.
"""


PARTS = """\
## Which parts pay

BLEEP's default recipe with one part left out or changed, and what it grew from: published BLEEP's heads and loss on
the same features. "retrieval" and "regression" are the default's two halves by themselves (`impute(predict=)`). What
that costs besides correlation, over HVG-50: *variance* as above; *genes*, agreement of gene-gene correlations, and
*space*, agreement of Moran's I between genes, both as correlations with the measured ones.
"""

SPEED = """\
## Speed and memory

Each ratio is that of two things timed in turn in one run, the median of several rounds: seconds of the first by those
of the second, unless the row says otherwise, so 1 is as quick and below 1 is quicker. Seconds hold for the machine
named, which other work was kept off; ratios hold more widely.
"""


def main() -> None:
    for path, text in ((PAGE, page()), (ATLAS, atlas()), (TRUST, trust())):
        path.write_text(text)
        print(f"wrote {path}")
    draw_trust(TRUST_FIGURE)


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for data, (title, note) in TITLES.items():
        records = _records(data, "features") + _records(data, "networks")
        if records:
            parts.append(f"## {title}\n\n{note} {_sources(records)}\n\n{_table(records)}\n")
    parts.append(PARTS)
    for data, (title, note) in TITLES.items():
        records = _records(data, "parts")
        if records:
            parts.append(f"### {title}\n\n{note} {_sources(records)}\n\n{_table(records, structure=True)}\n")
    parts.append(SPEED)
    for path in sorted(RESULTS.glob("speed-*.json")):
        record = json.loads(path.read_text())
        parts.append(f"{_sources([record])[:-1]}, on {record['machine']}.\n\n{_speed_table(record['rows'])}\n")
    return "\n".join(parts)


def atlas() -> str:
    """The bill of an atlas, on paper."""
    record = json.loads(ATLAS.with_suffix(".json").read_text())
    return f"{_sources([record])[:-1]}, on {record['machine']}.\n\n{bill(record)}\n"


SPLITS = {
    "toy": "toy tissue, one of four patients left out",
    "her2st": "HER2ST, one of five sections of a patient left out",
    "mob2k": "olfactory bulb, one animal to the other",
    "mob1k": "olfactory bulb, two animals to another array",
    "her2st_b": "HER2ST, one patient to another",
}
"""What the tables of trust call the splits of `trust_intervals.py`."""


def trust_rows(data: str) -> pd.DataFrame:
    """Rows of coverage of one kind of split; none where it was not run."""
    return pd.DataFrame([row for record in _trust_records(data) for row in record["rows"]])


def _trust_records(data: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"trust-{data}.json"))]


def trust() -> str:
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
            by_split.append(f"| {SPLITS[data].split(',')[0]}, {split} | " + " | ".join(cells) + " |")
    table, splits = "\n".join(lines), "\n".join(by_split)
    return f"{table}\n\nThe same, section by section, at four levels:\n\n{splits}\n\n{_sources(records)}\n"


def draw_trust(path: Path) -> None:
    """Draw coverage by level, by what is scored, and by distance to the reference."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "bleep_sc"  # the same figures give the same file
    fig, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained", width_ratios=[1, 1.2, 1])
    by_level, by_split, by_distance = axes
    by_level.plot([0.45, 1], [0.45, 1], ":", color="0.4", lw=1)
    labels, place = [], 0
    for number, data in enumerate(SPLITS):
        rows = trust_rows(data)
        if rows.empty:
            continue
        level = rows[rows["panel"] == "all"].groupby("level")["coverage"].mean()
        by_level.plot(level.index, level, "o-", ms=3.5, lw=1.2, color=f"C{number}", label=SPLITS[data])
        at = rows[np.isclose(rows["level"], 0.9)]
        for split, own in at.groupby("split", sort=False):
            mean = own.groupby("panel")["coverage"].mean()
            by_split.plot(mean["all"], place, "o", color=f"C{number}", ms=5)
            by_split.plot(mean["HEG"], place, "s", color=f"C{number}", ms=5, mfc="white")
            labels.append(str(split))
            place -= 1
        fifths = at[at["panel"].str.startswith("distance")].groupby("panel")["coverage"].mean()
        by_distance.plot(np.arange(1, len(fifths) + 1), fifths, "o-", ms=3.5, lw=1.2, color=f"C{number}")
    by_level.set(xlabel="level", ylabel="measured values within", xlim=(0.45, 1), ylim=(0.45, 1))
    by_split.axvline(0.9, ls=":", color="0.4", lw=1)
    by_split.set_yticks(-np.arange(len(labels)), labels, fontsize="x-small")
    by_split.set(xlabel="within, level 0.9 (hollow: highest genes)", xlim=(None, 1))
    by_distance.axhline(0.9, ls=":", color="0.4", lw=1)
    by_distance.set(xlabel="fifth of the spots, nearest first", ylabel="within, level 0.9", xticks=range(1, 6))
    fig.legend(loc="outside lower center", ncols=2, fontsize="small", frameon=False)
    fig.savefig(path, metadata={"Date": None})
    plt.close(fig)


def bill(record: dict[str, Any]) -> str:
    """A table of what each step of an atlas costs."""
    gpu = f"one GPU at {record['gpu_tflops']:g} TFLOP/s, assumed"
    lines = [
        f"| step | operations | leaves | one unit, measured | this machine | {record['machines']} of them | {gpu} |",
        "|---|---|---|---|---|---|---|",
    ]
    for step in record["steps"]:
        seconds = step["units"] * step["seconds"]
        total = step["operations"] and step["units"] * step["operations"]
        cells = [
            step["what"],
            f"{total:.1e}" if total else "not counted",
            f"{step['data'] / 1e9:,.0f} GB" if step["data"] else "",
            f"{step['seconds']:.1e} s",
            _duration(seconds),
            _duration(seconds / record["machines"]) if step["divisible"] else "no",
            _duration(total / record["gpu_tflops"] / 1e12) if total else "not known",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.2g} s"
    hours = seconds / 3600
    return f"{hours / 24:,.0f} days" if hours > 72 else f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.0f} min"


def _speed_table(rows: list[dict[str, Any]]) -> str:
    lines = ["| what | measured against | ratio | goal | |", "|---|---|---|---|---|"]
    lines += [f"| {r['what']} | {r['against']} | {r['ratio']:.2f} | {r['goal']} | {r['detail']} |" for r in rows]
    return "\n".join(lines)


def _records(data: str, group: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"{data}-{group}*.json"))]


def _sources(records: list[dict[str, Any]]) -> str:
    return "Made by " + ", ".join(f"`{r['command']}` (commit {r['commit']})" for r in records) + "."


def _table(records: list[dict[str, Any]], *, structure: bool = False) -> str:
    summary = pd.concat([pd.DataFrame(record["summary"]) for record in records])
    panels = [panel for panel in PANELS if panel in set(summary["panel"])]
    of_hvg = {"variance": "variance_ratio"} | ({name: name for name in STRUCTURE} if structure else {})
    lines = [
        "| method | " + " | ".join([*panels, *(STRUCTURE.get(name, name) for name in of_hvg)]) + " |",
        "|---|" + "---|" * (len(panels) + len(of_hvg)),
    ]
    for method, rows in summary.groupby("method", sort=False):
        floor = str(method).split(",")[0].split(" ")[0] in ("mean", "counts", "coordinates", "ridge", "knn")
        cells = [f"*{method}*" if floor else str(method), *(_cell(rows, panel) for panel in panels)]
        hvg = rows[rows["panel"] == "HVG-50"].groupby("metric")["value"].mean()
        lines.append("| " + " | ".join([*cells, *(f"{hvg[metric]:.2f}" for metric in of_hvg.values())]) + " |")
    pearson = summary[summary["metric"] == "pearson"]
    ceiling = pearson.groupby("panel")["ceiling"].mean()
    lines.append(
        "| noise ceiling | " + " | ".join(f"{ceiling[panel]:.3f}" for panel in panels) + " |" * (1 + len(of_hvg))
    )
    return "\n".join(lines)


def _cell(rows: pd.DataFrame, panel: str) -> str:
    own = rows[rows["panel"] == panel]
    pearson = own[own["metric"] == "pearson"]["value"].to_numpy()
    depth_free = own[own["metric"] == "pearson_depth_free"]["value"].mean()
    spread = f" ± {np.std(pearson, ddof=1):.3f}" if len(pearson) > 1 else ""
    return f"{_number(np.mean(pearson))}{spread} ({_number(depth_free)})"


def _number(value: float) -> str:
    return f"{round(float(value), 3) + 0.0:.3f}"  # adding 0 takes the sign off a rounded -0


if __name__ == "__main__":
    main()
