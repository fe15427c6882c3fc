"""What the readers of 10x Genomics' data leave to tell the unit of coordinates by."""

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from bleep_sc.pp._lattice.frame import recorded_position

_IN_UM = (
    ("shapes", "cell_boundaries"),
    ("shapes", "cell_circles"),
    ("shapes", "nucleus_boundaries"),
    ("points", "transcripts"),
)
"""Elements of Xenium, kind and name, whose own coordinates are µm; so are the places in its table."""
_LABELS = ("cell_labels", "nucleus_labels")
"""The rasters of Xenium."""
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


def are_of_any_xenium(regions: Iterable[str]) -> bool:
    """Whether a region has the name that it has in every sample of Xenium."""
    return not {*_LABELS, *(name for _, name in _IN_UM)}.isdisjoint(regions)


def in_um(kind: str, name: str) -> bool:
    """Whether an element of Xenium has µm for its own coordinates."""
    return any(kind == known and name.partition("-")[0] == base for known, base in _IN_UM)


def in_um_beside(labels: str) -> list[tuple[str, str]]:
    """List elements, kind and name, of the sample whose raster this is; `spatialdata.concatenate` adds "-SAMPLE"."""
    base, dash, sample = labels.partition("-")
    ending = dash + sample if base in _LABELS else ""
    return [(kind, name + ending) for kind, name in _IN_UM]


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
