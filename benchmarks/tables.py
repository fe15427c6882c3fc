"""Write BENCHMARKS.md from the figures in benchmarks/results/, so that no number is typed by hand.

python benchmarks/tables.py
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "BENCHMARKS.md"
PANELS = ("all", "HEG-50", "HVG-50", "markers")

TITLES = {
    "her2st": ("HER2ST, patient C, sections C2 to C6", "Leave one section out; all five sections are of one patient."),
    "mob2k": ("Mouse olfactory bulb, four sections of two animals", "Leave one animal out."),
    "toy": ("Toy tissue, three patients, truth known", "Leave one patient out; two thirds of the genes are linked."),
}

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


def main() -> None:
    PAGE.write_text(page())
    print(f"wrote {PAGE}")


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for data, (title, note) in TITLES.items():
        records = [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"{data}-*.json"))]
        if records:
            parts.append(f"## {title}\n\n{note} {_sources(records)}\n\n{_table(records)}\n")
    return "\n".join(parts)


def _sources(records: list[dict[str, Any]]) -> str:
    return "Made by " + ", ".join(f"`{r['command']}` (commit {r['commit']})" for r in records) + "."


def _table(records: list[dict[str, Any]]) -> str:
    summary = pd.concat([pd.DataFrame(record["summary"]) for record in records])
    panels = [panel for panel in PANELS if panel in set(summary["panel"])]
    lines = [
        "| method | " + " | ".join(panels) + " | variance |",
        "|---|" + "---|" * (len(panels) + 1),
    ]
    for method, rows in summary.groupby("method", sort=False):
        floor = str(method).split(",")[0].split(" ")[0] in ("mean", "counts", "coordinates", "ridge", "knn")
        cells = [f"*{method}*" if floor else str(method), *(_cell(rows, panel) for panel in panels)]
        ratio = rows[(rows["panel"] == "HVG-50") & (rows["metric"] == "variance_ratio")]["value"].mean()
        lines.append("| " + " | ".join([*cells, f"{ratio:.2f}"]) + " |")
    pearson = summary[summary["metric"] == "pearson"]
    ceiling = pearson.groupby("panel")["ceiling"].mean()
    lines.append("| noise ceiling | " + " | ".join(f"{ceiling[panel]:.3f}" for panel in panels) + " | |")
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
