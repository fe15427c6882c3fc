"""Turns expression into scores on a few principal components of its variation within sections, and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from bleep_sc._blocks import LazyRows, dense, over_parts, row_blocks
from bleep_sc._side_effects import python_random_state_kept
from bleep_sc._stats import cross_products, section_rows

_NOTHING = 1e-12
"""Share of the variance that is none but for rounding."""
_MOST_SPOTS = 50_000
"""The most spots whose expression is looked at for components: more would not make the leading ones another."""

Centers = Mapping[str, np.ndarray]
"""The mean scores of each section before centring (n_components,), by its name."""


@dataclass(frozen=True)
class Components:
    """Principal components of section-centred expression: what differs between sections is mostly batch.

    Where the depth of each spot is known, it is the first component, with the slope of each gene on it, and the others
    are those of the rest. Most of what varies from spot to spot is depth. Predicted by itself, it does not pull along
    what goes with it in one patient and not in another.
    """

    loadings: np.ndarray
    """The weight of each gene in each component, float32 (n_components, n_genes)."""
    depth_unit: float | None = None
    """The length of what a unit of log depth adds to expression; None where depth is no component of its own."""

    @classmethod
    def learn(
        cls,
        expression: Any,
        sections: np.ndarray | None,
        *,
        n_components: int,
        seed: int,
        depth: np.ndarray | None = None,
    ) -> "Components":
        """Find the components of expression, dense or CSR (n, n_genes), no more than its spots and genes can have.

        `depth` (n,) are the logarithms of total counts. Of very many spots, some drawn at random are looked at.
        """
        if (n := expression.shape[0]) > _MOST_SPOTS:
            drawn = np.sort(np.random.default_rng(seed).choice(n, _MOST_SPOTS, replace=False))
            expression, sections = expression[drawn], None if sections is None else sections[drawn]
            depth = None if depth is None else depth[drawn]
        centred = _centred(dense(expression), sections)
        possible = max(1, min(n_components, min(centred.shape) - 1))
        if depth is None or possible == 1:
            return cls(_principal(centred, possible, seed=seed))
        centred_depth = _centred(depth[:, None], sections)[:, 0]
        square = float(centred_depth @ centred_depth)
        slopes = centred_depth @ centred / max(square, 1e-12)
        unit = float(np.linalg.norm(slopes))
        if unit**2 * square <= _NOTHING * float((centred**2).sum()):  # depth does not vary, or no gene follows it
            return cls(_principal(centred, possible, seed=seed))
        rest = _principal(centred - np.outer(centred_depth, slopes), possible - 1, seed=seed)
        return cls(np.vstack([(slopes / unit).astype(np.float32), rest]), unit)

    def scores(
        self,
        expression: Any,
        sections: np.ndarray | None,
        *,
        depth: np.ndarray | None = None,
        centers: Centers | None = None,
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Compute scores float32 (n, n_components), centred within each section, and return them with the centres.

        `expression` (n, n_genes) is dense or CSR. A section that `centers` names is centred by that value, so that a
        part of a section keeps the scores of the whole. `depth` (n,) must be there where it is a component.
        """
        loadings = self.loadings.astype(np.float64)
        n = expression.shape[0]
        raw = np.empty((n, len(loadings)))
        for part in row_blocks(expression):
            raw[part] = dense(expression[part]).astype(np.float64) @ loadings.T
        if self.depth_unit is not None:
            assert depth is not None  # noqa: S101 - who reads the spots has seen to it
            raw[:, 0] = self.depth_unit * depth
            raw[:, 1:] -= np.outer(raw[:, 0], loadings[1:] @ loadings[0])
        used = {}
        for name, rows in section_rows(sections, n):
            known = None if centers is None else centers.get(name)
            used[name] = raw[rows].mean(axis=0) if known is None else np.asarray(known, dtype=np.float64)
            raw[rows] -= used[name]
        return raw.astype(np.float32), used


def _centred(values: np.ndarray, sections: np.ndarray | None) -> np.ndarray:
    centred = values.astype(np.float64)
    for _, rows in section_rows(sections, len(values)):
        centred[rows] -= centred[rows].mean(axis=0)
    return centred


def _principal(centred: np.ndarray, n_components: int, *, seed: int) -> np.ndarray:
    with python_random_state_kept():
        from sklearn.decomposition import PCA

    if np.ptp(centred) == 0:  # nothing varies: no direction is better than another
        return np.eye(n_components, centred.shape[1], dtype=np.float32)
    found = PCA(n_components, random_state=seed).fit(centred)
    loadings: np.ndarray = found.components_.astype(np.float32)
    # where nothing is left that varies, rounding alone would choose a direction
    loadings[found.explained_variance_ <= _NOTHING * found.explained_variance_.sum()] = 0
    return loadings


@dataclass(frozen=True)
class Decoder:
    """A map from scores to the expression of any genes, found by least squares on the reference."""

    mean: np.ndarray
    """The expression at scores of 0 (n_genes,)."""
    loadings: np.ndarray
    """The expression that each unit of a score adds (n_components, n_genes)."""
    minimum: float
    """The lowest value of a prediction: 0 where the reference has no value below."""

    @classmethod
    def learn(cls, scores: np.ndarray, values: Any) -> "Decoder":
        """Find the map from the reference's scores (n, n_components) to its values (n, n_genes), dense, CSR or lazy."""
        centre = scores.mean(axis=0, dtype=np.float64)
        x = scores - centre
        if isinstance(values, LazyRows):
            job = partial(_sums_of_part, values, scores, centre)
            sums = over_parts(job, values.parts(), combine=_Sums.plus)[0]
        else:
            sums = _Sums.of(values, x)
        mean = sums.total / len(scores)
        cross = sums.cross - np.outer(x.sum(axis=0), mean)
        # where components hardly vary, as on a part of the reference, least squares would blow up
        gram = x.T @ x
        floor = 1e-6 * float(np.trace(gram)) / len(gram) or 1.0
        loadings = np.linalg.solve(gram + floor * np.eye(len(gram)), cross)
        return cls(mean - centre @ loadings, loadings, 0.0 if sums.minimum >= 0 else -np.inf)

    def decode(self, scores: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Turn scores (n, n_components) into expression float32 (n, len(columns)) of the genes at these columns.

        A column of -1 is NaN.
        """
        out = np.empty((len(scores), len(columns)), dtype=np.float32)
        mean, loadings = self.mean[columns], self.loadings[:, columns]
        for block in row_blocks(out):
            out[block] = np.maximum(mean + scores[block] @ loadings, self.minimum)
        out[:, columns < 0] = np.nan
        return out


class _Sums(NamedTuple):
    """The sums over some spots, or all, that least squares needs of their expression."""

    total: np.ndarray
    """The summed expression of each gene (n_genes,)."""
    cross: np.ndarray
    """The products of centred scores and expression, summed (n_components, n_genes)."""
    minimum: float

    @classmethod
    def of(cls, values: Any, x: np.ndarray) -> "_Sums":
        total = np.asarray(values.sum(axis=0, dtype=np.float64)).ravel()
        return cls(total, cross_products(values, x).T, float(values.min()))

    def plus(self, other: "_Sums") -> "_Sums":
        return _Sums(self.total + other.total, self.cross + other.cross, min(self.minimum, other.minimum))


def _sums_of_part(values: LazyRows, scores: np.ndarray, centre: np.ndarray, part: slice) -> _Sums:
    return _Sums.of(values[part], scores[part] - centre)
