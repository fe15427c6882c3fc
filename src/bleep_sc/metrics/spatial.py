"""Whether a predicted map looks like the measured one, gene by gene."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import sparse

from bleep_sc._checks import check_int
from bleep_sc._grid import within_reach
from bleep_sc.metrics._common import brought_near_one, check_matrix, constant, dense, dense_pair

_WINDOW = 7
_K1, _K2 = 0.01, 0.03


def ssim(truth: np.ndarray, prediction: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Structural similarity of the measured and the predicted map on the spot grid, mean over the spots.

    Parameters
    ----------
    truth, prediction
        Measured and predicted expression (n_obs, n_genes).
    grid
        Row and column of each spot (n_obs, 2), counted from 0. Where several spots share a place, the last is drawn.

    Returns
    -------
    float64 (n_genes,). The value is NaN where the truth is constant, the prediction holds NaN, or the grid is less than
    3 wide or high. A constant prediction gets a similarity like any other, since it agrees with flat windows.

    Notes
    -----
    The score is that of Wang et al., IEEE Trans. Image Process. 13, 600 (2004). Constants, sample covariance and
    mirrored border are those of ``skimage.metrics.structural_similarity``. So is the uniform window of 7, or the
    largest odd one that fits. The data range is that of the truth. Places without a spot hold the mean of their map,
    and only windows around a spot are averaged.
    """
    truth, prediction = dense_pair(truth, prediction)
    grid = np.asarray(grid)
    if grid.shape != (len(truth), 2) or grid.dtype.kind not in "iu" or grid.min() < 0:
        msg = (
            f"`grid` must hold row and column of the {len(truth)} spots, integers from 0 (n_obs, 2), found "
            f"{grid.dtype} {grid.shape}."
        )
        raise ValueError(msg)
    scale = np.minimum(brought_near_one(truth), brought_near_one(prediction))
    truth, prediction = truth * scale, prediction * scale
    width = min(_WINDOW, (int((grid.max(axis=0) + 1).min()) - 1) // 2 * 2 + 1)
    if width < 3:
        return np.full(truth.shape[1], np.nan)
    smooth = windows(grid.astype(np.int64).tobytes(), width).mean
    mean_t, mean_p = (np.mean(values, axis=0, dtype=np.float64) for values in (truth, prediction))
    # places without a spot hold the mean, so in centred maps they are 0 and drop out of every sum
    t, p = truth - mean_t, prediction - mean_p
    local_t, local_p = smooth(t), smooth(p)
    unbiased = width**2 / (width**2 - 1)
    var_t, var_p, cov = (
        unbiased * (smooth(a * b) - local_a * local_b)
        for a, b, local_a, local_b in ((t, t, local_t, local_t), (p, p, local_p, local_p), (t, p, local_t, local_p))
    )
    local_t, local_p = local_t + mean_t, local_p + mean_p
    data_range = np.ptp(truth, axis=0)
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        similarity = ((2 * local_t * local_p + c1) * (2 * cov + c2)) / (
            (local_t**2 + local_p**2 + c1) * (var_t + var_p + c2)
        )
    return np.where(constant(truth), np.nan, similarity.mean(axis=0))


@dataclass(frozen=True)
class Windows:
    """The square window around each spot, mirrored at the border, as two passes: along the columns, then the rows.

    A mean over 7 × 7 places takes two sums of 7, not one of 49.
    """

    along: sparse.csr_matrix
    """Weight of each spot in the stretch of columns around each place that a window covers (n_places, n_obs)."""
    down: sparse.csr_matrix
    """Weight of each of these places in the window around each spot (n_obs, n_places)."""

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Average values (n_obs, n_genes) over the window around each spot; empty places count as 0."""
        out: np.ndarray = self.down @ (self.along @ values)
        return out


@lru_cache(maxsize=1)  # genes come in blocks, all on the same grid; `score_genes` forgets it when it is done
def windows(grid: bytes, width: int) -> Windows:
    """Make the windows of a grid, int64 (n_obs, 2) as bytes, of an odd width that fits into it."""
    row, column = np.frombuffer(grid, dtype=np.int64).reshape(-1, 2).T
    n_obs, n_rows, n_columns = len(row), int(row.max()) + 1, int(column.max()) + 1
    spots = np.full((n_rows, n_columns), -1)
    spots[row, column] = np.arange(n_obs)
    step = np.arange(width) - width // 2
    places = _mirrored(row[:, None] + step, n_rows) * n_columns + column[:, None]
    covered = np.zeros(n_rows * n_columns, dtype=bool)
    covered[places] = True
    number = (np.cumsum(covered) - 1)[places]
    of_row, of_column = np.divmod(np.flatnonzero(covered), n_columns)
    members = spots[of_row[:, None], _mirrored(of_column[:, None] + step, n_columns)]
    ends = np.cumsum((members >= 0).sum(axis=1))
    along, down = members[members >= 0], number.ravel()
    return Windows(
        sparse.csr_matrix((np.full(len(along), 1 / width), along, np.append(0, ends)), shape=(len(members), n_obs)),
        sparse.csr_matrix(
            (np.full(len(down), 1 / width), down, np.arange(n_obs + 1) * width), shape=(n_obs, len(members))
        ),
    )


def _mirrored(index: np.ndarray, n: int) -> np.ndarray:
    """Bring positions up to n beyond either end of 0 to n - 1 back into it, as in a mirror at the border."""
    index = np.where(index < 0, -1 - index, index)
    return np.where(index >= n, 2 * n - 1 - index, index)


def spot_graph(xy: np.ndarray, *, n_neighbors: int = 6) -> sparse.csr_matrix:
    """Graph of neighbouring spots: each spot and its nearest ones, in both directions, all weights 1 (n_obs, n_obs).

    If several spots are at the same distance, as on a lattice, all of them or none are taken.
    """
    check_int("n_neighbors", n_neighbors)
    xy = np.asarray(xy)
    if xy.ndim != 2 or not xy.size or xy.dtype.kind not in "fiu" or not np.isfinite(xy).all():
        msg = f"`xy` must be the places of the spots (n_obs, 2), finite numbers, found {xy.dtype} {xy.shape}."
        raise ValueError(msg)
    near = within_reach(xy, n_neighbors)
    near.setdiag(0)
    near.eliminate_zeros()
    return near.maximum(near.T)


def morans_i(values: np.ndarray, graph: sparse.csr_matrix) -> np.ndarray:
    """Moran's I: how similar neighbouring spots are. It is about 0 for noise, and near 1 for smooth patterns.

    Parameters
    ----------
    values
        Expression, measured or predicted (n_obs, n_genes).
    graph
        Weights between spots (n_obs, n_obs), such as :func:`spot_graph` gives.

    Returns
    -------
    float64 (n_genes,), the values of ``scanpy.metrics.morans_i``; NaN where the expression is constant.
    """
    values = dense(check_matrix("values", values))
    if graph.shape != (len(values), len(values)):
        msg = f"`graph` must hold weights between the {len(values)} spots (n_obs, n_obs), found {graph.shape}."
        raise ValueError(msg)
    z = values - values.mean(axis=0)
    z *= brought_near_one(z)
    with np.errstate(invalid="ignore", divide="ignore"):
        score = len(z) / graph.sum() * (z * (graph @ z)).sum(axis=0) / (z**2).sum(axis=0)
    return np.where(constant(values), np.nan, score)
