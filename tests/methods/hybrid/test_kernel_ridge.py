"""Kernel ridge regression, on all spots or on landmarks."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from sklearn.kernel_ridge import KernelRidge as Sklearn

from bleep_sc.methods.hybrid import kernel_ridge as _kernel_ridge
from bleep_sc.methods.hybrid.kernel_ridge import KernelProblem, predict


@pytest.fixture
def problem() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, targets far from 0, and features of new spots."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(140, 6)).astype(np.float32)
    y = np.stack([np.sin(x[:, 0]), x[:, 1] * x[:, 2], x[:, 3]], axis=1) + 0.1 * rng.normal(size=(140, 3)) + 5
    return x[:120], y[:120], x[120:]


def plain(x: np.ndarray, y: np.ndarray, new: np.ndarray, alpha: float) -> np.ndarray:
    width = np.median(pdist(x.astype(np.float64)) ** 2)
    mean = y.mean(axis=0)
    return Sklearn(alpha=alpha, kernel="rbf", gamma=1 / width).fit(x, y - mean).predict(new) + mean


@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_with_every_spot_a_landmark_it_is_scikit_learns(
    problem: tuple[np.ndarray, np.ndarray, np.ndarray], alpha: float
) -> None:
    x, y, new = problem
    ridge = KernelProblem(x, y, seed=0).solve(alpha)
    assert ridge.landmarks.shape == x.shape
    np.testing.assert_allclose(predict(ridge, new), plain(x, y, new, alpha), rtol=1e-5)


def test_one_problem_is_solved_for_many_penalties(problem: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    x, y, new = problem
    shared = KernelProblem(x, y, seed=0)
    shared.solve(10.0)
    np.testing.assert_array_equal(predict(shared.solve(0.3), new), predict(KernelProblem(x, y, seed=0).solve(0.3), new))


def test_landmarks_stand_for_all_spots(
    problem: tuple[np.ndarray, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nyström: the same objective over bumps at 60 of 120 spots; near the full solution, and nearer than half of it."""
    x, y, new = problem
    full = predict(KernelProblem(x, y, seed=0).solve(0.3), new)
    monkeypatch.setattr(_kernel_ridge, "MAX_LANDMARKS", 60)
    ridge = KernelProblem(x, y, seed=0).solve(0.3)
    assert ridge.landmarks.shape == (60, 6)
    assert {row.tobytes() for row in ridge.landmarks} <= {row.tobytes() for row in x.astype(np.float64)}
    found = predict(ridge, new)
    half = plain(x[::2], y[::2], new, 0.3)
    apart = [np.abs(other - full).mean() for other in (found, half)]
    assert apart[0] < apart[1] / 2
    assert np.corrcoef(found.ravel(), full.ravel())[0, 1] > 0.99

    # the normal equations, written out
    square = ((x[:, None] - ridge.landmarks) ** 2).sum(axis=2)
    own = ((ridge.landmarks[:, None] - ridge.landmarks) ** 2).sum(axis=2)
    kernel, among = np.exp(-square / ridge.width), np.exp(-own / ridge.width)
    np.testing.assert_allclose(ridge.width, np.median(pdist(ridge.landmarks) ** 2))
    left = (kernel.T @ kernel + 0.3 * among + 1e-8 * 120 * np.eye(60)) @ ridge.coefficients
    np.testing.assert_allclose(left, kernel.T @ (y - y.mean(axis=0)), atol=1e-6)


def test_blocks_change_nothing(
    problem: tuple[np.ndarray, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y, new = problem
    monkeypatch.setattr(_kernel_ridge, "MAX_LANDMARKS", 60)
    whole = predict(KernelProblem(x, y, seed=0).solve(0.3), new)
    monkeypatch.setattr(_kernel_ridge, "_BLOCK", 7)
    np.testing.assert_allclose(predict(KernelProblem(x, y, seed=0).solve(0.3), new), whole, rtol=1e-6)


def test_landmarks_follow_the_seed(
    problem: tuple[np.ndarray, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y, _ = problem
    monkeypatch.setattr(_kernel_ridge, "MAX_LANDMARKS", 60)
    one, again, other = (KernelProblem(x, y, seed=seed).solve(0.3).landmarks for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_first_predicts_the_first_targets_and_0_for_the_others(
    problem: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    x, y, new = problem
    ridge = KernelProblem(x, y, seed=0).solve(0.3)
    found = predict(ridge.first(2), new)
    np.testing.assert_allclose(found[:, :2], predict(ridge, new)[:, :2])
    assert not found[:, 2].any()
    np.testing.assert_allclose(predict(ridge.first(8), new), predict(ridge, new))


def test_the_mean_is_not_shrunk(problem: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    x, y, new = problem
    far = predict(KernelProblem(x, y, seed=0).solve(1e9), new)
    np.testing.assert_allclose(far, np.tile(y.mean(axis=0), (20, 1)), rtol=1e-4)


def test_spots_alike_are_no_division_by_zero() -> None:
    ridge = KernelProblem(np.ones((20, 3)), np.arange(20.0)[:, None], seed=0).solve(0.1)
    np.testing.assert_allclose(predict(ridge, np.ones((2, 3))), 9.5, atol=1e-6)
