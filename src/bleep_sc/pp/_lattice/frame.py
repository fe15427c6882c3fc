"""Where bins or cells lie in µm, along the rows and columns in which they stand."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

_ARRAY = ["array_row", "array_col"]
_OFF, _SKEW = 0.25, 0.02
"""Bins stand on an array if none is further off its place than this share of a step, and rows and columns are at
right angles: the cosine between them is no larger."""
_ALIKE, _ONE_WAY = 0.03, 0.99
"""Points may stand on an array if nearest neighbours are equally far within this share, and in the same directions:
the mean of their unit vectors, with angles times four, is at least so long."""
_LOOKED_AT = 5_000
"""Number of points whose neighbours are looked at."""
_NEAR, _WIDER = 12, 3
"""Steps around the middle from which the places on an array are first told, and the factor by which they grow."""


@dataclass(frozen=True)
class Frame:
    """A section's own axes: µm from the outer corner of its first bin, along its columns and along its rows."""

    um: np.ndarray
    """Where each bin or cell lies: along the columns, then along the rows (n, 2)."""
    px_per_um: np.ndarray
    """Turns µm along columns and rows into pixels of x and y (2, 2)."""
    origin: np.ndarray
    """x and y in pixels of the corner that µm are counted from."""
    spacing: float
    """µm from a bin or cell to the nearest other one, in the median; NaN where there is one alone."""
    side: np.ndarray | None = None
    """Width and height of a bin in µm; None for cells, which stand in no rows."""
    staggered: bool = False
    """Whether every row uses every second column, as on a Visium slide."""

    def pixels(self, um: np.ndarray) -> np.ndarray:
        """Compute x and y in full-resolution pixels of places in µm (n, 2)."""
        return np.asarray(um @ self.px_per_um.T + self.origin)

    def bins_around(self, um: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
        """List where the bins of an endless array would lie near some places.

        Parameters
        ----------
        um
            The places in µm (n, 2).
        reach
            Every bin that is no further away than this, in µm, is among them; some others are too.

        Returns
        -------
        The centres of the bins in µm (n, m, 2), and whether the array has a bin there (n, m).
        """
        assert self.side is not None  # noqa: S101 - whoever asks has looked
        columns, rows = (np.arange(-n, n + 1) for n in np.ceil(reach / self.side).astype(np.int64) + 1)
        steps = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
        number = np.floor(um / self.side).astype(np.int64)[:, None] + steps
        exists = number.sum(axis=2) % 2 == 0 if self.staggered else np.ones(number.shape[:2], dtype=bool)
        return (number + 0.5) * self.side, exists


def frame_of(obs: pd.DataFrame, xy: np.ndarray, um_per_px: float) -> Frame:
    """Find the axes of one section: those of its bins, else those of its image.

    Parameters
    ----------
    obs
        Annotation of its bins or cells. ``array_row`` and ``array_col`` are used where they are there and fit the
        places; else rows and columns are looked for in the places themselves.
    xy
        Their places in full-resolution pixels (n, 2).
    um_per_px
        µm per full-resolution pixel.
    """
    spacing = _spacing(xy)
    position = recorded_position(obs)
    axes = None if position is None else _axes(position, xy)
    if axes is None:
        position = _looked_for(xy, spacing)
        axes = None if position is None else _axes(position, xy)
    if position is None or axes is None:
        origin = xy.min(axis=0)
        return Frame((xy - origin) * um_per_px, np.eye(2) / um_per_px, origin, spacing * um_per_px)
    steps, zero = axes
    first = position.min(axis=0)
    staggered = bool(np.ptp(position.sum(axis=1) % 2) == 0)
    first = first - [int(first.sum() - position[0].sum()) % 2, 0] if staggered else first
    side = np.linalg.norm(steps, axis=0) * um_per_px
    corner = zero + steps @ (first - 0.5)
    um = (position - first + 0.5) * side
    return Frame(um, steps / side, corner, spacing * um_per_px, side, staggered)


def _spacing(xy: np.ndarray) -> float:
    from scipy.spatial import KDTree

    if len(xy) < 2:
        return np.nan
    looked_at = xy[:: max(1, len(xy) // _LOOKED_AT)]
    return float(np.median(KDTree(xy).query(looked_at, k=2)[0][:, 1]))


def recorded_position(obs: pd.DataFrame) -> np.ndarray | None:
    """Column and row of each bin (n, 2), where `obs` has whole numbers that no two bins share."""
    if not set(_ARRAY) <= set(obs.columns):
        return None
    position = obs[_ARRAY[::-1]].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    if not np.isfinite(position).all() or (position != np.rint(position)).any():
        return None
    return None if pd.DataFrame(position).duplicated().any() else position.astype(np.int64)


def _axes(position: np.ndarray, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Fit the steps from column to column and from row to row, in pixels (2, 2), and the place of column 0, row 0.

    None where the places do not fit.
    """
    if len(xy) < 3 or (np.ptp(position, axis=0) == 0).any():
        return None
    known = np.column_stack([position, np.ones(len(position))])
    fitted, _, rank, _ = np.linalg.lstsq(known, xy, rcond=None)
    steps, zero = fitted[:2].T, fitted[2]
    lengths = np.linalg.norm(steps, axis=0)
    if rank < 3 or not (lengths > 0).all():
        return None
    off = np.abs(np.linalg.solve(steps, (xy - zero).T).T - position).max()
    skew = abs(steps[:, 0] @ steps[:, 1]) / lengths.prod()
    return (steps, zero) if off <= _OFF and skew <= _SKEW else None


def _looked_for(xy: np.ndarray, spacing: float) -> np.ndarray | None:
    """Tell the columns and rows in which points stand, from their distances alone (n, 2); None where in none."""
    from scipy.spatial import KDTree

    if len(xy) < 9 or not spacing > 0:
        return None
    looked_at = xy[:: max(1, len(xy) // _LOOKED_AT)]
    distance, nearest = KDTree(xy).query(looked_at, k=2)
    if (np.abs(distance[:, 1] / spacing - 1) > _ALIKE).mean() > _ALIKE:
        return None
    toward = xy[nearest[:, 1]] - looked_at
    turned = np.exp(4j * np.arctan2(toward[:, 1], toward[:, 0])).mean()
    if abs(turned) < _ONE_WAY:
        return None
    angle = np.angle(turned) / 4
    steps = spacing * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    zero = xy[np.argmin(((xy - np.median(xy, axis=0)) ** 2).sum(axis=1))]
    distance_from_zero = np.abs(xy - zero).max(axis=1)
    reach = _NEAR * spacing
    while True:  # small errors of the steps add up far from the middle, so they are mended on the way there
        near = distance_from_zero <= reach
        position = np.rint(np.linalg.solve(steps, (xy - zero).T).T).astype(np.int64)
        if near.all():
            return None if pd.DataFrame(position).duplicated().any() else position
        axes = _axes(position[near], xy[near])
        if axes is None:
            return None
        (steps, zero), reach = axes, reach * _WIDER
