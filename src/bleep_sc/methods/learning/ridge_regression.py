"""Ridge regression from features to expression, or to a few principal components of it; arrays in, arrays out."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from bleep_sc._side_effects import python_random_state_kept
from bleep_sc._stats import gene_means

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
    return RidgeProblem.of(features, everything, scores=scores).solved(alpha)


@dataclass(frozen=True)
class RidgeProblem:
    """All of a ridge regression that does not depend on the penalty, so that many can be tried."""

    x: np.ndarray
    """The features less their means, float64 (n, n_features)."""
    y: Any
    """Scores on components (n, n_components), else expression of all genes (n, n_genes), dense or CSR."""
    loadings: np.ndarray | None
    feature_mean: np.ndarray
    mean: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray, everything: Any, *, scores: np.ndarray | None) -> "RidgeProblem":
        """Pose the problem; the arguments are those of `fit_ridge`."""
        mean = gene_means(everything)
        feature_mean = features.mean(axis=0, dtype=np.float64)
        x = features.astype(np.float64) - feature_mean
        if scores is None:
            return cls(x, everything, None, feature_mean, mean)
        loadings = np.asarray((everything.T @ scores).T) - scores.sum(axis=0)[:, None] * mean
        squares = (scores**2).sum(axis=0)
        loadings /= np.maximum(squares, 1e-12 * squares.max() or 1.0)[:, None]
        return cls(x, scores, loadings, feature_mean, mean)

    def solved(self, alpha: float) -> Ridge:
        """Solve the problem with one penalty."""
        if self.loadings is not None:
            return Ridge(self._solve(self.y, alpha), self.loadings, self.feature_mean, self.mean)
        n_genes = self.y.shape[1]
        coefficients = np.empty((n_genes, self.x.shape[1]))
        for start in range(0, n_genes, _GENES_AT_ONCE):
            genes = slice(start, start + _GENES_AT_ONCE)
            y = self.y[:, genes]
            coefficients[genes] = self._solve((y.toarray() if sparse.issparse(y) else y) - self.mean[genes], alpha)
        return Ridge(coefficients, None, self.feature_mean, self.mean)

    @property
    def _by_spots(self) -> bool:
        """Whether there are fewer spots than features, so that the equations are solved for a weight of each spot."""
        return self.x.shape[0] < self.x.shape[1]

    @cached_property
    def _gram(self) -> np.ndarray:
        """The products between the features, or between the spots where these are fewer."""
        out: np.ndarray = self.x @ self.x.T if self._by_spots else self.x.T @ self.x
        return out

    def _solve(self, y: np.ndarray, alpha: float) -> np.ndarray:
        """Regress centred values (n, n_values) on the features: coefficients (n_values, n_features)."""
        from scipy.linalg import LinAlgError, solve

        with_penalty = self._gram.copy()
        with_penalty.flat[:: len(with_penalty) + 1] += alpha
        try:
            if self._by_spots:
                out: np.ndarray = (self.x.T @ solve(with_penalty, y, assume_a="pos", overwrite_a=True)).T
            else:
                out = solve(with_penalty, self.x.T @ y, assume_a="pos", overwrite_a=True).T
        except LinAlgError:  # next to no penalty, and features that are one another's: a decomposition leaves these out
            with python_random_state_kept():
                from sklearn.linear_model import Ridge as Solver
            out = Solver(alpha=alpha, fit_intercept=False, solver="svd").fit(self.x, y).coef_.reshape(y.shape[1], -1)
        return out


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
