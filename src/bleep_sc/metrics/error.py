"""How far a prediction is from the truth, in the units of the expression, gene by gene."""

import numpy as np

from bleep_sc.metrics._common import brought_near_one, constant, dense_pair


def rmse(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Root of the mean squared error over spots (n_genes,)."""
    difference = _difference(*dense_pair(truth, prediction))
    scale = brought_near_one(difference)
    difference *= scale
    out: np.ndarray = np.sqrt(np.mean(difference**2, axis=0)) / scale
    return out


def mae(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Mean absolute error over spots (n_genes,)."""
    out: np.ndarray = np.mean(np.abs(_difference(*dense_pair(truth, prediction))), axis=0)
    return out


def r2(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Share of the truth's variance that the prediction explains (n_genes,); NaN where the truth is constant.

    The score is below 0 if the mean of the truth is closer to the truth than the prediction is. No prediction from an
    image knows that mean.
    """
    truth, prediction = dense_pair(truth, prediction)
    scale = brought_near_one(truth)
    with np.errstate(over="ignore"):  # where the error is beyond all numbers
        error = np.mean((_difference(truth, prediction) * scale) ** 2, axis=0)
    out: np.ndarray = 1 - _per_variance(error, truth * scale)
    return out


def variance_ratio(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Variance of the prediction over that of the truth (n_genes,); NaN where the truth is constant.

    Averages of many profiles vary less than one measured profile with its noise. So values well below 1 are normal.
    """
    truth, prediction = dense_pair(truth, prediction)
    scale = brought_near_one(truth)
    with np.errstate(over="ignore", invalid="ignore"):
        variance = np.var(prediction * scale, axis=0)
    return _per_variance(variance, truth * scale)


def _difference(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    out: np.ndarray = prediction - truth
    return out


def _per_variance(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Divide by the variance of the truth; NaN where the truth is constant."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = values / np.var(truth, axis=0)
    return np.where(constant(truth), np.nan, ratio)
