"""The table of "Share a model, not the patients' data", from the figures in benchmarks/results/."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from _trust_tables import sources

RESULTS = Path(__file__).parent / "results"
SLIM = RESULTS / "slim-model.md"
DATA = {"mob2k": "Bulb, one animal to the other", "her2st": "HER2ST, one section left out"}
FORMS = {"full": "full (hybrid)", "regression": "full, regression alone", "slim": "slim"}
SCORES = {"learned": "genes learned from", "HEG-50": "HEG-50", "HVG-50": "HVG-50"}


def slim_model() -> str:
    """The tables of what a slim model costs, one a tissue, and what made them."""
    records = [json.loads(path.read_text()) for data in DATA if (path := RESULTS / f"slim-{data}.json").exists()]
    lines = []
    for record in records:
        rows = pd.DataFrame(record["rows"])
        lines += [f"{DATA[record['data']]} ({', '.join(rows['split'].unique())}):", ""]
        lines.append("| model | " + " | ".join([*SCORES.values(), "coverage at 90 %", "file", "seconds"]) + " |")
        lines.append("|" + "---|" * (4 + len(SCORES)))
        for form, name in FORMS.items():
            own = rows[rows["form"] == form].mean(numeric_only=True)
            cells = [name, *(f"{own[score]:.3f}" for score in SCORES), f"{own['coverage']:.1%}"]
            lines.append("| " + " | ".join([*cells, _megabytes(own["bytes"]), f"{own['seconds']:.1f}"]) + " |")
        apart = rows["apart"].dropna()
        lines += ["", f"Slim and full regression differ by {apart.max():.1%} of the spread of a gene, or less.", ""]
    return "\n".join([*lines, sources(records), ""])


def _megabytes(n_bytes: Any) -> str:
    return "as above" if pd.isna(n_bytes) else f"{n_bytes / 1e6:.1f} MB"
