"""Kriging of components of expression: a Gaussian process over the place of a spot and over what was predicted of it.

Rasmussen and Williams, "Gaussian Processes for Machine Learning" (2006), chapters 2.7 and 5.4: an unknown level with a
flat prior, and hyperparameters by evidence. All components share the kernel, so that one eigendecomposition serves them
all, and few spots are enough to tell which kernel it is.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bleep_sc.methods.measured.prior import Prior

_LENGTHS = (1.5, 3.0, 6.0, 12.0)
"""Length scales over places, in spacings of the spots."""
_LOOKS = (0.0, 0.5)
"""Shares of the covariance over predictions in the whole."""
_AMOUNTS = (0.03, 0.1, 0.2, 0.4, 0.8)
"""Variances of a pattern, as shares of the reference's signal."""
_N_COMPONENTS_OF_LOOK = 5
"""Number of predicted components that tell how alike two spots were predicted."""
_NEGLIGIBLE = 0.01
"""Probability below which a kernel is left out of the mean."""


class Kernel(NamedTuple):
    """A covariance of spots, 1 for a spot with itself."""

    length: float
    """Length scale over places, in spacings of the spots."""
    look: float
    """Share of the covariance over predictions."""


KERNELS = tuple(Kernel(length, look) for look in _LOOKS for length in _LENGTHS)


@dataclass(frozen=True)
class Field:
    """The spots of a section as kernels see them."""

    places: np.ndarray
    """Places (n, 2) in spacings of the spots."""
    looks: np.ndarray
    """The leading predicted components (n, n_looks), each of variance 1."""

    @classmethod
    def of(cls, places: np.ndarray, predicted: np.ndarray) -> "Field":
        """Standardise the leading predicted scores (n, n_components); those that do not vary are left out."""
        leading = predicted[:, :_N_COMPONENTS_OF_LOOK]
        spread = leading.std(axis=0)
        varies = spread > 1e-6 * max(float(spread.max(initial=0)), 1e-6)
        return cls(places, leading[:, varies] / spread[varies])

    def covariance(self, rows: np.ndarray, columns: np.ndarray, kernel: Kernel) -> np.ndarray:
        """Compute the covariance of two sets of spots (n_rows, n_columns).

        It falls off exponentially over places, and as a Gaussian, as wide as the looks vary, over predictions.
        """
        from scipy.spatial.distance import cdist

        out = (1 - kernel.look) * np.exp(-cdist(self.places[rows], self.places[columns]) / kernel.length)
        if kernel.look and self.looks.shape[1]:
            squares = cdist(self.looks[rows], self.looks[columns], "sqeuclidean")
            out += kernel.look * np.exp(-squares / (2 * self.looks.shape[1]))
        return np.asarray(out)


@dataclass(frozen=True)
class Pattern:
    """The expected residual of any spot of a field, less the mean residual of the measured ones."""

    field: Field
    measured: np.ndarray
    """Rows of the measured spots (n_measured,)."""
    coefficients: dict[Kernel, np.ndarray]
    """For each likely kernel the weight of each measured spot (n_measured, n_components)."""
    offset: np.ndarray
    """The level, less the mean residual (n_components,)."""
    length: float
    """Mean length scale in spacings, NaN where no pattern is likely."""

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Compute the residual of spots on each component (n_rows, n_components)."""
        parts = [self.field.covariance(rows, self.measured, k) @ weights for k, weights in self.coefficients.items()]
        return np.asarray(sum(parts, np.tile(self.offset, (len(rows), 1))))


def krige(field: Field, measured: np.ndarray, residuals: np.ndarray, prior: Prior) -> Pattern:
    """Find the expected residual from measured spots, as the mean over kernels and amounts by their evidence.

    Parameters
    ----------
    field
        All spots of a section.
    measured
        Rows of two or more measured spots (n_measured,).
    residuals
        Measured minus predicted scores of these spots (n_measured, n_components).
    prior
        How each component varies: its signal and its noise.
    """
    n = len(measured)
    contrasts = np.linalg.svd(np.eye(n) - 1 / n)[0][:, : n - 1].T
    found: list[tuple[float, float, Kernel]] = [
        (_evidence(contrasts @ residuals, 0 * prior.signal, prior), 0.0, KERNELS[0])
    ]
    inner = {kernel: field.covariance(measured, measured, kernel) for kernel in KERNELS}
    for kernel, covariance in inner.items():
        values, vectors = np.linalg.eigh(contrasts @ covariance @ contrasts.T)
        turned, values = vectors.T @ contrasts @ residuals, np.maximum(values, 0)[:, None]
        found += [(_evidence(turned, amount * values * prior.signal, prior), amount, kernel) for amount in _AMOUNTS]
    evidences = np.array([evidence for evidence, _, _ in found])
    weights = np.exp(evidences - evidences.max())
    weights = np.where(weights < _NEGLIGIBLE * weights.sum(), 0, weights)
    weights /= weights.sum()
    coefficients: dict[Kernel, np.ndarray] = {}
    offset, lengths = np.zeros(residuals.shape[1]), np.zeros(2)
    for weight, (_, amount, kernel) in zip(weights, found, strict=True):
        if weight and amount:
            own, level = _posterior(inner[kernel], residuals, amount * prior.signal, prior)
            coefficients[kernel] = coefficients.get(kernel, 0) + weight * own
            offset += weight * (level - residuals.mean(axis=0))
            lengths += weight * np.array([kernel.length, 1])
    length = float(lengths[0] / lengths[1]) if coefficients else float("nan")
    return Pattern(field, measured, coefficients, offset, length)


def _evidence(turned: np.ndarray, signal: np.ndarray, prior: Prior) -> float:
    """Compute the log evidence of uncorrelated residuals, at the likeliest common scale of signal and noise."""
    variances = np.broadcast_to(signal + prior.noise, turned.shape)
    squares = np.square(turned) / variances
    scale = max(float(squares.mean()), np.finfo(float).tiny)
    return float(-0.5 * squares.size * np.log(scale) - 0.5 * np.log(variances).sum())


def _posterior(
    covariance: np.ndarray, residuals: np.ndarray, signal: np.ndarray, prior: Prior
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the weights of measured spots in the posterior mean, and the level by generalised least squares."""
    values, vectors = np.linalg.eigh(covariance)
    precision = 1 / (np.maximum(values, 0)[:, None] * signal + prior.noise)
    ones, turned = vectors.sum(axis=0)[:, None], vectors.T @ residuals
    level = (ones * turned * precision).sum(axis=0) / (np.square(ones) * precision).sum(axis=0)
    return vectors @ ((turned - ones * level) * precision) * signal, level
