"""Half-widths of intervals from errors on held-out spots (split conformal prediction); arrays in, arrays out.

Arrays are gene-major, (n_genes, n_spots), so that the values of a gene lie side by side: they are sorted together.
"""

from collections.abc import Sequence
from zlib import crc32

import numpy as np
from scipy import sparse


def half_widths(errors: np.ndarray, groups: np.ndarray, levels: Sequence[float], *, joint: bool) -> np.ndarray:
    """Compute half-widths that cover the measured values of spots like these, at each level.

    Parameters
    ----------
    errors
        Absolute differences of measured and predicted values (n_genes, n_spots).
    groups
        The number of each spot's group, from 0 (n_spots,).
    levels
        Shares of the spots to cover, between 0 and 1 (n_levels,).
    joint
        Take the spots of all groups as one; else the largest half-width of any group, so that a group that is predicted
        badly is covered too.

    Returns
    -------
    float64 (n_levels, n_genes): of n spots the ceil(level (n + 1))-th smallest error; infinity where that is more than
    n, so that nothing can be promised (Vovk et al., 2005; Lei et al., 2018).
    """
    if joint:
        return conformal_quantiles(errors, levels)
    by_group = [conformal_quantiles(errors[:, groups == group], levels) for group in np.unique(groups)]
    return np.asarray(np.max(by_group, axis=0))


def conformal_quantiles(errors: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Find, of n errors a gene (n_genes, n), the ceil(level (n + 1))-th smallest: float64 (n_levels, n_genes)."""
    n = errors.shape[1]
    ranks = [rank_of(level, n) for level in levels]
    out = np.full((len(ranks), len(errors)), np.inf)
    within = sorted({rank for rank in ranks if rank <= n})
    if within:
        placed = np.partition(errors, [rank - 1 for rank in within], axis=1)
        for row, rank in enumerate(ranks):
            if rank <= n:
                out[row] = placed[:, rank - 1]
    return out


def rank_of(level: float, n: int) -> int:
    """Compute the rank of the error that covers a share of the values, of n errors; above n there is none."""
    # 0.9 * 10 is a little more than 9 in floating point
    return max(1, int(np.ceil(round(level * (n + 1), 9))))


def thinned(
    counts: sparse.csc_matrix, names: np.ndarray, keep: np.ndarray, *, rank: np.ndarray, seed: int, draw: int
) -> np.ndarray:
    """Thin counts binomially, as if fewer molecules had been read: float32 (n_genes, n_spots).

    Parameters
    ----------
    counts
        Whole numbers (n_spots, n_genes).
    names
        Names of the genes (n_genes,). Each gene draws numbers of its own, whichever others there are.
    keep
        The share of a spot's counts that is kept, from 0 to 1 (n_spots,).
    rank
        The place of each spot in an order that does not change with that of the rows, such as that of names (n_spots,).
    seed, draw
        The seed, and a number that tells one drawing from another.
    """
    out = np.zeros((counts.shape[1], counts.shape[0]), dtype=np.float32)
    partly = (keep < 1).any()
    for gene, name in enumerate(names):
        entries = slice(counts.indptr[gene], counts.indptr[gene + 1])
        spots, values = counts.indices[entries], counts.data[entries]
        if partly:
            rng = np.random.default_rng([seed, draw, crc32(str(name).encode())])
            order = np.argsort(rank[spots])  # numbers must not depend on how the matrix is stored
            spots = spots[order]
            values = rng.binomial(values[order].astype(np.int64), keep[spots])
        out[gene, spots] = values
    return out


def matched_depths(totals: np.ndarray, sections: np.ndarray, wanted: np.ndarray, *, rank: np.ndarray) -> np.ndarray:
    """Match the depths of calibration spots to those of a query: each section's k-th deepest spot to the query's.

    Parameters
    ----------
    totals
        Total counts of the calibration spots (n_spots,).
    sections
        The number of each one's section (n_spots,).
    wanted
        Total counts of the query's spots (n_query,).
    rank
        The place of each spot in an order that does not change with that of the rows: it decides between equals.

    Returns
    -------
    float64 (n_spots,): the depth that each spot should have, which may be more than its own.
    """
    out = np.asarray(totals, dtype=np.float64).copy()
    for section in np.unique(sections):
        rows = np.flatnonzero(sections == section)
        share = np.empty(len(rows))
        share[np.lexsort((rank[rows], totals[rows]))] = (np.arange(len(rows)) + 0.5) / len(rows)
        out[rows] = np.quantile(wanted, share)
    return out


def noise_free_variance(
    first: np.ndarray, second: np.ndarray, whole: np.ndarray, groups: np.ndarray, *, joint: bool
) -> np.ndarray:
    """Estimate the mean squared error of each gene without count noise (n_genes,).

    `first` and `second` are the errors at two halves of the counts, and `whole` those at all of them
    (n_genes, n_spots). The noise of two halves is independent, so it drops out of their covariance. Half the counts
    have lower logarithms, so the mean error is that at all of them. Logarithms of few counts spread further, which
    would make more error than there is: it is no more than that at all counts. Groups are treated as in `half_widths`.
    """

    def of(rows: np.ndarray | slice) -> np.ndarray:
        one, other = (half[:, rows] - half[:, rows].mean(axis=1, keepdims=True) for half in (first, second))
        at_all = whole[:, rows]
        without_noise = np.maximum((one * other).mean(axis=1), 0) + at_all.mean(axis=1) ** 2
        return np.asarray(np.minimum(without_noise, (at_all**2).mean(axis=1)))

    if joint:
        return of(slice(None))
    return np.asarray(np.max([of(groups == group) for group in np.unique(groups)], axis=0))
