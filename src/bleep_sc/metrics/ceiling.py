"""The highest scores that the counts themselves allow, from how far two halves of them agree, gene by gene."""

from typing import Any

import numpy as np
from scipy import sparse

from bleep_sc._checks import check_number
from bleep_sc.metrics._common import check_draws, check_matrix

_ROUNDING = 1e-9


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
    n_obs, n_genes = counts.shape
    whole = counts.data.astype(np.int64)
    spot, gene = np.repeat(np.arange(n_obs), np.diff(counts.indptr)), counts.indices

    def normalised(part: np.ndarray) -> np.ndarray:
        total = np.bincount(spot, weights=part, minlength=n_obs)
        out: np.ndarray = np.log1p(part * (target_sum / np.maximum(total, 1))[spot])
        return out

    def over_spots(values: np.ndarray) -> np.ndarray:
        return np.bincount(gene, weights=values, minlength=n_genes)

    def covariance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        out: np.ndarray = over_spots(a * b) - over_spots(a) * over_spots(b) / n_obs
        return out

    score = np.zeros(n_genes)
    for _ in range(n_splits):
        half = rng.binomial(whole, 0.5)
        a, b = normalised(half), normalised(whole - half)
        norm = np.sqrt(np.maximum(covariance(a, a) * covariance(b, b), 0))
        fine = norm > 0
        score[fine] += np.clip(covariance(a, b)[fine] / norm[fine], -1, 1) / n_splits
    full = normalised(whole)
    score[covariance(full, full) <= 1e-12 * over_spots(full**2)] = np.nan
    return score


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
