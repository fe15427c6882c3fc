"""Weight the neighbours of a spot, by rules that have names."""

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from bleep_sc._checks import check_choice

Weighting = Literal["mean", "distance", "softmax"]
"""Names of the rules in `WEIGHTINGS`, for signatures."""


def _alike(distances: np.ndarray, temperature: float) -> np.ndarray:
    """Give all neighbours the same weight, which is the paper's default."""
    return np.ones_like(distances, dtype=np.float64)


def _by_distance(distances: np.ndarray, temperature: float) -> np.ndarray:
    """Weight each neighbour by the inverse of its distance, 1 - cosine."""
    weights: np.ndarray = 1 / np.maximum(distances.astype(np.float64), 1e-6)
    return weights


def _by_softmax(distances: np.ndarray, temperature: float) -> np.ndarray:
    """Weight each neighbour by exp(cosine / temperature)."""
    # relative to the nearest, so that no exponential overflows
    with np.errstate(over="ignore"):  # to minus infinity, of which the exponential is 0
        weights: np.ndarray = np.exp((distances[:, :1].astype(np.float64) - distances) / temperature)
    return weights


WEIGHTINGS: Mapping[Weighting, Callable[[np.ndarray, float], np.ndarray]] = {
    "mean": _alike,
    "distance": _by_distance,
    "softmax": _by_softmax,
}
"""Rules by name: functions of distances (n, k), ascending, and a temperature that return weights (n, k) of any sum."""


def neighbor_weights(distances: np.ndarray, weighting: Weighting, *, temperature: float = 0.1) -> np.ndarray:
    """Compute weights of neighbours, float32 (n, k). Each row sums to 1. Only ``"softmax"`` has a `temperature`."""
    check_choice("weighting", weighting, WEIGHTINGS)
    weights = WEIGHTINGS[weighting](distances, temperature)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
