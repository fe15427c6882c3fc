"""Ridge regression from features to expression, or to a few principal components of it; arrays in, arrays out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from bleep_sc._side_effects import python_random_state_kept
from bleep_sc._stats import mean_variance

_GENES_AT_ONCE = 2048


@dataclass(frozen=True)
class Ridge:
    """A map from features to expression: through `n_components` components where it has `loadings`, else directly."""

    coefficients: np.ndarray
    """The weight of each feature for each component, or gene (n_components or n_genes, n_features)."""
    loadings: np.ndarray | None
    """The expression that each unit of a component adds (n_components, n_genes); None without components."""
    feature_mean: np.ndarray
    mean: np.ndarray
    """The mean expression of each gene (n_genes,)."""

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predict expression (n, n_genes) from features (n, n_features)."""
        out = (features - self.feature_mean) @ self.coefficients.T
        return self.mean + (out if self.loadings is None else out @ self.loadings)


def fit_ridge(features: np.ndarray, everything: Any, *, alpha: float, scores: np.ndarray | None = None) -> Ridge:
    """Fit one ridge regression.

    Parameters
    ----------
    features
        (n, n_features), already on comparable scales.
    everything
        Expression of all genes to predict, dense or CSR (n, n_genes).
    alpha
        Penalty, as of :class:`sklearn.linear_model.Ridge`.
    scores
        Scores of the spots on components of expression (n, n_components), which are regressed in place of the genes. A
        gene's loading is its regression on them: for a gene that took part in the PCA that is its loading there.
    """
    with python_random_state_kept():
        from sklearn.linear_model import Ridge as Solver

    mean, _ = mean_variance(everything)
    feature_mean = features.mean(axis=0, dtype=np.float64)
    x = features.astype(np.float64) - feature_mean

    def solve(y: np.ndarray) -> np.ndarray:
        solved: np.ndarray = Solver(alpha=alpha, fit_intercept=False, copy_X=False).fit(x, y).coef_
        return solved.reshape(y.shape[1], x.shape[1])

    if scores is not None:
        loadings = np.asarray((everything.T @ scores).T) - scores.sum(axis=0)[:, None] * mean
        squares = (scores**2).sum(axis=0)
        loadings /= np.maximum(squares, 1e-12 * squares.max() or 1.0)[:, None]
        return Ridge(solve(scores), loadings, feature_mean, mean)
    n_genes = everything.shape[1]
    coefficients = np.empty((n_genes, x.shape[1]))
    for start in range(0, n_genes, _GENES_AT_ONCE):
        genes = slice(start, start + _GENES_AT_ONCE)
        y = everything[:, genes]
        coefficients[genes] = solve((y.toarray() if sparse.issparse(y) else y) - mean[genes])
    return Ridge(coefficients, None, feature_mean, mean)


def component_scores(expression: np.ndarray, n_components: int, *, seed: int) -> np.ndarray | None:
    """Compute centred scores of the spots on the first principal components (n, n_components).

    Without components there are none: the result is None.
    """
    if n_components == 0:
        return None
    with python_random_state_kept():
        from sklearn.decomposition import PCA

    expression = expression.astype(np.float64)
    if (np.ptp(expression, axis=0) == 0).all():  # nothing varies, so all scores are 0
        return np.zeros((len(expression), n_components))
    scores: np.ndarray = PCA(n_components, random_state=seed).fit_transform(expression)
    return scores
