"""The weighted average of neighbours' expression."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from scipy import sparse
from torch.nn.functional import embedding_bag

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
    """Average rows of `values` (m, n_genes), dense or CSR, by their weights (n, k).

    Parameters
    ----------
    columns
        Genes to return, by their column in `values`; -1 gives NaN. None: all of them.

    Returns
    -------
    float32 (n, n_genes), or (n, len(columns)).
    """
    if columns is None or np.array_equal(columns, np.arange(values.shape[1])):
        out = np.empty((len(rows), values.shape[1]), dtype=np.float32)
        for part in _query_blocks(len(rows), values.shape[1]):
            _average_into(out[part], values, rows[part], weights[part])
        return out
    out = np.empty((len(rows), len(columns)), dtype=np.float32)
    for part in _query_blocks(len(rows), values.shape[1]):
        block = np.empty((len(rows[part]), values.shape[1]), dtype=np.float32)
        _average_into(block, values, rows[part], weights[part])
        out[part] = block[:, columns]
    out[:, columns < 0] = np.nan
    return out


def _query_blocks(n: int, n_genes: int) -> Iterator[slice]:
    """Queries whose averages, and whose rows where they must be converted, stay within the memory budget."""
    step = max(1, int(settings.memory * 2**20 / 4 / (4 * n_genes)))
    return (slice(start, start + step) for start in range(0, n, step))


def _average_into(out: np.ndarray, values: Any, rows: np.ndarray, weights: np.ndarray) -> None:
    if sparse.issparse(values):
        _average_sparse(out, values, rows, weights)
        return
    if values.dtype != np.float32:  # only the rows that are needed are converted
        some, rows = np.unique(rows, return_inverse=True)
        values, rows = values[some].astype(np.float32), rows.reshape(weights.shape).astype(np.int32)
    tensors = (torch.from_numpy(np.ascontiguousarray(part)) for part in (rows, values, weights))
    neighbors, profiles, shares = tensors
    out[:] = embedding_bag(neighbors, profiles, per_sample_weights=shares, mode="sum").numpy()


def _average_sparse(out: np.ndarray, values: sparse.csr_matrix, rows: np.ndarray, weights: np.ndarray) -> None:
    from bleep_sc.models._compiled import sum_rows

    def one(part: slice) -> None:
        sum_rows((values.indptr, values.indices, values.data), rows[part], weights[part], out[part])

    in_threads(one, len(rows))
