"""The depths at which calibration spots are compared with their predictions, and their errors there."""

from dataclasses import dataclass

import numpy as np

from bleep_sc.metrics.conformal import matched_depths, thinned
from bleep_sc.tl._trust.spots import HeldOutSpots

_DRAW_OF_HALVES, _DRAW_OF_QUERY = 0, 2**32
"""Numbers of drawings that no depth has."""
_MARGIN = 1.1
"""How much deeper than a spot its match must be to count as deeper: equal depths never match to a count."""


@dataclass(frozen=True)
class Depths:
    """The spots that are looked at, and the total counts that each is thinned to."""

    rows: np.ndarray
    """The numbers of the spots (n,)."""
    to: np.ndarray
    """Total counts after thinning (n,)."""
    draw: int = 1
    """A number that tells one drawing of random numbers from another."""
    too_shallow: float = 0.0
    """The share of the spots that should be deeper than they are."""


def as_they_are(spots: HeldOutSpots) -> Depths:
    """Take all spots at the depth that they were sequenced to."""
    return Depths(np.arange(len(spots.rows)), spots.measured.totals)


def thinned_to(spots: HeldOutSpots, depth: int) -> Depths:
    """Take the spots with so many counts or more, thinned to this depth."""
    rows = np.flatnonzero(spots.measured.totals >= depth)
    return Depths(rows, np.full(len(rows), float(depth)), depth)


def like_query(spots: HeldOutSpots, wanted: np.ndarray) -> Depths:
    """Take all spots at depths like those of a query, as far as they are that deep."""
    sections = np.unique(spots.labels.sections.astype(str), return_inverse=True)[1]
    totals = spots.measured.totals
    matched = matched_depths(totals, sections, wanted, rank=spots.measured.rank)
    too_shallow = float((matched > _MARGIN * totals).mean())
    return Depths(np.arange(len(totals)), np.minimum(matched, totals), _DRAW_OF_QUERY, too_shallow)


def differences(
    spots: HeldOutSpots, predicted: np.ndarray, columns: np.ndarray, depths: Depths, *, seed: int
) -> np.ndarray:
    """Compute measured less predicted values at these depths, float32 (n_columns, n).

    `predicted` holds the predictions of all spots (n_columns, n_spots).
    """
    measured, rows = spots.measured, depths.rows
    counts = measured.counts[:, columns]
    if len(rows) < counts.shape[0]:
        counts = counts[rows]
    keep = depths.to / measured.totals[rows]
    values = thinned(counts, measured.genes[columns], keep, rank=measured.rank[rows], seed=seed, draw=depths.draw)
    values *= (measured.target_sum / depths.to).astype(np.float32)
    return np.log1p(values, out=values) - predicted[:, rows]


def differences_of_halves(
    spots: HeldOutSpots, predicted: np.ndarray, columns: np.ndarray, *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the differences of two random halves of the counts, each (n_columns, n_spots)."""
    measured = spots.measured
    counts, names = measured.counts[:, columns], measured.genes[columns]
    whole, first = (
        thinned(
            counts,
            names,
            np.full(len(measured.totals), keep),
            rank=measured.rank,
            seed=seed,
            draw=_DRAW_OF_HALVES,
        )
        for keep in (1.0, 0.5)
    )
    scale = (2 * measured.target_sum / measured.totals).astype(np.float32)
    one, other = (np.log1p(half * scale) - predicted for half in (first, whole - first))
    return one, other
