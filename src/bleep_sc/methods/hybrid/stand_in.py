"""Replaces the landmarks of a kernel regression, which are spots of the reference, by points that nobody measured.

A kernel regression is a sum of bumps around spots, so its landmarks are these spots' image features. With them anyone
can work out each spot's scores too. Here the same function is written as bumps around random points instead.
"""

from typing import NamedTuple

import numpy as np

from bleep_sc.methods.hybrid.kernel_ridge import KernelRidge, gaussian

MOST_POINTS = 2000
"""The most random points: a thousand stood in to within 12 % on real sections, two thousand to within 7 %."""
_POINTS_OF_A_LANDMARK = 2
_PENALTY = 1e-8
"""The penalty on the heights of the bumps: of 1e-10, 1e-8 and 1e-6 it was best on spots of a section left out."""
_SPREAD = 0.7
"""The spread of the random points in that of the spots: 0.7 did better than 1 on spots of a section left out."""


class StandIn(NamedTuple):
    """A regression that stands in for another one, and how near it comes."""

    ridge: KernelRidge
    error: float
    """Root mean squared difference at random places like the reference's, as a share of the spread there."""


def without_spots(ridge: KernelRidge, *, seed: int) -> StandIn:
    """Write a kernel regression as bumps around random points, drawn with the mean and covariance of its landmarks.

    The heights are found by least squares at the landmarks and at other random points.
    """
    rng = np.random.default_rng(seed)
    landmarks = ridge.landmarks.astype(np.float64)
    n_points = min(MOST_POINTS, _POINTS_OF_A_LANDMARK * len(landmarks))

    def drawn(n: int, spread: float) -> np.ndarray:
        mean = landmarks.mean(axis=0)
        # sums of all landmarks with random weights have their covariance
        weights = rng.standard_normal((n, len(landmarks))) / np.sqrt(max(len(landmarks) - 1, 1))
        return np.asarray(mean + spread * (weights @ (landmarks - mean)))

    points, places, fresh = drawn(n_points, _SPREAD), drawn(2 * n_points, 1.0), drawn(len(landmarks), 1.0)
    places = np.vstack([landmarks, places])
    bumps = gaussian(places, points, ridge.width)
    normal = bumps.T @ bumps + _PENALTY * len(places) * np.eye(n_points)
    coefficients = np.linalg.solve(normal, bumps.T @ _heights(ridge, places))
    made = KernelRidge(points, coefficients, ridge.mean, ridge.width)
    truth = _heights(ridge, fresh)
    spread = float(np.square(truth - truth.mean(axis=0)).sum())
    apart = float(np.square(_heights(made, fresh) - truth).sum())
    return StandIn(made, float(np.sqrt(apart / spread)) if spread else 0.0)


def _heights(ridge: KernelRidge, features: np.ndarray) -> np.ndarray:
    return gaussian(features, ridge.landmarks.astype(np.float64), ridge.width) @ ridge.coefficients
