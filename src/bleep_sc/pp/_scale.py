"""Find the scale of an image in µm per pixel: given, recorded, or read off a Visium lattice; never guessed."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bleep_sc._checks import check_number
from bleep_sc._library import scale_factor

_VISIUM_ROWS, _VISIUM_COLUMNS, _VISIUM_PITCH_UM = 78, 128, 100.0
# in array units of a Visium slide, whose columns count half steps
_HEXAGON = ((0, 2), (0, -2), (1, 1), (1, -1), (-1, 1), (-1, -1))
_TOLERANCE = 0.03


def microns_per_pixel(
    library_id: str,
    *,
    mpp: float | Mapping[str, float] | None,
    scalefactors: Mapping[str, Any],
    obs: pd.DataFrame,
    xy: np.ndarray,
) -> float:
    """µm per full-resolution pixel of one section, NaN where unknown.

    The first of these that is known is taken: `mpp`; ``scalefactors["microns_per_pixel"]``; a Visium lattice, whose
    neighbouring spots are 100 µm apart. Other distances between spots are not used: first-generation arrays have other
    pitches, and a wrong scale is worse than none.
    """
    value = mpp.get(library_id) if isinstance(mpp, Mapping) else mpp
    if value is not None:
        name = f"mpp[{library_id!r}]" if isinstance(mpp, Mapping) else "mpp"
        return check_number(name, value, above=0)
    recorded = scale_factor(scalefactors, "microns_per_pixel", library_id=library_id)
    if np.isfinite(recorded):
        return recorded
    pitch = visium_pitch(obs, xy)
    return np.nan if pitch is None else _VISIUM_PITCH_UM / pitch


def visium_pitch(obs: pd.DataFrame, xy: np.ndarray) -> float | None:
    """Distance in pixels between neighbouring spots, if the array is surely Visium's.

    An array is surely Visium's if its array positions lie within 78 x 128 and its spots form a hexagonal lattice. Every
    spot with all six neighbours must have them equally far, within 3 %, and no other spot nearer.
    """
    from scipy.spatial import KDTree

    if not {"array_row", "array_col"} <= set(obs.columns):
        return None
    position = obs[["array_row", "array_col"]].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    if not np.isfinite(position).all() or (position != np.rint(position)).any():
        return None
    if (position < 0).any() or (position >= [_VISIUM_ROWS, _VISIUM_COLUMNS]).any():
        return None
    position = position.astype(np.int64)
    occupied = np.zeros((_VISIUM_ROWS + 2, _VISIUM_COLUMNS + 4), dtype=bool)
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
