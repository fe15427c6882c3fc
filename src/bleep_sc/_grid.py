"""Tell where spots stand: their row and column on the array, and which other spots are near."""

import numpy as np
import pandas as pd
from scipy import sparse

_ROW, _COLUMN = "array_row", "array_col"
_TIE = 1e-6
_MORE = 8
"""Spots looked at beyond those asked for: on a lattice as many are as near as the last one (6 on a hexagonal one)."""


def grid_positions(obs: pd.DataFrame, xy: np.ndarray) -> np.ndarray:
    """Row and column of each spot within one section, counted from 0.

    The array positions of `obs` are taken where both are there. Else positions follow from the coordinates, in steps of
    the median distance to the nearest other spot; spots that stand off the lattice may then share a position. In a
    staggered lattice, row + column is always even or always odd. It is packed by halving the column. So Visium's 78
    rows and 128 columns, of which each row uses every second, become 78 × 64.

    Parameters
    ----------
    obs
        Annotation of the spots of one section.
    xy
        Coordinates of these spots (n_obs, 2), x then y.

    Returns
    -------
    int64 (n_obs, 2): row, then column.

    Raises
    ------
    ValueError
        Array positions that are no numbers; array positions that two spots share, as where several sections were taken
        for one.
    """
    has_array = _ROW in obs and _COLUMN in obs
    grid = _from_array(obs) if has_array else _from_coordinates(np.asarray(xy, dtype=np.float64))
    grid -= grid.min(axis=0)
    if np.ptp(grid.sum(axis=1) % 2) == 0:
        grid[:, 1] //= 2
    if has_array:
        _check_distinct(grid, obs)
    return grid


def spacing(xy: np.ndarray) -> float:
    """Compute the median distance from a place to the nearest other one; NaN where there is one place alone."""
    from scipy.spatial import cKDTree

    places = np.unique(xy, axis=0)
    return float(np.median(cKDTree(places).query(places, k=2)[0][:, 1])) if len(places) > 1 else np.nan


def within_reach(xy: np.ndarray, n_neighbors: int) -> sparse.csr_matrix:
    """Find the nearest spots of each spot, itself among them, as a matrix of weights 1 (n_obs, n_obs).

    On a lattice many spots are equally far. All that are as near as the last one asked for are taken, since a choice
    among them would depend on the order of the spots.
    """
    from scipy.spatial import cKDTree

    n = len(xy)
    tree = cKDTree(xy)
    # one more than asked: a spot is nearest to itself; and some more, which may be as near as the last of these
    asked = min(n_neighbors, n - 1) + 1
    possible = min(n, asked + _MORE)
    distances, candidates = (found.reshape(n, possible) for found in tree.query(xy, k=possible))
    reach = distances[:, asked - 1] * (1 + _TIE)
    near = distances <= reach[:, None]
    rows, columns = np.repeat(np.arange(n), near.sum(axis=1)), candidates[near]
    # where all candidates are as near, others may be too
    crowded = np.flatnonzero(near[:, -1]) if possible < n else np.empty(0, dtype=np.int64)
    if len(crowded):
        others = tree.query_ball_point(xy[crowded], reach[crowded])
        kept = ~np.isin(rows, crowded)
        rows = np.concatenate([rows[kept], np.repeat(crowded, [len(found) for found in others])])
        columns = np.concatenate([columns[kept], *others])
    return sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(n, n))


def _from_array(obs: pd.DataFrame) -> np.ndarray:
    columns = []
    for name in (_ROW, _COLUMN):
        column = obs[name].astype(object)
        values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
        bad = ~np.isfinite(values)
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            msg = (
                f"`obs[{name!r}]` must hold whole numbers, the spots' places on the array; found "
                f"'{column.iloc[first]}' for spot {obs.index[first]!r}. Without the column the coordinates are used."
            )
            raise ValueError(msg)
        columns.append(np.rint(values).astype(np.int64))
    return np.stack(columns, axis=1)


def _from_coordinates(xy: np.ndarray) -> np.ndarray:
    step = spacing(xy)
    if np.isnan(step):
        return np.zeros((len(xy), 2), dtype=np.int64)
    return np.rint((xy - xy.min(axis=0)) / step)[:, ::-1].astype(np.int64)


def _check_distinct(grid: np.ndarray, obs: pd.DataFrame) -> None:
    twice = pd.DataFrame(grid).duplicated(keep=False).to_numpy()
    if twice.any():
        first = int(np.flatnonzero(twice)[0])
        place = f"array_row {obs[_ROW].iloc[first]}, array_col {obs[_COLUMN].iloc[first]}"
        msg = (
            f"{twice.sum()} of {len(grid)} spots share their place on the array with another, such as "
            f"{obs.index[first]!r} at {place}: these are several sections taken for one. Name the column of `obs` "
            "that tells them apart by `library_key`."
        )
        raise ValueError(msg)
