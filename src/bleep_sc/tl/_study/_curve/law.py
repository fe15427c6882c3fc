"""A power law through a learning curve, and what it says of a larger reference: arrays in, arrays out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

EXPONENTS = np.concatenate([[0.0], np.geomspace(0.05, 3, 40)])
"""The exponents that are tried: from 0, with which each doubling gains the same, to 3, a curve that is flat soon."""
FEWEST_SIZES = 4
"""A power law has three numbers to find."""


@dataclass(frozen=True)
class PowerLaw:
    """Laws ``limit - scale * size ** -exponent``, one for each curve; with the exponent 0, ``a + b * log(size)``."""

    exponent: np.ndarray
    """(n_curves,)."""
    coefficients: np.ndarray
    """Level at the largest size, and slope there by the logarithm of the size (n_curves, 2)."""
    largest: float

    def at(self, sizes: Sequence[float] | np.ndarray) -> np.ndarray:
        """Compute the curves at these sizes (n_curves, n_sizes)."""
        relative = np.asarray(sizes, dtype=np.float64) / self.largest
        return self.coefficients[:, :1] + self.coefficients[:, 1:] * _bend(relative, self.exponent[:, None])

    def gain(self, start: float, end: float) -> np.ndarray:
        """Compute how much each curve rises from one size to another (n_curves,)."""
        values = self.at([start, end])
        return np.asarray(values[:, 1] - values[:, 0])


def _bend(relative: np.ndarray, exponent: float | np.ndarray) -> np.ndarray:
    """Compute a power of a size, shifted and scaled so that it is 0 at size 1 and rises there like the logarithm."""
    power = np.where(exponent == 0, 1.0, exponent)
    return np.where(exponent == 0, np.log(relative), (1 - relative**-power) / power)


def fit_power_law(sizes: Sequence[float] | np.ndarray, curves: np.ndarray) -> PowerLaw:
    """Fit a power law to each curve (n_curves, n_sizes) by least squares.

    For a given exponent the law is a straight line, so all exponents of a grid are tried, for all curves at once.
    """
    sizes, curves = np.asarray(sizes, dtype=np.float64), np.atleast_2d(curves)
    relative = sizes / sizes.max()
    best = np.full(len(curves), np.inf)
    exponent, coefficients = np.zeros(len(curves)), np.zeros((len(curves), 2))
    for tried in EXPONENTS:
        design = np.column_stack([np.ones(len(sizes)), _bend(relative, tried)])
        found = curves @ np.linalg.pinv(design).T
        error = np.square(curves - found @ design.T).sum(axis=1)
        better = error < best - 1e-15
        best[better], exponent[better], coefficients[better] = error[better], tried, found[better]
    return PowerLaw(exponent, coefficients, float(sizes.max()))


def widened(drawn: np.ndarray, value: float, group_sizes: Sequence[int]) -> tuple[float, float]:
    """Give the interval of a value from bootstrap draws, as wide as so few units ask for.

    A percentile bootstrap of few units is too narrow: it lacks Student's factor, and that of the variance. Both ends
    are moved away from the value by both. `group_sizes` are the numbers of units that were redrawn among each other.
    """
    from scipy.stats import norm, t

    low, high = np.percentile(drawn, [2.5, 97.5])
    fewest, freedom = min(group_sizes), sum(size - 1 for size in group_sizes)
    factor = t.ppf(0.975, freedom) / norm.ppf(0.975) * np.sqrt(fewest / (fewest - 1))
    return float(value - factor * max(value - low, 0)), float(value + factor * max(high - value, 0))
