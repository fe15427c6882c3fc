"""Recognise the lattice of a Visium slide, whose spots are 100 µm apart."""

import numpy as np
import pandas as pd

PITCH_UM = 100.0
"""Distance between the centres of neighbouring spots (10x Genomics, Visium, both array sizes)."""
PITCH_IN_DIAMETERS = (1.5, 1.9)
"""The same in spot diameters: Space Ranger has written 65 µm and 55 µm for a spot (1.54 and 1.82)."""
_ROWS, _COLUMNS = 128, 224
"""Positions of the largest array, of 11 mm; those of 6.5 mm have 78 x 128."""
# in array units of a Visium slide, whose columns count half steps
_HEXAGON = ((0, 2), (0, -2), (1, 1), (1, -1), (-1, 1), (-1, -1))
_TOLERANCE = 0.03


def within_array(obs: pd.DataFrame) -> np.ndarray | None:
    """Row and column of each spot (n, 2), if all lie within the largest array of spots; bins of Visium HD do not."""
    if not {"array_row", "array_col"} <= set(obs.columns):
        return None
    position = obs[["array_row", "array_col"]].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    if not np.isfinite(position).all() or (position != np.rint(position)).any():
        return None
    if (position < 0).any() or (position >= [_ROWS, _COLUMNS]).any():
        return None
    return position.astype(np.int64)


def visium_pitch(obs: pd.DataFrame, xy: np.ndarray) -> float | None:
    """Distance in pixels between neighbouring spots, if the array has the form of Visium's.

    It has it if its array positions lie within 128 x 224 and its spots form a hexagonal lattice. Every
    spot with all six neighbours must have them equally far, within 3 %, and no other spot nearer.
    """
    from scipy.spatial import KDTree

    position = within_array(obs)
    if position is None:
        return None
    occupied = np.zeros((_ROWS + 2, _COLUMNS + 4), dtype=bool)
    row, column = position[:, 0] + 1, position[:, 1] + 2
    occupied[row, column] = True
    interior = np.all([occupied[row + dr, column + dc] for dr, dc in _HEXAGON], axis=0)
    if interior.sum() < 3:
        return None
    distance, _ = KDTree(xy).query(xy[interior], k=7)
    nearest, sixth = distance[:, 1], distance[:, 6]
    if (nearest <= 0).any() or (sixth > (1 + _TOLERANCE) * nearest).any():
        return None
    return float(np.median(distance[:, 1:]))
