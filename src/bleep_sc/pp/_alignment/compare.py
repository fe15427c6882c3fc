"""Compare all ways in which spots could lie on the image, and say whether another one fits clearly better."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bleep_sc.pp._alignment.explained import blocks, errors_of_mean, errors_of_ridge, stripes
from bleep_sc.pp._alignment.looks import Look
from bleep_sc.pp._alignment.ways import Way, chance_places

FITS, OTHER, UNKNOWN = "fits", "another way fits better", "cannot tell"
FEWEST, FEWEST_GENES = 60, 20
"""With fewer spots, or fewer genes, nothing is compared: a few smooth maps look alike in some place by accident."""
_LEAST_SHARE = 0.4
"""A way is compared if the look at so many of its places is known."""
_BLOCKS, _SPOTS_IN_BLOCK = 16, 4
"""Blocks of neighbouring spots, over which standard errors are taken; they hold at least so many spots."""
BETTER, ABOVE_ZERO, ABOVE_CHANCE = 2.0, 2.5, 3.0
"""When another way fits better: how many standard errors it explains more than the given one, how many more than
nothing, and how many standard deviations of placements that cannot be right it explains more than these.

The last two also stand for "fits". Of independent smooth patterns of expression and colour, 2 % pass all three by
accident, of 40 ways.
"""


@dataclass(frozen=True)
class Comparison:
    """What was found of one section."""

    verdict: str
    best: str
    """Name of the way that explains most, beside the given one."""
    table: pd.DataFrame
    """A row for each way, as given first."""
    chance: np.ndarray
    """Shares that placements explain which cannot be right."""
    n_spots: int

    @property
    def given(self) -> pd.Series:
        """The row of the places as given."""
        return self.table.iloc[0]

    @property
    def other(self) -> pd.Series:
        """The row of the best other way."""
        return self.table.set_index("way", drop=False).loc[self.best]


def compare(
    expression: np.ndarray, xy: np.ndarray, look: Look, candidates: Sequence[Way], *, around: np.ndarray
) -> Comparison | None:
    """Compare ways by how much of the expression the look at their places explains; None with too few spots or genes.

    A way whose places are not all known is compared with the given one on the same spots.

    Parameters
    ----------
    expression
        Of the spots that are compared (n, n_genes).
    xy
        Their places as given (n, 2).
    look
        Tells the look at any place.
    candidates
        The ways, as given first.
    around
        Places of all spots of the section (m, 2).
    """
    if len(xy) < FEWEST or expression.shape[1] < FEWEST_GENES or not np.ptp(expression, axis=0).any():
        return None
    trial = _Trial(expression - expression.mean(axis=0), xy, look)
    rows = [row for row in (trial.row(way) for way in candidates) if row is not None]
    table = pd.DataFrame(rows, index=[str(i) for i in range(len(rows))])
    chance = np.array([share for share in map(trial.share, chance_places(xy, around)) if np.isfinite(share)])
    if len(table) < 2 or len(chance) < 2:
        return None
    spread = max(float(chance.std(ddof=1)), 1e-9)
    table["above_chance"] = (table["score"] - chance.mean()) / spread
    best = table.iloc[1:].sort_values("gain", kind="stable").iloc[-1]
    verdict = UNKNOWN
    if best["gain"] > 0 and best["gain_in_errors"] >= BETTER and _beyond_chance(best):
        verdict = OTHER
    elif _beyond_chance(table.iloc[0]):
        verdict = FITS
    return Comparison(verdict, str(best["way"]), table, chance, len(xy))


def _beyond_chance(row: pd.Series) -> bool:
    return bool(row["score_in_errors"] >= ABOVE_ZERO and row["above_chance"] >= ABOVE_CHANCE)


class _Trial:
    """Tries one placement after the other on the same spots."""

    def __init__(self, expression: np.ndarray, xy: np.ndarray, look: Look) -> None:
        self.expression = expression
        self.look = look
        self.xy = xy
        self.stripe = stripes(xy)
        self.block = blocks(xy, max(2, min(_BLOCKS, len(xy) // _SPOTS_IN_BLOCK)))
        self.terms = look.at(xy)[0]
        self.of_all = self._errors(np.ones(len(xy), dtype=bool), self.terms), self._errors_of_mean(slice(None))

    def row(self, way: Way) -> dict[str, object] | None:
        """Try one way; None where too few of its places are known."""
        tried = self._tried(way.places(self.xy))
        if tried is None:
            return None
        known, errors, given, nothing = tried
        total = nothing.sum()
        more, zero = (given - errors) / total, (nothing - errors) / total
        error_of_more, error_of_zero = (self._standard_error(each, known) for each in (more, zero))
        return {
            "way": way.name,
            "kind": way.kind,
            "score": float(zero.sum()),
            "score_given": float(1 - given.sum() / total),
            "gain": float(more.sum()),
            "standard_error": error_of_more,
            "gain_in_errors": float(more.sum() / error_of_more) if error_of_more > 0 else 0.0,
            "score_in_errors": float(zero.sum() / error_of_zero) if error_of_zero > 0 else 0.0,
            "n_spots": int(known.sum()),
        }

    def share(self, places: np.ndarray) -> float:
        """Compute the share that some placement explains; NaN where too few of its places are known."""
        tried = self._tried(places)
        return np.nan if tried is None else float(1 - tried[1].sum() / tried[3].sum())

    def _tried(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
        """Find which places are known, and the errors there: of the placement, as given, and of the mean."""
        terms, known = self.look.at(places)
        if known.sum() < max(FEWEST, _LEAST_SHARE * len(known)):
            return None
        given, nothing = self.of_all
        if not known.all():
            given, nothing = self._errors(known, self.terms), self._errors_of_mean(known)
        return known, self._errors(known, terms), given, nothing

    def _errors(self, known: np.ndarray, terms: np.ndarray) -> np.ndarray:
        return errors_of_ridge(terms[known], self.expression[known], _without_gaps(self.stripe[known]))

    def _errors_of_mean(self, known: np.ndarray | slice) -> np.ndarray:
        return errors_of_mean(self.expression[known], _without_gaps(self.stripe[known]))

    def _standard_error(self, of_spots: np.ndarray, known: np.ndarray) -> float:
        """Standard error of a sum over spots, from its sums over blocks of neighbours."""
        sums = np.bincount(_without_gaps(self.block[known]), weights=of_spots)
        return float(np.sqrt(len(sums) * sums.var(ddof=1))) if len(sums) > 1 else 0.0


def _without_gaps(labels: np.ndarray) -> np.ndarray:
    return np.asarray(np.unique(labels, return_inverse=True)[1])
