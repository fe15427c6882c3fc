"""Which groups are held out together, and who chooses by whom."""

import numpy as np
import pytest

from bleep_sc.tl._cv.folds import make_folds
from bleep_sc.tl._study._sweep.folds import MOST_INNER, make_splits


@pytest.mark.parametrize("n", [3, 4, 5, 7, 8, 12])
def test_every_fold_chooses_by_groups_that_were_not_trained_on(n: int) -> None:
    groups = np.repeat([f"g{i:02}" for i in range(n)], 20)
    splits = make_splits(make_folds(groups), groups, groups, group_key="patient")
    outer = [split for split in splits if split.outer]
    assert [split.outer for split in outer] == sorted(set(groups))
    chooses: dict[str, set[str]] = {}
    for split in splits[len(outer) :]:
        held_out = set(groups[split.fold.test])
        assert len(held_out) == 2
        assert not held_out & set(groups[split.fold.training])
        for fold, (inner, sections) in split.inner.items():
            assert {fold, inner} == held_out
            assert sections == [inner]
            assert inner not in chooses.setdefault(fold, set())
            chooses[fold].add(inner)
    assert {len(others) for others in chooses.values()} == {min(n - 1, MOST_INNER)}
    assert len(splits) - n == n * min(n - 1, MOST_INNER) // 2
