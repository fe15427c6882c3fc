"""Spots that training must not see, and folds to choose on."""

from typing import Any

import numpy as np
import pytest
from anndata import AnnData
from conftest import make_sections

from bleep_sc.tl._inputs.held_out import InnerFolds, column_of_patients, how_held_out, inner_folds, validation_spots


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


# how it is said in a log, and the column that could tell the patients


ANIMALS = {"s1": "m1", "s2": "m1", "s3": "m2"}


@pytest.fixture
def three() -> AnnData:
    return make_sections(20, sections=("s1", "s2", "s3"))


def column(adata: AnnData, of_section: dict[str, Any] = ANIMALS) -> Any:
    return adata.obs["section"].astype(str).map(of_section)


def sections_of(adata: AnnData) -> np.ndarray:
    return adata.obs["section"].astype(str).to_numpy()


def test_how_it_was_held_out_is_said(three: AnnData) -> None:
    sections, patients = sections_of(three), column(three).to_numpy()

    def said(**how: Any) -> tuple[str, str]:
        found = how_held_out(three, **{"sections": sections, "validation_key": None, "patients": None, **how})
        return found.by, found.hint

    assert said(patients=patients) == ("by patient", "")
    assert said(patients=np.full(60, "m1")) == ("by section, since all are of one patient", "")
    assert said(validation_key="batch") == ("by obs['batch']", "")
    assert said(sections=None) == said(sections=np.full(60, "s1")) == ("within the only section", "")
    assert said() == ("by section, since no column tells the patients", "")
    three.obs["animal"] = patients
    assert said() == (
        "by section, since no column tells the patients",
        " If obs['animal'] tells the patients, pass patient_key='animal'.",
    )
    assert said(patients=patients)[1] == said(validation_key="animal")[1] == ""


@pytest.mark.parametrize(
    "name",
    ["animal", "Animal", "donor", "subject", "mouse", "individual", "case", "sample_donor", "patient_id", "Patient ID"],
)
@pytest.mark.parametrize("values", [ANIMALS, dict.fromkeys(ANIMALS, 1)], ids=["two", "one number"])
def test_a_column_of_patients_is_found(three: AnnData, name: str, values: dict[str, Any]) -> None:
    three.obs["region"] = "core"
    three.obs[name] = column(three, values)
    assert column_of_patients(three, sections_of(three)) == name
    three.obs[name] = three.obs[name].astype("category")
    assert column_of_patients(three, sections_of(three)) == name


@pytest.mark.odd
def test_what_is_no_column_of_patients(three: AnnData) -> None:
    sections = sections_of(three)
    three.obs["animal_age"] = column(three)  # by its name it is something else
    three.obs["donor"] = sections  # as many as there are sections
    three.obs["mouse"] = np.arange(three.n_obs) % 2  # not constant within a section
    three.obs["subject"] = column(three, {"s1": "m1", "s2": "m1"})  # one is missing
    three.obs["case"] = column(three, {"s1": True, "s2": True, "s3": False}).astype(bool)  # a case or a control
    three.obs[3] = column(three)
    assert column_of_patients(three, sections) is None
    assert column_of_patients(three, None) is None


# folds on which a penalty, a number of neighbours or a mix is chosen


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
