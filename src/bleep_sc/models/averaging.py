"""The weighted average of neighbours' expression."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from scipy import sparse

from bleep_sc._lazy import LazyRows
from bleep_sc._settings import settings
from bleep_sc.models.threads import in_threads

Weighting = Literal["mean", "distance", "softmax"]


def neighbor_weights(distances: np.ndarray, weighting: Weighting, *, temperature: float = 0.1) -> np.ndarray:
    """Weights of the neighbours, each row summing to 1, float32 (n, k).

    ``"mean"`` weighs all alike (the paper's default), ``"distance"`` by the inverse of 1 - cosine, ``"softmax"`` by
    exp(cosine / `temperature`).
    """
    if weighting == "mean":
        weights = np.ones_like(distances, dtype=np.float64)
    elif weighting == "distance":
        weights = 1 / np.maximum(distances.astype(np.float64), 1e-6)
    else:
        # relative to the nearest, so that no exponential overflows
        weights = np.exp((distances[:, :1].astype(np.float64) - distances) / temperature)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def average_profiles(
    values: Any, rows: np.ndarray, weights: np.ndarray, *, columns: np.ndarray | None = None
) -> np.ndarray:
    """Average rows of `values` (m, n_genes), dense, CSR or lazy, by their weights (n, k).

    Lazy values are read once, part by part, but for parts in which no row is asked for.

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
            here = (rows >= part.start) & (rows < part.stop)
            if here.any():
                _add_part(out, values[part], rows - part.start, weights, here, columns)
    else:
        for some in _query_blocks(len(rows), values.shape[1]):
            if columns is None:
                _average_into(out[some], values, rows[some], weights[some])
            else:
                out[some] = _average(values, rows[some], weights[some])[:, columns]
    if columns is not None:
        out[:, columns < 0] = np.nan
    return out


def _add_part(
    out: np.ndarray, part: Any, rows: np.ndarray, weights: np.ndarray, here: np.ndarray, columns: np.ndarray | None
) -> None:
    """Add to averages what comes from those neighbours (n, k) that are `here`, in one part of the values."""
    some = np.flatnonzero(here.any(axis=1))
    # those that are here stand first, so that no more columns are gone through than one query has of them
    order = np.argsort(~here[some], axis=1, kind="stable")[:, : here.sum(axis=1).max()]
    near, shares = (
        np.take_along_axis(np.where(here[some], values[some], 0).astype(values.dtype), order, axis=1)
        for values in (rows, weights)
    )
    for block in _query_blocks(len(some), part.shape[1]):
        sums = _average(part, near[block], shares[block])
        out[some[block]] += sums if columns is None else sums[:, columns]


def _average(values: Any, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    out = np.empty((len(rows), values.shape[1]), dtype=np.float32)
    _average_into(out, values, rows, weights)
    return out


def _query_blocks(n: int, n_genes: int) -> Iterator[slice]:
    """Queries whose averages of all genes stay within a part of the memory budget."""
    step = max(1, int(settings.memory * 2**20 / 4 / (4 * n_genes)))
    return (slice(start, start + step) for start in range(0, n, step))


def _average_into(out: np.ndarray, values: Any, rows: np.ndarray, weights: np.ndarray) -> None:
    from bleep_sc.models._compiled import sum_rows, sum_sparse_rows

    def one(part: slice) -> None:
        if sparse.issparse(values):
            csr = values.indptr, values.indices, values.data
            sum_sparse_rows(csr, rows[part], weights[part], out[part])
        else:
            sum_rows(values, rows[part], weights[part], out[part])

    in_threads(one, len(rows))
