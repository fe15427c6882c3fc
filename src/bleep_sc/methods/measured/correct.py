"""Corrects the prediction of a section by those of its spots that were measured."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bleep_sc._blocks import row_blocks
from bleep_sc._grid import spacing
from bleep_sc.methods.measured.blocks import blocks_of, patches_of
from bleep_sc.methods.measured.prior import Prior
from bleep_sc.methods.measured.process import Field, krige

FEWEST_MEASURED = 4
"""Fewest measured spots of a section by which its prediction is corrected: with so few (2 % of a HER2ST section), the
mean of all sections still gained."""
_SHRINKAGES = (0.0, 0.25, 0.5, 0.75, 1.0)
_PRIOR_SPOTS = 10
"""Number of measured spots that the variance of a gene in the reference counts for."""


@dataclass(frozen=True)
class Correction:
    """The corrected prediction of a section, and what was chosen."""

    expression: np.ndarray
    """Values float32 (n_spots, n_genes)."""
    shrinkage: float
    """The share of the pattern that was added, 0 for none."""
    length: float
    """Length scale of the pattern in units of the places; NaN without a pattern."""
    gain: float
    """The share of the squared error of measured spots, predicted without their blocks, that the pattern takes away."""


class _LeftOut(NamedTuple):
    """A block of measured spots, and what the others say of it."""

    block: np.ndarray
    """Positions of its spots among the measured."""
    others: np.ndarray
    pattern: np.ndarray
    """Residual scores of the block (n_block, n_components)."""


def correct(
    predicted: np.ndarray, measured: np.ndarray, values: np.ndarray, xy: np.ndarray, prior: Prior
) -> Correction:
    """Add the level and the pattern of what the prediction of a section misses.

    Parameters
    ----------
    predicted
        Predicted expression (n_spots, n_genes) of the genes of `prior`.
    measured
        Rows of the measured spots (n_measured,), in order, at least `FEWEST_MEASURED`.
    values
        Measured expression of these spots (n_measured, n_genes).
    xy
        Places of all spots (n_spots, 2).
    prior
        How expression varies in the reference.

    Returns
    -------
    The correction. At measured spots it is the one that the other blocks make.
    """
    unit = np.nan_to_num(spacing(xy), nan=1.0)  # spots at one place have no distance
    places = xy / unit
    parts, sizes = [], []
    out = np.empty(predicted.shape, dtype=np.float32)
    for spots, of_measured in patches_of(places, measured):
        rows = np.searchsorted(spots, measured[of_measured])
        part = _correct_patch(predicted[spots], rows, values[of_measured], places[spots], prior)
        out[spots] = part.expression
        parts.append(part)
        sizes.append(len(of_measured))
    shrinkage, gain = np.average([(part.shrinkage, part.gain) for part in parts], axis=0, weights=sizes)
    lengths = [part.length * unit for part in parts if np.isfinite(part.length)]
    return Correction(out, float(shrinkage), float(np.mean(lengths)) if lengths else float("nan"), float(gain))


def _correct_patch(
    predicted: np.ndarray, measured: np.ndarray, values: np.ndarray, places: np.ndarray, prior: Prior
) -> Correction:
    """Correct spots that lie together; the length is in spacings of the spots."""
    residuals = values.astype(np.float64) - predicted[measured]
    scores = prior.scores(residuals)
    field = Field.of(places, prior.scores(predicted))
    left_out = []
    for block in blocks_of(places[measured]):
        others = np.setdiff1d(np.arange(len(measured)), block)
        pattern = krige(field, measured[others], scores[others], prior)
        left_out.append(_LeftOut(block, others, pattern.scores(measured[block])))
    shrinkage, gain = _choose(scores, left_out, prior)
    pattern = krige(field, measured, scores, prior)
    out = np.empty(predicted.shape, dtype=np.float32)
    level = _level(residuals, prior)
    for part in row_blocks(out):
        rows = np.arange(len(out))[part]
        out[part] = predicted[part] + level + shrinkage * pattern.scores(rows) @ prior.decoder.loadings
    for block, others, of_block in left_out:
        change = _level(residuals[others], prior) + shrinkage * of_block @ prior.decoder.loadings
        out[measured[block]] = predicted[measured[block]] + change
    np.maximum(out, prior.decoder.minimum, out=out)
    return Correction(out, shrinkage, pattern.length if shrinkage else float("nan"), gain)


def _choose(residuals: np.ndarray, left_out: list[_LeftOut], prior: Prior) -> tuple[float, float]:
    """Choose the share of the pattern by the squared error, in units of noise, of blocks that were left out.

    Returns
    -------
    The share, and how much of the error it takes away: 0 where no share lowers the mean error of the blocks, else the
    largest one whose error lies within one standard error of the least. Kriging has shrunk the pattern already, and a
    block that is left out lies further from measured spots than most others do.
    """
    errors = np.array(
        [
            [
                (np.square(residuals[block] - residuals[others].mean(axis=0) - share * pattern) / prior.noise).sum()
                for share in _SHRINKAGES
            ]
            for block, others, pattern in left_out
        ]
    )
    best = int(np.argmin(errors.mean(axis=0)))
    if best == 0:
        return 0.0, 0.0
    above = errors - errors[:, [best]]
    standard_error = above.std(axis=0, ddof=1) / np.sqrt(len(errors))
    chosen = int(np.flatnonzero(above.mean(axis=0) <= standard_error).max())
    return _SHRINKAGES[chosen], float(1 - errors[:, chosen].sum() / errors[:, 0].sum())


def _level(residuals: np.ndarray, prior: Prior) -> np.ndarray:
    """Compute what is added to each gene everywhere (n_genes,): its mean residual, shrunk.

    One factor for all genes shrinks levels as much as levels of mere noise would need (empirical Bayes: Efron and
    Morris, Journal of the American Statistical Association 68, 117, 1973).
    """
    n, level = len(residuals), residuals.mean(axis=0)
    variance = (_PRIOR_SPOTS * prior.variance + n * residuals.var(axis=0)) / (_PRIOR_SPOTS + n - 1)
    varies = variance > 0
    excess = float(np.mean(np.square(level[varies]) * n / variance[varies])) if varies.any() else 0.0
    return np.asarray(level * (1 - 1 / excess if excess > 1 else 0.0))
