"""Loops that numba compiles, since NumPy, SciPy and torch have no quick function. They are imported where they run."""

import numba
import numpy as np

_GROUP = 64


@numba.njit(nogil=True)
def keep_best(similarity: np.ndarray, start: int, best: np.ndarray, rows: np.ndarray) -> None:
    """Bring values among the k largest of each row into `best` and `rows` (n, k), which are sorted, largest first.

    Column j of `similarity` (n, width) is key `start + j`. Of equal values that of the earlier key comes first.
    """
    for i in range(similarity.shape[0]):
        values, kept, kept_rows = similarity[i], best[i], rows[i]
        for first in range(0, len(values), _GROUP):
            group = values[first : first + _GROUP]
            if _n_above(group, kept[-1]) == 0:  # true of most groups
                continue
            for j in range(len(group)):
                value = group[j]
                if value > kept[-1]:
                    place = len(kept) - 1
                    while place > 0 and kept[place - 1] < value:
                        kept[place], kept_rows[place] = kept[place - 1], kept_rows[place - 1]
                        place -= 1
                    kept[place], kept_rows[place] = value, start + first + j


@numba.njit(nogil=True)
def _n_above(values: np.ndarray, bound: float) -> int:
    """Count the values above a bound. A compiler turns this loop into a few instructions on eight values at a time."""
    n = 0
    for j in range(len(values)):
        if values[j] > bound:
            n += 1
    return n


@numba.njit(nogil=True)
def sum_sparse_rows(
    csr: tuple[np.ndarray, np.ndarray, np.ndarray], rows: np.ndarray, weights: np.ndarray, out: np.ndarray
) -> None:
    """Write weighted sums of rows of a CSR matrix, given by its three arrays, densely to `out` (n, n_columns).

    SciPy's product of two sparse matrices makes a sparse one first and takes five times as long.
    """
    indptr, indices, data = csr
    for i in range(rows.shape[0]):
        sums = out[i]
        sums[:] = 0
        for j in range(rows.shape[1]):
            row, weight = rows[i, j], weights[i, j]
            start, stop = indptr[row], indptr[row + 1]
            columns, values = indices[start:stop], data[start:stop]
            for place in range(len(columns)):
                # a number without a sign is not looked at for whether it counts from the end
                sums[np.uint64(columns[place])] += weight * values[place]


@numba.njit(nogil=True)
def sum_rows(values: np.ndarray, rows: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    """Write weighted sums of rows of a dense matrix of any type to `out` (n, n_columns).

    Four rows are added in one pass over the sums, since memory is what this waits for.
    """
    n_rows = rows.shape[1]
    n_by_four = n_rows - n_rows % 4
    for i in range(rows.shape[0]):
        sums, row, weight = out[i], rows[i], weights[i]
        sums[:] = 0
        for j in range(0, n_by_four, 4):
            a, b, c, d = values[row[j]], values[row[j + 1]], values[row[j + 2]], values[row[j + 3]]
            of_a, of_b, of_c, of_d = weight[j], weight[j + 1], weight[j + 2], weight[j + 3]
            for g in range(len(sums)):
                sums[g] = sums[g] + of_a * a[g] + of_b * b[g] + of_c * c[g] + of_d * d[g]
        for j in range(n_by_four, n_rows):
            a = values[row[j]]
            for g in range(len(sums)):
                sums[g] += weight[j] * a[g]
