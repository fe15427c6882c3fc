"""Outer folds of a cross-validation, and what makes sure that nothing is on both sides of one."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from bleep_sc.io._calibration import Scope

_MIN_GENES = 10
"""The fewest detected genes of a profile that is compared: smaller profiles can be equal by chance."""


@dataclass(frozen=True)
class Fold:
    """A fold of a cross-validation: one group is held out, and the spots of all others are trained on.

    Raises
    ------
    ValueError
        A spot, or a spot of the held-out group, is among the training spots.
    """

    name: str
    """The group that is held out."""
    training: np.ndarray
    """Rows of the training spots (n_training,)."""
    test: np.ndarray
    groups: np.ndarray
    """The group of every spot (n_obs,)."""

    def __post_init__(self) -> None:
        both = set(self.groups[self.training]) & set(self.groups[self.test])
        if both or np.intersect1d(self.training, self.test).size:
            shown = ", ".join(map(repr, sorted(map(str, both))[:5]))
            msg = (
                f"fold {self.name!r} leaks: {shown or 'the same spots'} would be both trained on and tested on. A "
                "group belongs to one side whole."
            )
            raise ValueError(msg)


def make_folds(groups: np.ndarray) -> list[Fold]:
    """Make the folds: each group is held out once."""
    return [
        Fold(str(group), np.flatnonzero(groups != group), np.flatnonzero(groups == group), groups)
        for group in np.unique(groups)
    ]


def check_sections_in_groups(sections: np.ndarray, groups: np.ndarray, *, library_key: str, group_key: str) -> None:
    """Refuse a section in two groups: neighbouring spots of a section are nearly the same tissue."""
    for section in np.unique(sections):
        section_groups = np.unique(groups[sections == section]).tolist()
        if len(section_groups) > 1:
            msg = (
                f"section {str(section)!r} of `adata.obs[{library_key!r}]` is in {len(section_groups)} groups of "
                f"`adata.obs[{group_key!r}]` ({', '.join(map(repr, section_groups[:5]))}), so its spots would be both "
                "trained on and tested on. Group whole sections, better whole patients."
            )
            raise ValueError(msg)


def check_no_copies(values: Any, groups: np.ndarray, names: Sequence[str], *, path: str) -> None:
    """Refuse a profile that stands in two groups: the same spots were passed twice, under two names."""
    rows = sparse.csr_matrix(values, copy=True)  # tidied below, which must not reach the user's own
    rows.sum_duplicates()
    rows.eliminate_zeros()
    seen: dict[bytes, int] = {}
    for row in range(rows.shape[0]):
        entries = slice(rows.indptr[row], rows.indptr[row + 1])
        if entries.stop - entries.start < _MIN_GENES:
            continue
        profile = hashlib.sha256(rows.indices[entries].tobytes() + rows.data[entries].tobytes()).digest()
        first = seen.setdefault(profile, row)
        if groups[first] != groups[row]:
            msg = (
                f"spots {names[first]!r} of group {str(groups[first])!r} and {names[row]!r} of group "
                f"{str(groups[row])!r} have the same profile in `{path}`: the same spots are in both groups, so "
                "every fold would be tested on what it was trained on. Remove the copies."
            )
            raise ValueError(msg)


def scope_of(folds: Sequence[Fold], patients: np.ndarray) -> Scope:
    """Tell whether test tissue comes from patients that were not trained on.

    An unknown patient is an empty string.
    """
    if any((patients[np.concatenate([fold.training, fold.test])] == "").any() for fold in folds):
        return "patients unknown"
    within = any(set(patients[fold.training]) & set(patients[fold.test]) for fold in folds)
    return "within-patient" if within else "across patients"
