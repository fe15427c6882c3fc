import numpy as np
import pytest
from scipy import sparse

from bleep_sc.tl._cv.folds import Fold, check_no_copies, check_sections_in_groups, make_folds, scope_of

GROUPS = np.array(["a", "a", "b", "b", "c"])


def test_each_group_is_held_out_once() -> None:
    folds = make_folds(GROUPS)
    assert [fold.name for fold in folds] == ["a", "b", "c"]
    assert np.array_equal(np.concatenate([fold.test for fold in folds]), np.arange(5))
    for fold in folds:
        assert set(GROUPS[fold.test]) == {fold.name}
        assert fold.name not in GROUPS[fold.training]


@pytest.mark.odd
@pytest.mark.parametrize(("training", "test"), [([0, 1, 2], [2, 3]), ([0, 2], [1]), ([0, 1, 2], [3])])
def test_a_leaking_fold_is_refused(training: list[int], test: list[int]) -> None:
    with pytest.raises(ValueError, match=r"fold 'x' leaks: '[ab]'.*both trained on and tested on"):
        Fold("x", np.array(training), np.array(test), GROUPS)


@pytest.mark.odd
def test_a_section_in_two_groups_is_refused() -> None:
    sections = np.array(["s1", "s1", "s1", "s2", "s3"])
    with pytest.raises(ValueError, match=r"section 's1'.*2 groups.*'a', 'b'"):
        check_sections_in_groups(sections, GROUPS, library_key="section", group_key="patient")
    check_sections_in_groups(GROUPS, GROUPS, library_key="section", group_key="patient")


@pytest.mark.odd
def test_the_same_profile_in_two_groups_is_refused() -> None:
    values = np.random.default_rng(0).poisson(3, size=(5, 40))
    names = list("vwxyz")
    check_no_copies(values, GROUPS, names, path="the counts")
    values[1] = values[0]  # within a group it may be
    check_no_copies(sparse.csr_matrix(values), GROUPS, names, path="the counts")
    values[4] = values[2]
    with pytest.raises(ValueError, match=r"'x' of group 'b' and 'z' of group 'c'.*the counts"):
        check_no_copies(sparse.csr_matrix(values), GROUPS, names, path="the counts")
    values[[2, 4]] = 0
    values[[2, 4], :9] = 1  # nine genes can be equal by chance
    check_no_copies(values, GROUPS, names, path="the counts")


def test_scope() -> None:
    folds = make_folds(GROUPS)
    assert scope_of(folds, GROUPS) == "across patients"
    assert scope_of(folds, np.array(["C"] * 5)) == "within-patient"
    assert scope_of(folds, np.array(["p", "p", "p", "p", "q"])) == "within-patient"
    assert scope_of(folds, np.array([""] * 5)) == "patients unknown"
