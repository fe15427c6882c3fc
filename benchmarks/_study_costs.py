"""What each study cost, from the figures in benchmarks/results/."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from _study_reference import curve_records
from _study_sweep_table import RECIPES, sweep_records
from _study_tissue_tables import TRANSFERS, transfer_records

TISSUES = {"her2st": "HER2ST", "mob2k": "bulb", "toy": "toy"}
COSTS = Path(__file__).parent / "results" / "study-costs.md"


def costs() -> str:
    """The table: the minutes of one core of each sweep, learning curve and transfer matrix."""
    lines = ["| call | tissue | recipe | minutes of one core |", "|---|---|---|---|"]
    return "\n".join([*lines, *("| " + " | ".join(cells) + " |" for cells in _rows()), ""])


def _rows() -> Iterator[list[str]]:
    for record in sweep_records():
        n_values = len({(row["k"], row["temperature"]) for row in record["summary"] if row["k"]})
        call = f"`tl.sweep`, {n_values} combinations"
        yield [call, TISSUES[record["data"]], RECIPES[record["recipe"]], _minutes(record["seconds"]["processor"])]
    for record in curve_records().values():
        call = f"`tl.learning_curve`, by {record['by']}, {record['trainings']} trainings"
        yield [call, TISSUES[record["data"]], _recipe(record), _minutes(record["seconds_of_processor"])]
    for name, record in transfer_records().items():
        minutes = _minutes(record["seconds"]["processor"])
        yield ["`tl.transfer_matrix`", TRANSFERS[name].removesuffix(", the default recipe"), _recipe(record), minutes]


def _recipe(record: dict[str, Any]) -> str:
    return "default" if record["method"] == "bleep" else record["method"]


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:,.1f}"


COST_PAGES: dict[Path, Callable[[], str]] = {COSTS: costs}
"""What is written, and what it is made by."""
