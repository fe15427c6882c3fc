"""Find the threshold that parts an image best in two (Otsu, 1979), as ``skimage.filters.threshold_otsu`` does."""

import numpy as np

from bleep_sc.models.encoders.color.compilation import compiled

_N_BINS = 64
_ONE_VALUE = 1e-6
"""Values that lie no further apart are taken for one."""


def otsu_threshold(image: np.ndarray) -> float:
    """Find the threshold of an image, float32 (y, x). An image of a single value gives that value."""
    low, high = image.min(), image.max()
    return float(image[0, 0] if high - low < _ONE_VALUE else _threshold(image.ravel(), low, high))


@compiled
def _threshold(values: np.ndarray, low: np.float32, high: np.float32) -> np.float32:
    """Find the threshold of values from the lowest and the highest. All is float32, as in scikit-image."""
    edges = np.empty(_N_BINS + 1, dtype=np.float32)
    for i in range(_N_BINS):
        edges[i] = np.float32(i) * ((high - low) / np.float32(_N_BINS)) + low
    edges[_N_BINS] = high
    best = _best_bin(_histogram(values, edges), edges)
    return _centre(edges, best)


@compiled
def _centre(edges: np.ndarray, place: int) -> np.float32:
    return (edges[place] + edges[place + 1]) / np.float32(2)


@compiled
def _histogram(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Count values in bins of equal width. A value on an edge belongs to the bin above, but for the last edge."""
    counts = np.zeros(len(edges) - 1, dtype=np.float32)
    last = len(counts) - 1
    scale = np.float32(len(counts)) / (edges[-1] - edges[0])
    for i in range(len(values)):
        place = min(int((values[i] - edges[0]) * scale), last)  # the bin or one beside it, since edges are rounded
        while values[i] < edges[place]:
            place -= 1
        while place < last and values[i] >= edges[place + 1]:
            place += 1
        counts[place] += np.float32(1)
    return counts


@compiled
def _best_bin(counts: np.ndarray, edges: np.ndarray) -> int:
    """Find the bin after which the two parts differ most."""
    n = len(counts)
    n_above, sum_above = np.empty(n, dtype=np.float32), np.empty(n, dtype=np.float32)
    total, weighted = np.float32(0), np.float32(0)
    for i in range(n - 1, -1, -1):
        total += counts[i]
        weighted += counts[i] * _centre(edges, i)
        n_above[i], sum_above[i] = total, weighted
    total, weighted = np.float32(0), np.float32(0)
    best, best_variance = 0, np.float32(-1)
    for i in range(n - 1):
        total += counts[i]
        weighted += counts[i] * _centre(edges, i)
        difference = weighted / total - sum_above[i + 1] / n_above[i + 1]
        variance = total * n_above[i + 1] * (difference * difference)
        if variance > best_variance:
            best, best_variance = i, variance
    return best
