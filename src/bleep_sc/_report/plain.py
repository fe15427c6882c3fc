"""Turn what objects hold, and what files make of it, into plain values."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def number(value: Any) -> float:
    """Return a number; NaN where there is none."""
    try:
        return float(np.asarray(value, dtype=np.float64).item())
    except (TypeError, ValueError):
        return np.nan


def text(value: Any) -> str:
    """Return a text; empty where there is none."""
    return "" if value is None or np.size(value) != 1 else str(np.asarray(value).item())


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a mapping; an empty one where there is none."""
    return value if isinstance(value, Mapping) else {}
