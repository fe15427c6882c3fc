from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from sklearn.linear_model import LinearRegression

from bleep_sc.metrics import ccc, partial_pearson, pearson, spearman
from bleep_sc.metrics.correlation import _ranks

Metric = Callable[[np.ndarray, np.ndarray], np.ndarray]


@pytest.fixture
def truth() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.log1p(rng.poisson(0.5 + rng.gamma(1, 2, size=30), size=(40, 30)))


@pytest.fixture
def prediction(truth: np.ndarray) -> np.ndarray:
    return 2 + 0.5 * truth + np.random.default_rng(1).normal(0, 0.4, size=truth.shape)


@pytest.mark.parametrize(("metric", "expected"), [(pearson, scipy.stats.pearsonr), (spearman, scipy.stats.spearmanr)])
def test_equal_to_scipy(metric: Metric, expected: Callable, truth: np.ndarray, prediction: np.ndarray) -> None:
    # counts have many ties
    assert len(np.unique(truth[:, 0])) < 20
    by_gene = [expected(t, p)[0] for t, p in zip(truth.T, prediction.T, strict=True)]
    np.testing.assert_allclose(metric(truth, prediction), by_gene)
    np.testing.assert_allclose(metric(truth.astype(np.float32), prediction.astype(np.float32)), by_gene, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("n_obs", [1, 2, 7, 300])
def test_ranks_are_those_of_scipy(n_obs: int, dtype: type) -> None:
    """Also of values that single precision does not hold, which take another way."""
    rng = np.random.default_rng(n_obs)
    few, many = rng.integers(-3, 4, size=(n_obs, 5)), rng.normal(size=(n_obs, 5)) * 1e6
    values = np.concatenate([few, many, np.full((n_obs, 1), 2)], axis=1).astype(dtype)
    np.testing.assert_array_equal(_ranks(values), scipy.stats.rankdata(values, axis=0))


@pytest.mark.parametrize("last", [0.5, 0.1], ids=["single precision holds all", "it does not"])
def test_ranks_of_what_computers_hold_oddly(last: float) -> None:
    odd = [0.0, -0.0, 1e-42, -1e-42, 3e38, -3e38, np.inf, -np.inf, 0.0, 1.0, -1.0, last]
    values = np.array([odd, odd[::-1]]).T
    np.testing.assert_array_equal(_ranks(values.astype(np.float32)), scipy.stats.rankdata(values.astype("f4"), axis=0))
    np.testing.assert_array_equal(_ranks(values), scipy.stats.rankdata(values, axis=0))
    values[3, 1] = np.nan
    np.testing.assert_array_equal(_ranks(values), scipy.stats.rankdata(values, axis=0))
    assert np.isnan(_ranks(values)[:, 1]).all()


def test_concordance_by_hand() -> None:
    truth = np.array([[0.0, 0, 0], [1, 1, 1], [2, 2, 2]])
    prediction = np.array([[0.0, 1, 2], [1, 2, 1], [2, 3, 0]])
    # variances 2/3; the second column is shifted by 1: 2 * 2/3 / (4/3 + 1)
    np.testing.assert_allclose(ccc(truth, prediction), [1, 4 / 7, -1])


def test_partial_pearson_equals_correlating_residuals(truth: np.ndarray, prediction: np.ndarray) -> None:
    depth = np.random.default_rng(2).normal(8, 1, size=40)
    truth, prediction = truth + 0.6 * depth[:, None], prediction + 0.9 * depth[:, None]
    for covariate in (depth, np.stack([depth, depth**2], axis=1)):
        x = covariate.reshape(40, -1)
        left = [values - LinearRegression().fit(x, values).predict(x) for values in (truth, prediction)]
        expected = [scipy.stats.pearsonr(t, p)[0] for t, p in zip(*(part.T for part in left), strict=True)]
        np.testing.assert_allclose(partial_pearson(truth, prediction, covariate), expected, atol=1e-10)
    assert partial_pearson(truth, prediction, depth).mean() < pearson(truth, prediction).mean() - 0.02
    # a covariate that does not vary takes nothing away
    np.testing.assert_allclose(partial_pearson(truth, prediction, np.full(40, 7.0)), pearson(truth, prediction))


def test_what_depth_alone_explains_scores_nothing(truth: np.ndarray) -> None:
    depth = np.random.default_rng(2).normal(8, 1, size=40)
    prediction = np.repeat(3 - 2 * depth[:, None], 30, axis=1)
    np.testing.assert_array_equal(partial_pearson(truth, prediction, depth), 0)
    assert np.isnan(partial_pearson(prediction, truth, depth)).all()


@pytest.mark.parametrize("metric", [pearson, spearman, ccc, lambda t, p: partial_pearson(t, p, np.array([1, 5, 2.0]))])
@pytest.mark.parametrize("value", [3.0, 0.1])
def test_constant_and_missing_genes(metric: Metric, value: float) -> None:
    truth = np.array([[value, 1, value, 2, 4], [value, 2, value, 5, 1], [value, 3, value, 9, 6]])
    prediction = np.array([[1, value, value, np.nan, 1], [2, value, value, 1, 2], [3, value, value, 1, 0.0]])
    score = metric(truth, prediction)
    np.testing.assert_array_equal(score[:4], [np.nan, 0, np.nan, np.nan])
    assert np.isfinite(score[4])
    assert score[4] != 0
