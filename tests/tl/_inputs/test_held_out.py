"""Spots that training must not see, and folds to choose on."""

import numpy as np
import pytest
from anndata import AnnData
from conftest import make_sections

from bleep_sc.tl._inputs.held_out import InnerFolds, inner_folds, validation_spots


def test_validation_takes_a_fifth_of_each_section(ref: AnnData) -> None:
    sections = ref.obs["section"].astype(str).to_numpy()
    held_out = validation_spots(ref, sections=sections, validation_key=None, random_state=0)
    assert [held_out[sections == s].sum() for s in ("s1", "s2")] == [10, 10]
    again = validation_spots(ref, sections=sections, validation_key=None, random_state=1)
    assert not np.array_equal(held_out, again)


def test_tiny_sections_still_leave_spots_for_validation(ref: AnnData) -> None:
    sections = np.arange(ref.n_obs).astype(str).astype(object)
    assert validation_spots(ref, sections=sections, validation_key=None, random_state=0).sum() == 19
    ref.obs["none"] = False
    with pytest.raises(ValueError, match=r"obs\['none'\].*0 of 96 spots"):
        validation_spots(ref, sections=None, validation_key="none", random_state=0)


def test_validation_by_whole_sections_or_named_spots(ref: AnnData) -> None:
    held_out = validation_spots(ref, sections=None, validation_key="section", random_state=0)
    assert ref.obs["section"][held_out].nunique() == 1
    assert held_out.sum() == 48
    ref.obs["held"] = np.arange(ref.n_obs) < 7
    held_out = validation_spots(ref, sections=None, validation_key="held", random_state=0)
    assert np.array_equal(held_out, ref.obs["held"])


# folds on which a penalty, a number of neighbours or a blend is chosen


def folds_of(adata: AnnData, validation_key: str | None = None) -> InnerFolds:
    sections = adata.obs["section"].astype(str).to_numpy()
    return inner_folds(adata, sections=sections, validation_key=validation_key, random_state=0, at_most=5)


def test_sections_are_held_out_in_turn(ref: AnnData) -> None:
    found = folds_of(ref)
    first, second = np.arange(48), np.arange(48, 96)
    for (training, parts), held_out in zip(found, (first, second), strict=True):
        assert [part.tolist() for part in parts] == [held_out.tolist()]
        assert training.tolist() == np.setdiff1d(np.arange(96), held_out).tolist()


def test_groups_of_the_validation_key_are_held_out_whole() -> None:
    adata = make_sections(30, sections=("a1", "a2", "b1", "b2"))
    adata.obs["patient"] = adata.obs["section"].astype(str).str[0]
    found = folds_of(adata, "patient")
    assert [[len(part) for part in parts] for _, parts in found] == [[30, 30], [30, 30]], "scored by section"
    for training, parts in found:
        held_out = set(adata.obs["patient"].iloc[np.concatenate(parts)])
        assert len(held_out) == 1
        assert not held_out & set(adata.obs["patient"].iloc[training])
    adata.obs["held"] = np.arange(adata.n_obs) < 40
    ((training, parts),) = folds_of(adata, "held")
    assert training.tolist() == list(range(40, 120))
    assert [part.tolist() for part in parts] == [list(range(30)), list(range(30, 40))]
    with pytest.raises(KeyError, match=r"obs\['slide'\]"):
        folds_of(adata, "slide")


def test_many_groups_are_joined_to_five() -> None:
    adata = make_sections(30, sections=tuple(f"s{i}" for i in range(7)))
    found = folds_of(adata)
    assert len(found) == 5
    assert sorted(len(parts) for _, parts in found) == [1, 1, 1, 2, 2]
    held_out = [row for _, parts in found for part in parts for row in part]
    assert sorted(held_out) == list(range(210)), "each spot once"
    for training, parts in found:
        assert not set(training) & set(np.concatenate(parts))
        assert all(adata.obs["section"].iloc[part].nunique() == 1 for part in parts)


def test_a_single_section_is_held_out_spot_by_spot(ref: AnnData) -> None:
    found = folds_of(ref[:48].copy())
    assert [len(parts) for _, parts in found] == [1] * 5
    assert sorted(row for _, (part,) in found for row in part) == list(range(48))
