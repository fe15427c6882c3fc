"""The expression that places are judged by: the genes that vary most among some spots."""

from typing import Any

import numpy as np
from scipy import sparse

from bleep_sc._stats import are_whole_counts, mean_variance

N_GENES = 200
"""Genes of highest variance that are explained."""


def most_varying(values: Any) -> np.ndarray:
    """Return the most varying genes of spots, log-normalised where they are counts, float64 (n, at most 200).

    Counts are brought to the median total of these spots, and the logarithm of one more is taken, as scanpy does. The
    values that are passed do not change.
    """
    if are_whole_counts(values):
        values = _log_normalized(values)
    _, variance = mean_variance(values)
    chosen = np.sort(np.argsort(-variance, kind="stable")[:N_GENES])
    dense = values[:, chosen]
    return np.asarray(dense.toarray() if sparse.issparse(dense) else dense, dtype=np.float64)


def _log_normalized(counts: Any) -> sparse.csr_matrix:
    matrix = sparse.csr_matrix(counts, dtype=np.float64)
    totals = np.asarray(matrix.sum(axis=1)).ravel()
    found = totals > 0
    scale = np.where(found, np.median(totals[found]) / np.where(found, totals, 1), 0) if found.any() else totals
    return sparse.csr_matrix(sparse.diags(scale) @ matrix).log1p()
