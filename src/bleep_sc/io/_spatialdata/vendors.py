"""What the readers of 10x Genomics' data leave to tell the unit of coordinates by."""

import re

import numpy as np
import pandas as pd

from bleep_sc.pp._lattice.frame import recorded_position

IN_UM = (
    ("shapes", "cell_boundaries"),
    ("shapes", "cell_circles"),
    ("shapes", "nucleus_boundaries"),
    ("points", "transcripts"),
)
"""Elements of Xenium, kind and name, whose own coordinates are µm; so are the places in its table."""
CELL_AREA = "cell_area"
"""Column of a Xenium table: area of each cell in µm²."""
_OF_XENIUM = {CELL_AREA, "transcript_counts"}
"""Columns of `cells.parquet`, of every version of Xenium's analysis."""
_BINS = re.compile(r"square_(\d{3,})um")
"""How Space Ranger calls the bins of Visium HD; the number is the side of a bin in µm."""


def bin_side(name: str) -> float | None:
    """Side of a bin of Visium HD in µm, by the name of its table or element; None where it is none."""
    found = _BINS.search(name)
    return float(found.group(1)) if found and int(found.group(1)) else None


def is_of_xenium(obs: pd.DataFrame) -> bool:
    """Whether a table holds the cells of Xenium."""
    return set(obs.columns) >= _OF_XENIUM


def lattice_pitch(obs: pd.DataFrame, xy: np.ndarray) -> float:
    """Distance between neighbouring rows, and columns, of bins; NaN where these are not known."""
    position = recorded_position(obs)
    if position is None or np.linalg.matrix_rank(position - position.mean(axis=0)) < 2:
        return np.nan
    steps, *_ = np.linalg.lstsq(np.column_stack([position, np.ones(len(position))]), xy, rcond=None)
    return float(np.sqrt(abs(np.linalg.det(steps[:2]))))
