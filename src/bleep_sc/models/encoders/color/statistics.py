"""Describe channels, float32 (y, x), by moments, quantiles and means of rings, and two by their correlation."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from bleep_sc.models.encoders.color.compilation import compiled

MOMENTS = ("mean", "sd", "skewness")
RINGS = ("ring0", "ring1", "ring2")

_VANISHING = 1e-9
_N_BUCKETS = 2048


@compiled
def ratio(a: float, b: float) -> float:
    """Divide, with 0 where the denominator vanishes, as the spread of a crop of one colour does."""
    return a / b if b > _VANISHING else 0.0


def moments(channels: np.ndarray) -> np.ndarray:
    """Compute mean, standard deviation and skewness of each channel, one channel after the other."""
    out = np.empty((len(channels), 3))
    _moments(channels.reshape(len(channels), -1), out)
    return out.ravel()


@compiled
def _moments(channels: np.ndarray, out: np.ndarray) -> None:
    for i in range(len(channels)):
        mean = _mean(channels[i])
        square, cube = _central_moments(channels[i], np.float32(mean))
        sd = np.sqrt(square)
        out[i, 0], out[i, 1], out[i, 2] = mean, sd, ratio(cube, sd**3)


@compiled(sums_in_any_order=True)
def _mean(values: np.ndarray) -> float:
    total = 0.0
    for i in range(len(values)):
        total += values[i]
    return total / len(values)


@compiled(sums_in_any_order=True)
def _central_moments(values: np.ndarray, mean: np.float32) -> tuple[float, float]:
    """Average squares and cubes of deviations. Single ones are float32, sums of them are not."""
    squares, cubes = 0.0, 0.0
    for i in range(len(values)):
        deviation = values[i] - mean
        square = deviation * deviation
        squares += square
        cubes += square * deviation
    return squares / len(values), cubes / len(values)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Compute Pearson's correlation of two channels, 0 where one of them has a single value."""
    return float(_correlation(a.ravel(), b.ravel()))


@compiled(sums_in_any_order=True)
def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    mean_a, mean_b = _mean(a), _mean(b)
    ab, aa, bb = 0.0, 0.0, 0.0
    for i in range(len(a)):
        deviation_a, deviation_b = a[i] - mean_a, b[i] - mean_b
        ab += deviation_a * deviation_b
        aa += deviation_a * deviation_a
        bb += deviation_b * deviation_b
    return ratio(ab / len(a), np.sqrt((aa / len(a)) * (bb / len(a))))


def quantiles(channels: Sequence[np.ndarray], percent: Sequence[float]) -> np.ndarray:
    """Find quantiles, from low to high, of each channel: between two values by a straight line, as in NumPy."""
    shares = np.array(percent) / 100
    out = np.empty((len(channels), len(shares)))
    for channel, row in zip(channels, out, strict=True):
        _quantiles(channel.ravel(), np.float64(channel.min()), np.float64(channel.max()), shares, row)
    return out.ravel()


@compiled
def _quantiles(values: np.ndarray, low: float, high: float, shares: np.ndarray, out: np.ndarray) -> None:
    """Put values into buckets, in order of size, and sort only the buckets that a quantile lies in."""
    n = len(values)
    scale = (_N_BUCKETS - 1) / (high - low) if high > low else 0.0
    bucket_of = np.empty(n, dtype=np.int32)
    starts = np.zeros(_N_BUCKETS + 1, dtype=np.int64)
    for i in range(n):
        bucket = int((values[i] - low) * scale)
        bucket_of[i] = bucket
        starts[bucket + 1] += 1
    for bucket in range(_N_BUCKETS):
        starts[bucket + 1] += starts[bucket]
    free = starts.copy()
    arranged = np.empty_like(values)
    for i in range(n):
        arranged[free[bucket_of[i]]] = values[i]
        free[bucket_of[i]] += 1
    n_sorted, bucket = 0, 0
    for i in range(len(shares)):
        place = shares[i] * (n - 1)
        below = int(place)
        above = min(below + 1, n - 1)
        while n_sorted <= above:
            if starts[bucket + 1] > below:
                arranged[starts[bucket] : starts[bucket + 1]].sort()
            bucket += 1
            n_sorted = starts[bucket]
        a, b = np.float64(arranged[below]), np.float64(arranged[above])
        out[i] = a + (b - a) * (place - below)


def ring_means(channels: Sequence[np.ndarray]) -> np.ndarray:
    """Average three rings of equal width around the centre. A ring without a pixel gets the mean of all."""
    flat = [channel.ravel() for channel in channels]
    return np.concatenate([group_means(values, _rings(len(channels[0])), len(RINGS), _mean(values)) for values in flat])


@lru_cache(maxsize=16)
def _rings(size: int) -> np.ndarray:
    """Compute the ring of each pixel."""
    axis = np.arange(size) - (size - 1) / 2
    return np.minimum(3 * np.hypot(axis[:, None], axis) / max(size / 2, 1), 2.9).astype(np.uint8).ravel()


def group_means(values: np.ndarray, group: np.ndarray, n_groups: int, of_none: float) -> np.ndarray:
    """Average the values of groups 0, 1, ..., with `of_none` for a group without values."""
    out = np.empty(n_groups)
    _group_means(values, group, of_none, out)
    return out


@compiled(sums_in_any_order=True)
def _group_means(values: np.ndarray, group: np.ndarray, of_none: float, out: np.ndarray) -> None:
    """Go through all values once for each group, which is quick, as a processor takes several at a time."""
    for number in range(len(out)):
        total, count = 0.0, 0
        for i in range(len(values)):
            belongs = group[i] == number
            total += np.float64(values[i]) if belongs else 0.0
            count += belongs
        out[number] = total / count if count else of_none
