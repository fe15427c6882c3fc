"""The parts of a training set that a learning curve trains on: nested, drawn several times."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bleep_sc._checks import check_int
from bleep_sc.methods.hybrid.in_section import FEWEST_TO_STANDARDIZE
from bleep_sc.tl._cv.folds import Fold
from bleep_sc.tl._fit import FEWEST_TO_TRAIN_ON
from bleep_sc.tl._study._curve.by import By

_FEWEST_SPOTS = 32
"""The smallest default number of spots, where sections are too small for the one that is better."""
_N_SIZES = 6


@dataclass(frozen=True)
class Subset:
    """A part of the training spots of one fold."""

    fold: int
    """Number of the fold."""
    size: int
    draw: int
    """Number of the draw; the subsets of one draw and fold are nested."""
    rows: np.ndarray
    """Rows among the training spots of the fold, ascending."""


def possible_sizes(sizes: Any, folds: Sequence[Fold], labels: np.ndarray, sections: np.ndarray, by: By) -> list[int]:
    """Return the sizes of a curve, ascending; refuse those that some fold does not have.

    `labels` are the unit of each spot: itself, its section (which are `sections`) or its patient.
    """
    counts = {fold.name: len(np.unique(labels[fold.training])) for fold in folds}
    smallest = min(counts, key=lambda name: counts[name])
    most, least = counts[smallest], FEWEST_TO_TRAIN_ON if by == "spots" else 1
    found = f"fold {smallest!r} trains on {most} {by if most > 1 else by[:-1]}"
    if sizes is None:
        if most < (2 * _FEWEST_SPOTS if by == "spots" else 2):
            needed = f"at least {2 * _FEWEST_SPOTS} spots" if by == "spots" else f"two or more {by}"
            msg = f"{found}, and a learning curve needs {needed} in every fold." + _instead(by)
            raise ValueError(msg)
        return _default_sizes(most, 1 if by != "spots" else _fewest_spots(folds, sections, most))
    if isinstance(sizes, str) or not np.iterable(sizes):
        msg = f"`sizes` must be a list of numbers of {by}, such as [{least}, {most}], found {sizes!r}."
        raise ValueError(msg)
    chosen = sorted({check_int("sizes", size) for size in sizes})
    if len(chosen) < 2:
        msg = f"`sizes` must hold two or more different numbers of {by}, found {chosen}."
        raise ValueError(msg)
    if chosen[0] < least:
        msg = f"`sizes` has {chosen[0]}; at least {least} spots are needed to train on."
        raise ValueError(msg)
    if most < chosen[-1]:
        fewer = " fewer than the smallest of `sizes`," if most < chosen[0] else ""
        msg = (
            f"{found},{fewer} but `sizes` has {chosen[-1]}: the same sizes must be possible in every fold. The largest "
            f"possible is {most}, and `sizes=None` chooses some up to that."
        )
        raise ValueError(msg)
    return chosen


def draw_subsets(
    folds: Sequence[Fold],
    labels: np.ndarray,
    sections: np.ndarray,
    *,
    by: By,
    sizes: Sequence[int],
    draws: int,
    random_state: int,
) -> list[Subset]:
    """Draw the subsets of all folds, in the order in which they are trained on.

    Spots are drawn evenly from all sections of a fold. Sections and patients come in a random order, which each draw
    turns on by one, so that at every size all of them take part alike. Of equal subsets only the first is kept: the
    whole training set is trained on once.
    """
    subsets = []
    for number, fold in enumerate(folds):
        rng = np.random.default_rng([random_state, number])
        own, of_section = labels[fold.training], sections[fold.training]
        seen: set[bytes] = set()
        for draw in range(draws):
            if by == "spots":
                order, own = _order_of_spots(of_section, rng), np.arange(len(fold.training))
            else:
                names = np.unique(own)
                order = rng.permutation(names) if draw % len(names) == 0 else np.roll(order, -1)
            for size in sizes:
                rows = np.flatnonzero(np.isin(own, order[:size]))
                if rows.tobytes() not in seen:
                    seen.add(rows.tobytes())
                    subsets.append(Subset(number, size, draw, rows))
    _check_enough_spots(subsets, folds, by)
    return subsets


def _order_of_spots(sections: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Order spots at random so that each beginning holds the same share of every section (n,)."""
    place = np.empty(len(sections))
    for section in np.unique(sections):
        rows = rng.permutation(np.flatnonzero(sections == section))
        place[rows] = (np.arange(len(rows)) + rng.random()) / len(rows)
    return np.argsort(place, kind="stable")


def _default_sizes(most: int, least: int) -> list[int]:
    """Choose up to six sizes, evenly on a log scale, the last of them all that every fold has."""
    return sorted({round(size) for size in np.geomspace(least, most, min(_N_SIZES, most))})


def _fewest_spots(folds: Sequence[Fold], sections: np.ndarray, most: int) -> int:
    """Choose the smallest number of spots: so many that each section has enough to standardise its features by itself.

    Below that they are standardised by the whole reference. Such a curve has a step, and no law goes on over a step.
    """
    least = 0
    for fold in folds:
        spots = np.unique(sections[fold.training], return_counts=True)[1]
        least = max(least, math.ceil((FEWEST_TO_STANDARDIZE + 1) * spots.sum() / spots.min()))
    return least if 2 * least <= most else max(_FEWEST_SPOTS, most // 2 ** (_N_SIZES - 1))


def _check_enough_spots(subsets: Sequence[Subset], folds: Sequence[Fold], by: By) -> None:
    smallest = min(subsets, key=lambda subset: len(subset.rows))
    if len(smallest.rows) < FEWEST_TO_TRAIN_ON:
        msg = (
            f"fold {folds[smallest.fold].name!r}: {smallest.size} of its {by} hold {len(smallest.rows)} spots; at "
            f"least {FEWEST_TO_TRAIN_ON} are needed to train on. Leave the smallest of `sizes` out, or small sections."
        )
        raise ValueError(msg)


def _instead(by: By) -> str:
    return "" if by == "spots" else " `by='spots'` asks how many spots of these sections are enough."
