"""What is kept of a check in `uns`: plain values, arrays and a table, which every file holds."""

from typing import Any

import numpy as np
import pandas as pd

from bleep_sc.pp._alignment.section import Judged

_TEXTS = ("way", "kind")
_NUMBERS = (
    "score",
    "score_given",
    "gain",
    "standard_error",
    "gain_in_errors",
    "score_in_errors",
    "n_spots",
    "above_chance",
)
_NOTHING_COMPARED = pd.DataFrame(
    {name: pd.Series(dtype=object if name in _TEXTS else np.float64) for name in (*_TEXTS, *_NUMBERS)}
)


def record_of(judged: Judged, rows: np.ndarray) -> dict[str, Any]:
    """Make the record of one section.

    Parameters
    ----------
    judged
        What was found.
    rows
        The compared spots, as numbers of the section's rows (n,).
    """
    comparison = judged.comparison
    return {
        "verdict": judged.verdict,
        "by": judged.by,
        "source": judged.source,
        "found": judged.found,
        "remedy": judged.remedy,
        "best": "" if comparison is None else comparison.best,
        "chance": np.empty(0) if comparison is None else comparison.chance,
        "rows": rows.astype(np.int64),
        "table": _NOTHING_COMPARED.copy() if comparison is None else comparison.table,
    }
