"""Checks and conversions that the metrics share."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import sparse

from bleep_sc._blocks import LazyColumns
from bleep_sc._checks import check_int

MOST_GENES_OF_A_STORE = 2000
"""The most genes of a layer in a store that are read at once, as scores of whole panels need."""


def check_matrix(name: str, values: Any) -> Any:
    """Return a checked matrix (n_obs, n_genes), dense or sparse, of at least one spot; NaN is allowed, not infinity."""
    values = values if sparse.issparse(values) else np.asarray(values)
    if values.ndim != 2 or values.dtype.kind not in "fiub" or not values.shape[0]:
        msg = f"`{name}` must be numbers (n_obs, n_genes) of at least one spot, found {values.dtype} {values.shape}."
        raise ValueError(msg)
    if _holds_infinity(values.data if sparse.issparse(values) else values):
        msg = f"`{name}` holds infinite values: replace them, or leave these genes out."
        raise ValueError(msg)
    return values


def _holds_infinity(values: np.ndarray) -> bool:
    """Tell whether any value is infinite. A mask of all values is made only where their sum is not finite."""
    if values.dtype.kind != "f":
        return False
    with np.errstate(over="ignore", invalid="ignore"):  # a finite sum has only finite parts, and is quicker
        return not np.isfinite(values.sum()) and bool(np.isinf(values).any())


def check_pair(truth: Any, prediction: Any) -> tuple[Any, Any]:
    """Return truth and prediction, dense or sparse, after a check that they are of the same spots and genes."""
    truth, prediction = check_matrix("truth", truth), check_matrix("prediction", prediction)
    if truth.shape != prediction.shape:
        msg = (
            f"`truth` and `prediction` must be of the same spots and genes, found {truth.shape} and {prediction.shape}."
        )
        raise ValueError(msg)
    return truth, prediction


def dense_pair(truth: Any, prediction: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return truth and prediction as `check_pair` does, but both dense and in double precision."""
    truth, prediction = check_pair(truth, prediction)
    return dense(truth), dense(prediction)


def check_draws(n_draws: int, rng: Any, *, name: str = "n_draws") -> None:
    """Check the number of random draws and the generator that makes them."""
    check_int(name, n_draws)
    if not isinstance(rng, np.random.Generator):
        msg = f"`rng` must be a NumPy generator, as of `numpy.random.default_rng(0)`, found {rng!r}."
        raise TypeError(msg)


def brought_near_one(values: np.ndarray) -> np.ndarray:
    """Return, for each gene, the power of two that brings its largest value near 1 (n_genes,).

    Squares of values so scaled neither over- nor underflow. Products with a power of two are exact, so that no result
    depends on them.
    """
    largest = np.maximum(values.max(axis=0, initial=0), -values.min(axis=0, initial=0))
    exponent = np.frexp(np.where(np.isfinite(largest), largest, 1))[1]
    out: np.ndarray = np.ldexp(1.0, -np.clip(exponent, -1000, 1000))
    return out


def dense(values: Any) -> np.ndarray:
    """Turn a dense or sparse matrix into a float64 array."""
    return np.asarray(values.toarray() if sparse.issparse(values) else values, dtype=np.float64)


def by_gene(values: Any) -> Any:
    """Return a matrix stored such that it is quick to cut into blocks of genes."""
    return values.tocsc() if sparse.issparse(values) else values


def gene_slabs(values: Any) -> Iterator[tuple[slice, Any]]:
    """Give a matrix in slabs of genes that are in memory: all of it, or one after another where it is lazy."""
    if isinstance(values, LazyColumns):
        yield from ((part, values[:, part]) for part in values.parts())
    else:
        yield slice(0, values.shape[1]), by_gene(values)


def constant(values: np.ndarray) -> np.ndarray:
    """Tell which genes have the same value in all spots (n_genes,). A gene with NaN has not."""
    is_constant: np.ndarray = np.ptp(values, axis=0) == 0
    return is_constant


def with_undefined_set(score: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return scores with 0 for a constant prediction, and NaN for a constant truth or a prediction with any NaN."""
    out = np.where(constant(prediction), 0.0, score)
    out[constant(truth) | np.isnan(prediction).any(axis=0)] = np.nan
    return out
