"""Learns from a reference how expression varies: its components, and how much of each is tissue and how much noise."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bleep_sc._grid import spacing
from bleep_sc._stats import mean_variance, section_rows
from bleep_sc.methods.hybrid.components import Components, Decoder

_N_COMPONENTS = 40
_N_GENES = 1000
"""Number of genes, those that vary most, that components are found on."""
_NEAR, _FURTHER = 1.3, 2.6
"""Distances, in spacings of the spots, of nearest neighbours on any lattice and of those behind them."""
_LEAST_NOISE, _LEAST_SIGNAL = 0.3, 0.01
"""Shares of the difference between neighbours, and of all variance, that are granted in any case."""


@dataclass(frozen=True)
class Prior:
    """What a reference says of the variation of expression within a section."""

    genes: np.ndarray
    """Columns of the genes that components are found on (n_used,)."""
    components: Components
    decoder: Decoder
    """The map from scores to all genes (n_genes,)."""
    signal: np.ndarray
    """Variance of each component's scores that neighbouring spots share (n_components,)."""
    noise: np.ndarray
    """Variance of each component's scores that they do not share (n_components,)."""
    variance: np.ndarray
    """Variance of each gene within sections (n_genes,)."""

    @classmethod
    def learn(cls, values: Any, sections: np.ndarray | None, xy: np.ndarray, *, seed: int = 0) -> "Prior":
        """Learn from expression (n, n_genes), dense or CSR, and the places (n, 2) of the same spots."""
        parts = section_rows(sections, values.shape[0])
        weights = np.array([len(rows) for _, rows in parts]) / values.shape[0]
        variance = np.average([mean_variance(values[rows])[1] for _, rows in parts], axis=0, weights=weights)
        genes = np.sort(np.argsort(-variance, kind="stable")[:_N_GENES])
        used = values[:, genes]
        used = np.asarray(used.toarray() if hasattr(used, "toarray") else used, dtype=np.float64)
        components = Components.learn(used, sections, n_components=_N_COMPONENTS, seed=seed)
        scores = components.scores(used, sections)[0].astype(np.float64)
        total = scores.var(axis=0)
        floor = 1e-6 * float(total.max()) or 1.0  # noise is divided by
        noise = np.maximum(np.minimum(_noise(scores, [rows for _, rows in parts], xy), total), floor)
        signal = np.maximum(total - noise, _LEAST_SIGNAL * total)
        return cls(genes, components, Decoder.learn(scores, values), signal, noise, variance)

    def scores(self, expression: np.ndarray) -> np.ndarray:
        """Compute scores (n, n_components) of expression of all genes (n, n_genes), not centred."""
        return np.asarray(expression[:, self.genes].astype(np.float64) @ self.components.loadings.T)


def _noise(scores: np.ndarray, parts: list[np.ndarray], xy: np.ndarray) -> np.ndarray:
    """Extend the variogram of scores, half the mean squared difference, from near and further pairs to distance 0.

    Half of the variance where no spots lie so near to each other.
    """
    from scipy.spatial import KDTree

    squares, numbers = np.zeros((2, scores.shape[1])), np.zeros(2)
    for rows in parts:
        places = xy[rows] / np.nan_to_num(spacing(xy[rows]), nan=1.0)
        pairs = KDTree(places).query_pairs(_FURTHER, output_type="ndarray")
        apart = np.linalg.norm(places[pairs[:, 0]] - places[pairs[:, 1]], axis=1)
        for lag, chosen in enumerate((apart <= _NEAR, apart > _NEAR)):
            one, other = rows[pairs[chosen]].T
            squares[lag] += 0.5 * np.square(scores[one] - scores[other]).sum(axis=0)
            numbers[lag] += chosen.sum()
    if not numbers.all():
        return 0.5 * scores.var(axis=0)
    near, further = squares / numbers[:, None]
    return np.maximum(near - 0.5 * (further - near), _LEAST_NOISE * near)
