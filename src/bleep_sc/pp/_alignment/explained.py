"""How much of the expression of spots a look explains: ridge regression that leaves a stripe of the section out."""

import numpy as np

_STRIPES = 10
_PENALTY = 10.0
"""Of the squared coefficients of standardised terms, beside the sum of squared errors: that of ten more spots."""
_FARTHEST = 4.0
"""Standardised terms are cut off here: dust and folds are dark beyond all tissue."""

_ROUNDING = 1e-5
"""A term that varies by less than this share of the most varying one is constant but for rounding."""


def stripes(xy: np.ndarray, n: int = _STRIPES) -> np.ndarray:
    """Divide spots into contiguous stripes of one size across the longer side of the section (n,)."""
    axis = int(np.ptp(xy[:, 1]) > np.ptp(xy[:, 0]))
    rank = np.empty(len(xy), dtype=np.int64)
    rank[np.argsort(xy[:, axis], kind="stable")] = np.arange(len(xy))
    return rank * n // len(xy)


def blocks(xy: np.ndarray, n: int) -> np.ndarray:
    """Divide spots into compact blocks of about one size, by halving the longer side again and again (n_spots,)."""
    labels = np.zeros(len(xy), dtype=np.int64)
    left = [(np.arange(len(xy)), 0, n)]
    while left:
        rows, first, parts = left.pop()
        if parts == 1:
            labels[rows] = first
            continue
        axis = int(np.ptp(xy[rows, 1]) > np.ptp(xy[rows, 0])) if len(rows) else 0
        rows = rows[np.argsort(xy[rows, axis], kind="stable")]
        half = parts // 2
        cut = len(rows) * half // parts
        left += [(rows[:cut], first, half), (rows[cut:], first + half, parts - half)]
    return labels


def errors_of_mean(expression: np.ndarray, stripe: np.ndarray) -> np.ndarray:
    """Sum over genes the squared errors of the mean of all other stripes (n,)."""
    terms = np.zeros((len(expression), 0))
    return errors_of_ridge(terms, expression, stripe)


def errors_of_ridge(terms: np.ndarray, expression: np.ndarray, stripe: np.ndarray) -> np.ndarray:
    """Sum over genes the squared errors of a ridge regression on the terms, trained on all other stripes (n,).

    Parameters
    ----------
    terms
        What the spots look like (n, n_terms).
    expression
        Expression of the same spots (n, n_genes).
    stripe
        The stripe of each spot (n,), counted from 0 without gaps.
    """
    n, n_terms = terms.shape
    spread = terms.std(axis=0, dtype=np.float64)
    varies = spread > _ROUNDING * spread.max(initial=0)
    scaled = np.where(varies, terms - terms.mean(axis=0, dtype=np.float64), 0) / np.where(varies, spread, 1)
    known = np.column_stack([np.clip(scaled, -_FARTHEST, _FARTHEST), np.ones(n)])
    order = np.argsort(stripe, kind="stable")
    stops = np.cumsum(np.bincount(stripe))
    parts = [order[start:stop] for start, stop in zip([0, *stops[:-1]], stops, strict=True)]
    squares = np.stack([known[rows].T @ known[rows] for rows in parts])
    products = np.stack([known[rows].T @ expression[rows] for rows in parts])
    penalty = np.diag([*[_PENALTY] * n_terms, 1e-9])
    # what all other stripes sum to, at once for every stripe
    slopes = np.linalg.solve(squares.sum(axis=0) - squares + penalty, products.sum(axis=0) - products)
    errors = np.empty(n)
    for rows, slope in zip(parts, slopes, strict=True):
        errors[rows] = np.square(expression[rows] - known[rows] @ slope).sum(axis=1)
    return errors
