"""The highest scores that the counts themselves allow, from how far two halves of them agree, gene by gene."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from bleep_sc._checks import check_number
from bleep_sc.metrics._common import check_draws, check_matrix

_ROUNDING = 1e-9
_LOOKED_UP = 16
"""Counts below this are looked up in a table of their logarithms."""


def split_half_pearson(
    counts: sparse.csr_matrix, *, target_sum: float, n_splits: int, rng: np.random.Generator
) -> np.ndarray:
    """Pearson correlation over spots between two random halves of the counts, mean over the splits.

    Each count is assigned to one of the halves at random. Each half is normalised to `target_sum` per spot and
    log1p'ed.

    Parameters
    ----------
    counts
        Whole numbers of one section (n_obs, n_genes).
    target_sum
        Total per spot that each half is normalised to.
    n_splits
        Number of random splits.
    rng
        Random number generator for the splits.

    Returns
    -------
    float64 (n_genes,). The value is NaN where the normalised counts do not vary. If one half of a split is constant by
    chance, the split counts as 0.
    """
    check_draws(n_splits, rng, name="n_splits")
    check_number("target_sum", target_sum, above=0)
    counts = _whole_numbers(counts)
    whole, spots = counts.data.astype(np.int64), _Spots.of(counts, target_sum)
    total = spots.total(whole)
    score = np.zeros(counts.shape[1])
    for _ in range(n_splits):
        half = rng.binomial(whole, 0.5)
        total_of_half = spots.total(half)
        a, b = spots.normalised(half, total_of_half), spots.normalised(whole - half, total - total_of_half)
        sum_a, sum_b = spots.by_gene(a), spots.by_gene(b)
        var_a, var_b, both = (
            spots.by_gene(x * y) - sum_x * sum_y / spots.n
            for x, y, sum_x, sum_y in ((a, a, sum_a, sum_a), (b, b, sum_b, sum_b), (a, b, sum_a, sum_b))
        )
        norm = np.sqrt(np.maximum(var_a * var_b, 0))
        fine = norm > 0
        score[fine] += np.clip(both[fine] / norm[fine], -1, 1) / n_splits
    full = spots.normalised(whole, total)
    square = spots.by_gene(full * full)
    score[square - spots.by_gene(full) ** 2 / spots.n <= 1e-12 * square] = np.nan
    return score


@dataclass(frozen=True)
class _Spots:
    """Where the counts of a section lie, and what they are normalised to."""

    n: int
    n_genes: int
    starts: np.ndarray
    """Where the counts of each spot start and end (n_obs + 1,)."""
    spot: np.ndarray
    """The spot of each count (n_counts,)."""
    gene: np.ndarray
    """The gene of each count (n_counts,)."""
    target_sum: float

    @classmethod
    def of(cls, counts: sparse.csr_matrix, target_sum: float) -> "_Spots":
        n_obs, n_genes = counts.shape
        spot = np.repeat(np.arange(n_obs), np.diff(counts.indptr))
        return cls(n_obs, n_genes, counts.indptr, spot, counts.indices.astype(np.intp), target_sum)

    def total(self, part: np.ndarray) -> np.ndarray:
        """Add up whole numbers (n_counts,) spot by spot (n_obs,)."""
        return np.diff(np.append(0, np.cumsum(part))[self.starts])

    def by_gene(self, values: np.ndarray) -> np.ndarray:
        """Add up values (n_counts,) gene by gene (n_genes,)."""
        return np.bincount(self.gene, weights=values, minlength=self.n_genes)

    def normalised(self, part: np.ndarray, total: np.ndarray) -> np.ndarray:
        """Normalise whole numbers (n_counts,) to the target sum, and take log1p.

        Most counts are small, so that a spot has the same few values over and over: they are looked up.
        """
        scale = self.target_sum / np.maximum(total, 1)
        table = np.log1p(np.arange(_LOOKED_UP) * scale[:, None])
        out: np.ndarray = table[self.spot, np.minimum(part, _LOOKED_UP - 1)]
        large = np.flatnonzero(part >= _LOOKED_UP)
        out[large] = np.log1p(part[large] * scale[self.spot[large]])
        return out


def _whole_numbers(counts: Any) -> sparse.csr_matrix:
    """Check raw counts, and return them as CSR with one value for each place."""
    csr_counts = sparse.csr_matrix(check_matrix("counts", counts))
    if csr_counts.nnz and (csr_counts.data.min() < 0 or not (csr_counts.data == np.rint(csr_counts.data)).all()):
        msg = "`counts` must hold raw counts, whole numbers from 0 up."
        raise ValueError(msg)
    if not csr_counts.has_canonical_format:
        csr_counts = csr_counts.copy()
        csr_counts.sum_duplicates()
    return csr_counts


def ceiling_from_halves(r: np.ndarray) -> np.ndarray:
    """Highest Pearson correlation to expect between a noise-free prediction and the full counts (n_genes,).

    Notes
    -----
    By Spearman–Brown, two halves that correlate by r make a whole of reliability 2 r / (1 + r). A noise-free quantity
    correlates with its measurement by the square root of the measurement's reliability. The result is 0 where r is not
    above 0.
    """
    r = np.asarray(r)
    if r.dtype.kind not in "fiub" or (np.abs(r) > 1 + _ROUNDING).any():
        msg = f"`r` must hold correlations, numbers from -1 to 1, found {r}."
        raise ValueError(msg)
    positive = np.where(r > 0, r, 0.0)
    return np.where(np.isnan(r), np.nan, np.sqrt(2 * positive / (1 + positive)))
