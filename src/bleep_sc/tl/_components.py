"""Expression as scores on a few principal components of its variation within sections, and back; arrays only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bleep_sc._stats import cross_products, row_blocks, section_rows

Centers = Mapping[str, np.ndarray]
"""Mean scores of a section before centring, by section (n_components,)."""


@dataclass(frozen=True)
class Components:
    """Principal components of section-centred expression: what differs between sections is mostly batch."""

    loadings: np.ndarray
    """float32 (n_components, n_genes)."""

    @classmethod
    def learn(
        cls, expression: np.ndarray, sections: np.ndarray | None, *, n_components: int, seed: int
    ) -> "Components":
        """Of expression (n, n_genes); no more than spots and genes can have."""
        from sklearn.decomposition import PCA

        centred = expression.astype(np.float64)
        for _, rows in section_rows(sections, len(expression)):
            centred[rows] -= centred[rows].mean(axis=0)
        possible = max(1, min(n_components, min(centred.shape) - 1))
        if np.ptp(centred) == 0:  # nothing varies: no direction is better than another
            return cls(np.eye(possible, centred.shape[1], dtype=np.float32))
        return cls(PCA(possible, random_state=seed).fit(centred).components_.astype(np.float32))

    def scores(
        self, expression: np.ndarray, sections: np.ndarray | None, *, centers: Centers | None = None
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Scores float32 (n, n_components), centred within each section, and what was subtracted of each.

        A section that `centers` names is centred by these: so a part of a section keeps the scores of the whole.
        """
        raw = expression.astype(np.float64) @ self.loadings.T
        used = {}
        for name, rows in section_rows(sections, len(expression)):
            known = None if centers is None else centers.get(name)
            used[name] = raw[rows].mean(axis=0) if known is None else np.asarray(known, dtype=np.float64)
            raw[rows] -= used[name]
        return raw.astype(np.float32), used


@dataclass(frozen=True)
class Decoder:
    """From scores back to expression of any genes, by least squares on the reference."""

    mean: np.ndarray
    """(n_genes,)."""
    loadings: np.ndarray
    """(n_components, n_genes)."""

    @classmethod
    def learn(cls, scores: np.ndarray, values: Any) -> "Decoder":
        """Of the reference's scores (n, n_components) and values, dense or CSR (n, n_genes)."""
        mean = np.asarray(values.mean(axis=0, dtype=np.float64)).ravel()
        centre = scores.mean(axis=0, dtype=np.float64)
        x = scores - centre
        cross = cross_products(values, x).T - np.outer(x.sum(axis=0), mean)
        # where components hardly vary, as on a part of the reference, least squares would blow up
        gram = x.T @ x
        floor = 1e-6 * max(float(np.trace(gram)) / len(gram), 1e-12)
        loadings = np.linalg.solve(gram + floor * np.eye(len(gram)), cross)
        return cls(mean - centre @ loadings, loadings)

    def decode(self, scores: np.ndarray, columns: np.ndarray, *, minimum: float = -np.inf) -> np.ndarray:
        """Scores (n, n_components) to float32 (n, len(columns)), the genes at these columns; NaN where that is -1.

        What falls below the minimum is set to it.
        """
        out = np.empty((len(scores), len(columns)), dtype=np.float32)
        mean, loadings = self.mean[columns], self.loadings[:, columns]
        for part in row_blocks(out):
            out[part] = np.maximum(mean + scores[part] @ loadings, minimum)
        out[:, columns < 0] = np.nan
        return out
