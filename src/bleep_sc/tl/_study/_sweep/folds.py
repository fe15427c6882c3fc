"""The folds of a sweep: outer ones, which say how good a setting is, and inner ones, by which each of them chooses."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bleep_sc.tl._cv.folds import Fold
from bleep_sc.tl._fit import FEWEST_TO_TRAIN_ON

_REACH = 3
"""Each fold chooses on at most twice as many of its other groups."""
MOST_INNER = 2 * _REACH


@dataclass(frozen=True)
class Split:
    """One division of the spots into those that models learn from and those that they predict."""

    fold: Fold
    outer: str | None
    """The outer fold whose held-out group is predicted; None where the split serves choices alone."""
    inner: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    """By outer fold that chooses by this split: the name of its inner fold, and the sections that are its to score."""


def make_splits(folds: Sequence[Fold], groups: np.ndarray, sections: np.ndarray, *, group_key: str) -> list[Split]:
    """Make the outer splits and, of three or more groups, an inner one for each pair of them.

    What a fold that holds out A learns once it leaves out B too, is what the fold of B learns once it leaves out A: the
    same training predicts B for the one, and A for the other. With two groups the sections of the other are left out.
    """
    _check_can_choose(folds, groups, sections, group_key=group_key)
    splits = [Split(fold, fold.name) for fold in folds]
    splits += _by_pairs(folds, groups, sections) if len(folds) > 2 else _by_sections(folds, sections)
    for split in splits:
        if len(split.fold.training) < FEWEST_TO_TRAIN_ON:
            msg = (
                f"with {split.fold.name!r} held out, {len(split.fold.training)} spots are left; at least "
                f"{FEWEST_TO_TRAIN_ON} are needed to train on."
            )
            raise ValueError(msg)
    return splits


def _check_can_choose(folds: Sequence[Fold], groups: np.ndarray, sections: np.ndarray, *, group_key: str) -> None:
    for fold in folds:
        own = np.unique(sections[fold.training])
        if len(own) < 2:
            msg = (
                f"no value can be chosen where {fold.name!r} of `adata.obs[{group_key!r}]` is held out: one section is "
                f"left, {str(own[0])!r}, so there is none to choose on. Three groups or more are needed, or two of "
                "several sections each. `bleep_sc.tl.cross_validate` compares settings without choosing."
            )
            raise ValueError(msg)


def _by_pairs(folds: Sequence[Fold], groups: np.ndarray, sections: np.ndarray) -> list[Split]:
    """Leave out pairs of groups: all of them, or of very many each group with those next to it in a ring."""
    names = [fold.name for fold in folds]
    n = len(names)
    pairs = sorted({tuple(sorted((i, (i + step) % n))) for i in range(n) for step in range(1, min(_REACH, n // 2) + 1)})
    splits = []
    for i, j in pairs:
        a, b = names[i], names[j]
        held_out = (groups == a) | (groups == b)
        fold = Fold(f"{a} + {b}", np.flatnonzero(~held_out), np.flatnonzero(held_out), groups)
        of = {name: np.unique(sections[groups == name]).tolist() for name in (a, b)}
        splits.append(Split(fold, None, {a: (b, of[b]), b: (a, of[a])}))
    return splits


def _by_sections(folds: Sequence[Fold], sections: np.ndarray) -> list[Split]:
    splits = []
    for fold in folds:
        own = np.unique(sections[fold.training])
        for name in own[np.unique(np.linspace(0, len(own) - 1, min(len(own), MOST_INNER)).astype(int))]:
            rows = fold.training
            inner = Fold(f"{fold.name} + {name}", rows[sections[rows] != name], rows[sections[rows] == name], sections)
            splits.append(Split(inner, None, {fold.name: (str(name), [str(name)])}))
    return splits
