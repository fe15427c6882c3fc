"""The table of "A few measured spots", from the figures in benchmarks/results/."""

import json
from pathlib import Path

import pandas as pd
from _trust_tables import sources

RESULTS = Path(__file__).parent / "results"
MEASURED = RESULTS / "measured-spots.md"
DATA = {"her2st": "HER2ST, one of five sections", "mob2k": "Bulb, one animal to the other"}
KINDS = ("without", "with", "interpolation")


def measured_spots() -> str:
    """The tables of what measured spots gain, one a tissue, and what made them."""
    names = ["without", "with", "interpolation alone", "gain", "least gain of a section"]
    paths = [RESULTS / f"measured-{data}.json" for data in DATA]
    records = [json.loads(path.read_text()) for path in paths if path.exists()]
    lines = []
    for record in records:
        lines += [f"{DATA[record['data']]}:", "", "| measured | panel | " + " | ".join(names) + " |"]
        lines.append("|" + "---|" * (2 + len(names)))
        summary = pd.DataFrame(record["summary"]).sort_values(["design", "share"], ascending=[False, True])
        for (design, share, panel), cell in summary.groupby(["design", "share", "panel"], sort=False):
            plain, free = (cell.set_index("metric").loc[metric] for metric in ("pearson", "pearson_depth_free"))
            cells = [f"{share:.0%}, {design}", str(panel)]
            cells += [f"{plain[kind]:.3f} ({free[kind]:.3f})" for kind in KINDS]
            gain, free_gain = (row["with"] - row["without"] for row in (plain, free))
            cells += [f"{gain:+.3f} ({free_gain:+.3f})", f"{plain['least_gain']:+.3f} ({free['least_gain']:+.3f})"]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join([*lines, sources(records), ""])
