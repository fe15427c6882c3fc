from typing import Any

import numpy as np
from scipy import sparse


def dense(values: Any) -> np.ndarray:
    """float64 array of a dense or sparse matrix."""
    return np.asarray(values.toarray() if sparse.issparse(values) else values, dtype=np.float64)


def by_gene(values: Any) -> Any:
    """The same matrix, quick to cut into blocks of genes."""
    return values.tocsc() if sparse.issparse(values) else values


def constant(values: np.ndarray) -> np.ndarray:
    """Which genes have the same value in all spots (n_genes,); a gene with NaN is not one."""
    found: np.ndarray = np.ptp(values, axis=0) == 0
    return found


def settle(score: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Give a correlation where it is undefined: 0 for a constant prediction, NaN for a constant truth."""
    out = np.where(constant(prediction), 0.0, score)
    out[constant(truth) | np.isnan(prediction).any(axis=0)] = np.nan
    return out
