"""How far a prediction is from the truth, in the units of the expression, gene by gene."""

import numpy as np

from bleep_sc.metrics._common import constant


def rmse(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Root of the mean squared error over spots (n_genes,)."""
    out: np.ndarray = np.sqrt(np.mean(_difference(truth, prediction) ** 2, axis=0))
    return out


def mae(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Mean absolute error over spots (n_genes,)."""
    out: np.ndarray = np.mean(np.abs(_difference(truth, prediction)), axis=0)
    return out


def r2(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Share of the truth's variance that the prediction explains (n_genes,); NaN where the truth is constant.

    Below 0 where the truth's own mean would be nearer, which no prediction from an image knows.
    """
    out: np.ndarray = 1 - _per_variance(np.mean(_difference(truth, prediction) ** 2, axis=0), truth)
    return out


def variance_ratio(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Variance of the prediction over that of the truth (n_genes,); NaN where the truth is constant.

    Averages of many profiles vary less than one measured profile, noise included: values well below 1 are the rule.
    """
    return _per_variance(np.var(prediction, axis=0, dtype=np.float64), truth)


def _difference(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    out: np.ndarray = np.asarray(prediction, dtype=np.float64) - np.asarray(truth, dtype=np.float64)
    return out


def _per_variance(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = values / np.var(truth, axis=0, dtype=np.float64)
    return np.where(constant(truth), np.nan, ratio)
