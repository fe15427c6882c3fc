"""Which part of a slide is tissue, as a small picture of yes and no."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TissueMask:
    """Yes and no for each small square of a slide."""

    is_tissue: np.ndarray
    """Boolean (y, x)."""
    factor: np.ndarray
    """Its pixels per full-resolution pixel, x and y (2,)."""

    def share(self, xy: np.ndarray, width: float) -> np.ndarray:
        """Compute which share of a square around each place is tissue (n,); beyond the slide there is none.

        Parameters
        ----------
        xy
            Places in full-resolution pixels (n, 2).
        width
            Width of the squares in full-resolution pixels.
        """
        high, wide = self.is_tissue.shape
        sums = np.zeros((high + 1, wide + 1))  # tissue above and to the left of each corner
        sums[1:, 1:] = self.is_tissue.cumsum(axis=0).cumsum(axis=1)
        low, end = ((xy + half) * self.factor for half in (-width / 2, width / 2))
        covered = _at(sums, end[:, 0], end[:, 1]) - _at(sums, low[:, 0], end[:, 1])
        covered -= _at(sums, end[:, 0], low[:, 1]) - _at(sums, low[:, 0], low[:, 1])
        return np.asarray(np.clip(covered / (end - low).prod(axis=1), 0, 1))


def _at(sums: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Interpolate between corners, which is exact: within a pixel the sums grow in proportion along each axis."""
    x, y = np.clip(x, 0, sums.shape[1] - 1), np.clip(y, 0, sums.shape[0] - 1)
    left, top = (np.minimum(v.astype(np.int64), n - 2) for v, n in ((x, sums.shape[1]), (y, sums.shape[0])))
    right_of, below = x - left, y - top
    upper = sums[top, left] * (1 - right_of) + sums[top, left + 1] * right_of
    lower = sums[top + 1, left] * (1 - right_of) + sums[top + 1, left + 1] * right_of
    return np.asarray(upper * (1 - below) + lower * below)
