import numpy as np
import pytest
from scipy import sparse

from bleep_sc.metrics import bootstrap_mean, bootstrap_pearson, interval, partial_pearson, pearson


def test_interval_holds_the_middle_of_the_draws() -> None:
    assert interval(np.arange(1001) / 1000) == pytest.approx((0.025, 0.975))


def test_mean_of_units_by_hand() -> None:
    """Two units of values 0 and 1: the mean is 0, 1/2, 1 with probability 1/4, 1/2, 1/4."""
    draws = bootstrap_mean([np.array([0.0, 1.0])], n_draws=20_000, rng=np.random.default_rng(0))
    values, number = np.unique(draws, return_counts=True)
    assert values.tolist() == [0, 0.5, 1]
    np.testing.assert_allclose(number / 20_000, [0.25, 0.5, 0.25], atol=0.02)


def test_groups_weigh_the_same_and_are_drawn_within() -> None:
    groups = [np.array([0.2, 0.2, 0.2, 0.2]), np.array([0.8])]
    draws = bootstrap_mean(groups, n_draws=10, rng=np.random.default_rng(0))
    np.testing.assert_allclose(draws, 0.5)


def test_draws_of_spots_equal_a_naive_loop() -> None:
    rng = np.random.default_rng(0)
    depth = rng.normal(size=30)
    truth = np.log1p(rng.poisson(2, size=(30, 300))) + 0.3 * depth[:, None]
    prediction = truth + rng.normal(size=truth.shape) - 0.5 * depth[:, None]
    prediction[:, 0] = 1
    truth[:, 1] = 4
    shares = [np.full(300, 1 / 300), np.eye(1, 300, 270)[0]]
    for covariate in (None, depth):
        plain, partial = bootstrap_pearson(
            sparse.csr_matrix(truth),
            prediction,
            panels=shares,
            n_draws=6,
            rng=np.random.default_rng(3),
            covariate=covariate,
        )
        found = plain if covariate is None else partial
        assert found is not None
        assert (partial is None) == (covariate is None)
        drawn = np.random.default_rng(3).multinomial(30, np.full(30, 1 / 30), size=6)
        for draw, number in zip(found, drawn, strict=True):
            rows = np.repeat(np.arange(30), number)
            t, p = truth[rows], prediction[rows]
            score = np.nan_to_num(pearson(t, p) if covariate is None else partial_pearson(t, p, depth[rows]))
            assert draw == pytest.approx([score.mean(), score[270]], abs=1e-4)


def test_interval_over_spots_covers_as_often_as_it_says() -> None:
    """Of 200 samples of a population with r = .5, about 95 % of the intervals hold it."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        truth = rng.normal(size=(100, 1))
        prediction = 0.5 * truth + np.sqrt(0.75) * rng.normal(size=(100, 1))
        draws, _ = bootstrap_pearson(truth, prediction, panels=[np.ones(1)], n_draws=300, rng=rng)
        low, high = interval(draws[:, 0])
        hits += low < 0.5 < high
    assert 0.88 < hits / 200 < 0.99
