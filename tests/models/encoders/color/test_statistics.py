import numpy as np
import pytest
from scipy import stats

from bleep_sc.models.encoders.color.statistics import correlation, group_means, moments, quantiles, ring_means


def channels(n: int = 3, size: int = 41) -> np.ndarray:
    return np.random.default_rng(0).gamma(2, size=(n, size, size)).astype(np.float32)


def test_moments() -> None:
    found = moments(channels()).reshape(3, 3)
    flat = channels().reshape(3, -1).astype(np.float64)
    right = np.stack([flat.mean(axis=1), flat.std(axis=1), stats.skew(flat, axis=1)], axis=1)
    np.testing.assert_allclose(found, right, rtol=1e-5)


def test_the_skewness_of_one_value_is_none() -> None:
    np.testing.assert_array_equal(moments(np.full((1, 4, 4), 0.5, dtype=np.float32)), [0.5, 0, 0])


def test_correlation() -> None:
    a, b = channels(2)
    assert correlation(a, a + b) == pytest.approx(np.corrcoef(a.ravel(), (a + b).ravel())[0, 1], abs=1e-6)
    assert correlation(a, np.zeros_like(a)) == 0


@pytest.mark.parametrize(
    "values",
    [
        channels(1, 1)[0],
        channels(1, 2)[0],
        channels(1, 41)[0],
        np.zeros((5, 5)),
        # nearly all of them in one bucket
        np.append(np.random.default_rng(0).random(399) * 1e-4, 1e3).reshape(20, 20),
        np.round(channels(1, 30)[0]),
        -channels(1, 30)[0],
    ],
    ids=["one", "four", "many", "equal", "outlier", "ties", "negative"],
)
def test_quantiles(values: np.ndarray) -> None:
    percent = (0, 5, 25, 50, 50, 75, 95, 100)
    values = values.astype(np.float32)
    found = quantiles((values, values), percent)
    np.testing.assert_allclose(found, np.tile(np.percentile(values, percent), 2), rtol=1e-6)


def test_rings() -> None:
    """Seven pixels: half a side is 3.5, and a ring is 3.5 / 3 wide."""
    y, x = np.indices((7, 7)) - 3
    ring = np.minimum(np.hypot(y, x) // (3.5 / 3), 2)
    found = ring_means((ring.astype(np.float32), np.ones((7, 7), dtype=np.float32)))
    np.testing.assert_allclose(found, [0, 1, 2, 1, 1, 1])
    # a single pixel lies in the first ring
    np.testing.assert_allclose(ring_means((np.full((1, 1), 0.3, dtype=np.float32),)), 0.3)


def test_group_means() -> None:
    values, group = np.array([1, 3, 10, 20], dtype=np.float32), np.array([0, 0, 2, 2], dtype=np.uint8)
    np.testing.assert_array_equal(group_means(values, group, 3, -1.0), [2, -1, 15])
