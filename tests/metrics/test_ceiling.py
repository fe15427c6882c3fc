import numpy as np
import pytest
from scipy import sparse

from bleep_sc.metrics import ceiling_from_halves, pearson, split_half_pearson


def test_equals_a_naive_loop() -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.5 + rng.gamma(1, 3, size=25), size=(40, 25))
    counts[:, 4] = 0
    counts[:, 5] = rng.integers(13, 20, size=40)  # on both sides of the largest count that is looked up
    counts[:, 6] = rng.integers(10_000, 20_000, size=40)
    found = split_half_pearson(sparse.csr_matrix(counts), target_sum=100, n_splits=3, rng=np.random.default_rng(5))
    again = np.random.default_rng(5)
    scores = []
    for _ in range(3):
        half = np.zeros_like(counts)
        half[counts > 0] = again.binomial(counts[counts > 0], 0.5)
        parts = [np.log1p(part / part.sum(axis=1, keepdims=True) * 100) for part in (half, counts - half)]
        scores.append(np.nan_to_num(pearson(*parts)))
    expected = np.mean(scores, axis=0)
    expected[4] = np.nan
    np.testing.assert_allclose(found, expected)


def test_spots_and_halves_without_counts() -> None:
    counts = np.zeros((5, 3))
    counts[1:4, 0] = 50, 10, 90
    counts[1:4, 1] = 10, 60, 40
    counts[2, 2] = 1
    found = split_half_pearson(sparse.csr_matrix(counts), target_sum=100, n_splits=4, rng=np.random.default_rng(0))
    assert found[:2].min() > 0.9
    # a single count is in one half only
    assert found[2] == 0


def test_ceiling_by_hand() -> None:
    np.testing.assert_allclose(
        ceiling_from_halves(np.array([0, -0.3, 1, 0.5, np.nan])), [0, 0, 1, np.sqrt(2 / 3), np.nan]
    )


@pytest.mark.parametrize("level", [0.5, 3.0, 20.0])
def test_ceiling_is_what_the_true_expression_reaches(level: float) -> None:
    """Poisson counts about a known mean: the mean itself correlates with them as the ceiling says."""
    rng = np.random.default_rng(1)
    n_obs, n_genes = 400, 200
    mean = level * np.exp(rng.normal(0, 0.6, size=(n_obs, n_genes)))
    # one gene takes up what the others leave, so that all spots have the same depth
    mean = np.column_stack([mean, 4 * level * n_genes - mean.sum(axis=1)])
    counts = rng.poisson(mean)
    total = float(np.median(counts.sum(axis=1)))
    measured = np.log1p(counts / counts.sum(axis=1, keepdims=True) * total)
    halves = split_half_pearson(sparse.csr_matrix(counts), target_sum=total, n_splits=4, rng=rng)
    ceiling = ceiling_from_halves(halves)[:-1].mean()
    reached = pearson(measured, np.log1p(mean))[:-1].mean()
    assert reached == pytest.approx(ceiling, abs=0.03)
