import numpy as np
import pytest
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge as Sklearn

from bleep_sc.methods.learning import ridge_regression
from bleep_sc.methods.learning.heldout import choose_alpha
from bleep_sc.methods.learning.ridge_regression import RidgeProblem, component_scores, fit_ridge


@pytest.fixture
def problem() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 6)) + 3
    y = x @ rng.normal(size=(6, 12)) + rng.normal(size=(80, 12)) + 5
    return x, np.maximum(y, 0)


def test_direct_ridge_is_scikit_learns(problem: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = problem
    expected = Sklearn(alpha=7.0).fit(x, y).predict(x[:5])
    for everything in (y, sparse.csr_matrix(y)):
        found = fit_ridge(x, everything, alpha=7.0).predict(x[:5])
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("n_spots", [80, 6, 5, 3, 1], ids=lambda n: f"{n} spots of 6 features")
def test_one_problem_serves_all_penalties(
    n_spots: int, problem: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any order, with genes in parts, and by the products of spots where these are fewer than the features."""
    monkeypatch.setattr(ridge_regression, "_GENES_AT_ONCE", 5)
    x, y = (values[:n_spots].astype(np.float32) for values in problem)
    posed = RidgeProblem.of(x, sparse.csr_matrix(y), scores=None)
    for alpha in (1.0, 1e4, 1e-3, 1.0):
        expected = Sklearn(alpha=alpha).fit(x.astype(np.float64), y.astype(np.float64))
        np.testing.assert_allclose(posed.solved(alpha).coefficients, expected.coef_, rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(posed.solved(alpha).predict(x), expected.predict(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n_spots", [80, 4])
def test_features_that_are_one_anothers(n_spots: int, problem: tuple[np.ndarray, np.ndarray]) -> None:
    """Without a penalty to speak of they share what one of them would have."""
    x, y = (values[:n_spots] for values in problem)
    x = np.repeat(x[:, :1], 20, axis=1)
    found = fit_ridge(x, y, alpha=1e-18).predict(x)
    expected = Sklearn(alpha=1e-18).fit(x[:, :1], y).predict(x[:, :1])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_chosen_genes_are_predicted_through_their_principal_components(
    problem: tuple[np.ndarray, np.ndarray],
) -> None:
    x, y = problem
    chosen = y[:, :8]
    pca = PCA(3).fit(chosen)
    scores = Sklearn(alpha=2.0).fit(x, pca.transform(chosen)).predict(x[:5])
    expected = pca.inverse_transform(scores)
    components = component_scores(chosen, 3, seed=0)
    found = fit_ridge(x, sparse.csr_matrix(y), alpha=2.0, scores=components).predict(x[:5])
    np.testing.assert_allclose(found[:, :8], expected, rtol=1e-6)
    # a gene that was not chosen follows the components by least squares
    slopes = np.linalg.lstsq(pca.transform(chosen), y[:, 9] - y[:, 9].mean(), rcond=None)[0]
    np.testing.assert_allclose(found[:, 9], y[:, 9].mean() + scores @ slopes, rtol=1e-6)


def test_the_penalty_follows_the_noise(problem: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = problem
    folds = [(np.arange(40), [np.arange(40, 80)]), (np.arange(40, 80), [np.arange(40)])]
    clean, scores = choose_alpha(x, y, folds, n_components=0)
    assert scores[clean] == max(scores.values())
    rng = np.random.default_rng(1)
    many = rng.normal(size=(80, 60))
    noisy = many[:, :1] + 6 * rng.normal(size=(80, 12))
    strong, _ = choose_alpha(many, noisy, folds, n_components=0)
    assert strong > clean


def test_choices_are_scored_within_sections_not_across_them() -> None:
    """A shift between the held-out sections must not decide: pooled, it would drown the pattern within them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 3))
    y = x @ rng.normal(size=(3, 10)) + 0.1 * rng.normal(size=(120, 10))
    training, first, second = np.arange(60), np.arange(60, 90), np.arange(90, 120)
    _, within = choose_alpha(x, y, [(training, [first, second])], n_components=0)
    y[second] += 50
    _, shifted = choose_alpha(x, y, [(training, [first, second])], n_components=0)
    assert shifted == pytest.approx(within)
    _, pooled = choose_alpha(x, y, [(training, [np.arange(60, 120)])], n_components=0)
    assert max(pooled.values()) < 0.5 < min(within.values())


def test_expression_that_does_not_vary_has_no_components() -> None:
    assert not component_scores(np.ones((20, 6)), 3, seed=0).any()
    assert component_scores(np.ones((20, 6)), 0, seed=0) is None
