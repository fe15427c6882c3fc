"""Per-gene statistics of expression, dense or CSR; arrays in, arrays out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from bleep_sc._blocks import row_blocks

_IN_CACHE = 2**17
"""The number of values that a core's cache holds."""


@dataclass(frozen=True)
class Expression:
    """The expression of spots that is learned: some genes, or a representation."""

    matrix: Any
    """Values (n_obs, n_genes), dense or CSR: float32 where a model reads them; of all genes as they are stored."""
    genes: np.ndarray
    """Names of the genes, or of a representation's columns (n_genes,)."""


def all_finite(values: Any) -> bool:
    """Tell whether no value is NaN or infinite. No mask as large as the values is made."""
    # the sum of finite values may overflow: only then each is looked at
    with np.errstate(over="ignore", invalid="ignore"):
        return all(np.isfinite(values[part].sum()) or np.isfinite(values[part]).all() for part in row_blocks(values))


def extremes(values: np.ndarray) -> tuple[float, float]:
    """Find the least and the largest value, NaN where any value is. Memory is read once, by parts that fit a cache."""
    flat = values.ravel(order="K") if values.flags.forc else values
    parts = [flat[start : start + _IN_CACHE] for start in range(0, len(flat), _IN_CACHE)]
    low, high = zip(*((part.min(), part.max()) for part in parts), strict=True)
    return float(np.min(low)), float(np.max(high))


def rows_beyond(values: np.ndarray, most: float) -> np.ndarray:
    """Tell which rows hold NaN or an absolute value above `most` (n,). Rows are looked at a block at a time."""
    beyond = np.zeros(len(values), dtype=bool)
    for part in row_blocks(values):
        beyond[part] = ~(np.abs(values[part]) <= most).all(axis=1)
    return beyond


def section_rows(sections: np.ndarray | None, n_obs: int) -> list[tuple[str, np.ndarray]]:
    """List name and rows of each section, in order of name; one section of all rows where `sections` is None."""
    if sections is None:
        return [("", np.arange(n_obs))]
    return [(str(name), np.flatnonzero(sections == name)) for name in np.unique(sections.astype(str))]


def detected_fraction(values: Any) -> np.ndarray:
    """Compute the fraction of spots in which each gene has a value above 0 (n_genes,)."""
    return np.asarray((values > 0).sum(axis=0)).ravel() / values.shape[0]


def gene_means(values: Any) -> np.ndarray:
    """Compute the mean of each gene, float64 (n_genes,): the first half of `mean_variance`."""
    if not sparse.issparse(values):
        out: np.ndarray = values.mean(axis=0, dtype=np.float64)
        return out
    # `sum(dtype=)` of SciPy adds up in the precision of the values all the same
    parts = (np.asarray(values[part].astype(np.float64).sum(axis=0)).ravel() for part in row_blocks(values))
    return sum(parts, np.zeros(values.shape[1])) / values.shape[0]


def mean_variance(values: Any) -> tuple[np.ndarray, np.ndarray]:
    """Compute mean and population variance of each gene, float64 (n_genes,)."""
    if sparse.issparse(values):
        n, total, square = values.shape[0], np.zeros(values.shape[1]), np.zeros(values.shape[1])
        for part in row_blocks(values):
            exact = values[part].astype(np.float64)
            total += np.asarray(exact.sum(axis=0)).ravel()
            exact.data **= 2
            square += np.asarray(exact.sum(axis=0)).ravel()
        mean = total / n
        return mean, np.maximum(square / n - mean**2, 0)
    mean = values.mean(axis=0, dtype=np.float64)
    square = sum((np.square(values[part] - mean).sum(axis=0) for part in row_blocks(values)), np.zeros_like(mean))
    return mean, square / len(values)


def cross_products(values: Any, scores: np.ndarray) -> np.ndarray:
    """Compute ``values.T @ scores`` in float64 (n_genes, n_scores), without a float64 copy of dense values."""
    if sparse.issparse(values):
        return np.asarray(values.T @ scores)
    out = np.zeros((values.shape[1], scores.shape[1]))
    for part in row_blocks(values):
        out += values[part].T.astype(np.float64) @ scores[part]
    return out


def panels(values: Any, genes: np.ndarray, sections: np.ndarray | None) -> dict[str, np.ndarray]:
    """Choose the genes that scores are given for, on reference spots alone.

    HEG-50 are the genes of highest mean over all spots, best first. HVG-50 and HVG-200 are those of highest variance
    within sections (mean over sections). The paper chooses them on the section it tests on, which flatters any method.
    """
    mean, _ = mean_variance(values)
    variance = np.mean([mean_variance(values[rows])[1] for _, rows in section_rows(sections, values.shape[0])], axis=0)
    by_mean, by_variance = (np.argsort(-statistic, kind="stable") for statistic in (mean, variance))
    return {"HEG-50": genes[by_mean[:50]], "HVG-50": genes[by_variance[:50]], "HVG-200": genes[by_variance[:200]]}


def looks_like_counts(values: Any) -> bool:
    """Tell whether values are integers of which some are larger than a logarithm of counts could be."""
    stored = values.data if sparse.issparse(values) else values
    return bool(stored.size) and float(stored.max()) > 30 and bool((stored == np.rint(stored)).all())


def are_whole_counts(values: Any) -> bool:
    """Tell whether values are whole numbers from 0 up, as raw counts are however few there are.

    Where none is above 1, they may only say which genes were detected.
    """
    stored = values.data if sparse.issparse(values) else values
    if not stored.size or stored.min() < 0 or float(stored.max()) <= 1:
        return False
    return bool((stored == np.rint(stored)).all())


def describe_units(values: Any, *, log1p_recorded: bool) -> str:
    """Say in words what the values are, from the values and from the note that `sc.pp.log1p` leaves in `uns`."""
    sample = values[: min(512, values.shape[0])]
    if sparse.issparse(sample):
        sample = sparse.csr_matrix(sample, dtype=np.float64)
        sample.sum_duplicates()
    else:
        sample = np.asarray(sample, dtype=np.float64)
    stored = sample.data if sparse.issparse(sample) else sample
    if looks_like_counts(stored):
        return "raw counts"
    if (stored < 0).any():
        return "scaled or corrected expression, as given"
    with np.errstate(over="ignore"):
        totals = (
            np.asarray(sample.expm1().sum(axis=1)).ravel() if sparse.issparse(sample) else np.expm1(stored).sum(axis=1)
        )
    totals = totals[totals > 0]
    if len(totals) and np.isfinite(totals).all() and np.ptp(totals) < 0.01 * totals.mean():
        return f"log1p of counts normalised to {totals.mean():.6g} per spot"
    return "log1p of normalised counts" if log1p_recorded else "expression as given"


def log_depth(counts: Any) -> np.ndarray:
    """Compute the log total counts of each spot (n_obs,); 0 for an empty spot."""
    total = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    return np.log(np.maximum(total, 1))
