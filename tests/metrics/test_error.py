import numpy as np
import pytest
from sklearn import metrics as reference

from bleep_sc.metrics import mae, r2, rmse, variance_ratio


def test_equal_to_sklearn() -> None:
    rng = np.random.default_rng(0)
    truth = rng.gamma(1, size=(50, 20)).astype(np.float32)
    prediction = (truth + rng.normal(0.3, 0.5, size=truth.shape)).astype(np.float32)
    for metric, expected in (
        (rmse, reference.root_mean_squared_error),
        (mae, reference.mean_absolute_error),
        (r2, reference.r2_score),
    ):
        by_gene = expected(truth.astype(float), prediction.astype(float), multioutput="raw_values")
        np.testing.assert_allclose(metric(truth, prediction), by_gene)


def test_by_hand() -> None:
    truth, prediction = np.array([[0.0], [2], [4]]), np.array([[1.0], [2], [3]])
    assert rmse(truth, prediction)[0] == pytest.approx(np.sqrt(2 / 3))
    assert mae(truth, prediction)[0] == pytest.approx(2 / 3)
    assert r2(truth, prediction)[0] == pytest.approx(1 - 2 / 8)
    assert variance_ratio(truth, prediction)[0] == pytest.approx(1 / 4)


def test_constant_genes() -> None:
    truth, prediction = np.array([[1.0, 1], [1, 3]]), np.array([[1.0, 2], [2, 2]])
    np.testing.assert_array_equal(r2(truth, prediction), [np.nan, 0])
    np.testing.assert_array_equal(variance_ratio(truth, prediction), [np.nan, 0])
    np.testing.assert_allclose(mae(truth, prediction), [0.5, 1])
