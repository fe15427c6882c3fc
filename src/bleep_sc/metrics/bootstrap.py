"""Percentile bootstrap: how far a mean score would move with other patients, sections or spots."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from bleep_sc._stats import all_finite
from bleep_sc.metrics._common import brought_near_one, by_gene, check_draws, check_pair, constant, dense

_BLOCK = 256
_LEVEL = 0.95


def interval(draws: np.ndarray) -> tuple[float, float]:
    """Range that holds the middle 95 % of the draws: its lower and upper end."""
    draws = np.asarray(draws)
    if draws.ndim != 1 or not draws.size or draws.dtype.kind not in "fiub":
        msg = f"`draws` must be at least one number (n_draws,), found {draws.dtype} {draws.shape}."
        raise ValueError(msg)
    tail = 100 * (1 - _LEVEL) / 2
    low, high = np.percentile(draws, [tail, 100 - tail])
    return float(low), float(high)


def bootstrap_mean(groups: Sequence[np.ndarray], *, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    """Draw units with replacement within each group; return the mean over groups of each group's mean (n_draws,).

    With patients as units there is one group. With sections as units, the sections of each patient are a group.
    """
    check_draws(n_draws, rng)
    units = [np.asarray(values) for values in groups]
    if not units or any(values.ndim != 1 or not values.size or values.dtype.kind not in "fiub" for values in units):
        msg = f"`groups` must hold at least one array of numbers, none empty, found shapes {[v.shape for v in units]}."
        raise ValueError(msg)
    draws = [_weights(len(values), n_draws, rng) @ values.astype(np.float64) for values in units]
    out: np.ndarray = np.mean(draws, axis=0)
    return out


def bootstrap_pearson(
    truth: Any,
    prediction: Any,
    *,
    panels: Sequence[np.ndarray],
    n_draws: int,
    rng: np.random.Generator,
    covariate: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Draw spots with replacement, and return each panel's mean Pearson correlation.

    All moments of a draw are products with the matrix of how often each spot was drawn. So there is no loop over draws
    or genes.

    Parameters
    ----------
    truth, prediction
        Measured and predicted expression (n_obs, n_genes), dense or CSR, without NaN.
    panels
        For each panel the weight of each gene in its mean (n_genes,). Constant genes count as 0.
    n_draws
        Number of draws.
    rng
        Random number generator that draws the spots.
    covariate
        Quantity (n_obs,) that truth and prediction are also regressed on, in each draw again.

    Returns
    -------
    Two arrays, float64 (n_draws, n_panels): the mean Pearson correlation, and the same after the regression. Without a
    covariate the second is None.
    """
    check_draws(n_draws, rng)
    truth, prediction = check_pair(truth, prediction)
    n_obs, n_genes = truth.shape
    _check_moments_of(truth, prediction, panels, covariate)
    truth, prediction = by_gene(truth), by_gene(prediction)
    # single precision is ample for an interval, and twice as quick; standardising first keeps it exact enough
    weights = _weights(n_obs, n_draws, rng).astype(np.float32)
    c = None if covariate is None else _moments(weights, np.reshape(covariate, (-1, 1)))
    plain, partial = np.zeros((2, n_draws, len(panels)))
    for start in range(0, n_genes, _BLOCK):
        part = slice(start, start + _BLOCK)
        t, p = _moments(weights, truth[:, part]), _moments(weights, prediction[:, part])
        score = _correlation(weights, t, p)
        left = None if c is None else _partial(score, _correlation(weights, t, c), _correlation(weights, p, c))
        for number, panel in enumerate(panels):
            plain[:, number] += score @ panel[part]
            if left is not None:
                partial[:, number] += left @ panel[part]
    return plain, None if c is None else partial


def _check_moments_of(truth: Any, prediction: Any, panels: Sequence[np.ndarray], covariate: np.ndarray | None) -> None:
    """Check that all moments exist: no NaN, and weights and covariate that fit."""
    n_obs, n_genes = truth.shape
    for name, values in (("truth", truth), ("prediction", prediction)):
        if not all_finite(values.data if sparse.issparse(values) else values):
            msg = f"`{name}` holds NaN: leave genes out that were not predicted."
            raise ValueError(msg)
    for panel in panels:
        if np.shape(panel) != (n_genes,):
            msg = f"`panels` must hold a weight for each of the {n_genes} genes, found {np.shape(panel)}."
            raise ValueError(msg)
    if covariate is not None and (np.shape(covariate) != (n_obs,) or not np.isfinite(covariate).all()):
        msg = f"`covariate` must be finite numbers of the {n_obs} spots, found {np.shape(covariate)}."
        raise ValueError(msg)


def _weights(n_units: int, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    """Draw units with replacement, and give the share of each unit in each draw (n_draws, n_units)."""
    out: np.ndarray = rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=n_draws) / n_units
    return out


class _Moments(NamedTuple):
    """Standardised values, and what their mean and variance are in each draw of spots."""

    values: np.ndarray
    """Values float32 (n_obs, n_genes), of mean 0 and variance 1 before drawing; 0 where constant."""
    mean: np.ndarray
    """Mean of each draw (n_draws, n_genes)."""
    variance: np.ndarray
    """Variance of each draw (n_draws, n_genes)."""


def _moments(weights: np.ndarray, values: Any) -> _Moments:
    """Compute the moments of some genes (n_obs, n_genes), given the share of each spot in each draw."""
    exact = dense(values)
    constants = constant(exact)
    exact = exact - exact.mean(axis=0)
    exact *= brought_near_one(exact)
    sd = np.where(constants, np.inf, exact.std(axis=0))
    standardised = (exact / sd).astype(np.float32)
    mean = weights @ standardised
    return _Moments(standardised, mean, weights @ standardised**2 - mean**2)


def _correlation(weights: np.ndarray, a: _Moments, b: _Moments) -> np.ndarray:
    """Correlation of each draw and gene (n_draws, n_genes); 0 where a draw leaves one of the two constant."""
    fine = (a.variance > 1e-5) & (b.variance > 1e-5)
    norm = np.sqrt(np.where(fine, a.variance * b.variance, 1))
    covariance = weights @ (a.values * b.values) - a.mean * b.mean
    out: np.ndarray = np.where(fine, np.clip(covariance / norm, -1, 1), 0)
    return out


def _partial(tp: np.ndarray, tc: np.ndarray, pc: np.ndarray) -> np.ndarray:
    """Correlate truth and prediction beyond a covariate, from the three correlations; 0 where nothing is left."""
    left = (1 - tc**2) * (1 - pc**2)
    fine = left > 1e-8
    out: np.ndarray = np.where(fine, np.clip((tp - tc * pc) / np.sqrt(np.where(fine, left, 1)), -1, 1), 0)
    return out
