"""Average the expression of neighbours, weighted."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import sparse

from bleep_sc._blocks import LazyRows, budget, threads


def average_profiles(
    values: Any, rows: np.ndarray, weights: np.ndarray, *, columns: np.ndarray | None = None
) -> np.ndarray:
    """Average rows of `values` (m, n_genes), dense, CSR or lazy, by their weights (n, k).

    Lazy values are read once, part by part. Parts in which no row is asked for are not read.

    Parameters
    ----------
    columns
        Genes to return, by their column in `values`; -1 gives NaN. None: all of them.

    Returns
    -------
    float32 (n, n_genes), or (n, len(columns)).
    """
    if columns is not None and np.array_equal(columns, np.arange(values.shape[1])):
        columns = None
    out = np.zeros((len(rows), values.shape[1] if columns is None else len(columns)), dtype=np.float32)
    if isinstance(values, LazyRows):
        for part in values.parts():
            _add_part(out, values, part, near=(rows, weights), columns=columns)
    else:
        for block in _query_blocks(len(rows), values.shape[1]):
            if columns is None:
                _average_into(out[block], values, rows[block], weights[block])
            else:
                out[block] = _average(values, rows[block], weights[block])[:, columns]
    if columns is not None:
        out[:, columns < 0] = np.nan
    return out


def _add_part(
    out: np.ndarray,
    values: LazyRows,
    part: slice,
    *,
    near: tuple[np.ndarray, np.ndarray],
    columns: np.ndarray | None,
) -> None:
    """Add to the averages the neighbours that lie in one part of the values. `near` is rows and weights (n, k)."""
    in_part = (near[0] >= part.start) & (near[0] < part.stop)
    queries = np.flatnonzero(in_part.any(axis=1))
    if not len(queries):
        return
    profiles = values[part]
    # those that are here stand first, so that no more columns are gone through than one query has of them
    order = np.argsort(~in_part[queries], axis=1, kind="stable")[:, : in_part.sum(axis=1).max()]
    rows, weights, in_part = (np.take_along_axis(array[queries], order, axis=1) for array in (*near, in_part))
    rows, weights = np.where(in_part, rows - part.start, 0), np.where(in_part, weights, 0).astype(np.float32)
    for block in _query_blocks(len(queries), profiles.shape[1]):
        sums = _average(profiles, rows[block], weights[block])
        out[queries[block]] += sums if columns is None else sums[:, columns]


def _average(values: Any, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    out = np.empty((len(rows), values.shape[1]), dtype=np.float32)
    _average_into(out, values, rows, weights)
    return out


def _query_blocks(n: int, n_genes: int) -> Iterator[slice]:
    """Split queries into blocks whose averages of all genes stay within a part of the memory budget."""
    step = budget(4 * n_genes)
    return (slice(start, start + step) for start in range(0, n, step))


def _average_into(out: np.ndarray, values: Any, rows: np.ndarray, weights: np.ndarray) -> None:
    from bleep_sc.models.search.compiled import sum_rows, sum_sparse_rows

    if values.dtype == np.float16:  # which compiled loops do not know; only the rows that are needed are converted
        needed_rows, rows = np.unique(rows, return_inverse=True)
        values, rows = values[needed_rows].astype(np.float32), rows.reshape(weights.shape)

    def average_part(part: slice) -> None:
        if sparse.issparse(values):
            csr = values.indptr, values.indices, values.data
            sum_sparse_rows(csr, rows[part], weights[part], out[part])
        else:
            sum_rows(values, rows[part], weights[part], out[part])

    with threads() as in_threads:
        in_threads(average_part, len(rows))
