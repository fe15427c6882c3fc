"""A report reassures only where nothing that it knows speaks against it."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from bleep_sc.io._calibration import Calibration
from bleep_sc.tl._trust.reliability import LIKE, OTHER, UNLIKE

pytestmark = pytest.mark.usefixtures("quick")

Pair = tuple[AnnData, AnnData]
LOOK = "the crops do not look like the hires picture of `uns` at the same places (correlation 0.17)."
GOES_WELL = "Colours under the spots go with their expression, so the image fits the spots."


def expect(ref: AnnData, gene: str, *, predictable: bool, expected: float, low: float, high: float) -> None:
    ref.var["bleep_predictable"] = ref.var["bleep_predictable"].astype(bool)
    values = (predictable, expected, low, high)
    columns = ("predictable", *(f"expected_pearson{end}" for end in ("", "_lower", "_upper")))
    for column, value in zip(columns, values, strict=True):
        assert f"bleep_{column}" in ref.var
        ref.var.loc[gene, f"bleep_{column}"] = value


def look(query: AnnData, verdict: str) -> None:
    query.uns["bleep"]["reliability"]["verdict"] = verdict


def promise(ref: AnnData, scope: str) -> None:
    """Calibrate as if the patients were one, or were unknown."""
    entry = ref.uns["bleep"]
    calibration = Calibration.from_bytes(entry["calibration"], where="test")
    entry |= replace(calibration, promise=replace(calibration.promise, scope=scope)).to_uns()


def box(page: Any, heading: str) -> str:
    """A point of the summary: its badge and sentences."""
    return page.text("#brief").partition(heading)[2].partition("How far may")[0].partition("Can these genes")[0].strip()


def row(page: Any, gene: str) -> str:
    found = re.search(
        rf"{gene} (✓ yes|! not shown to be|✕ (?:not|worse) here|\? not known here|not tested) ", page.text("#genes")
    )
    assert found is not None
    return found[1]


@pytest.fixture
def good(full: Pair) -> Pair:
    """Two genes that are expected to be predicted, and are, on a slide like the reference."""
    ref, query = full
    for gene in ("g3", "g7"):
        expect(ref, gene, predictable=True, expected=0.6, low=0.4, high=0.7)
        query.var.loc[gene, "bleep_pearson"] = 0.5
    look(query, LIKE)
    return ref, query


def genes_box(page: Any) -> str:
    return box(page, "Can these genes be predicted?")


def image_box(page: Any) -> str:
    return box(page, "Are image and scale right?")


def test_no_concern_where_all_is_well(good: Pair, write: Callable) -> None:
    """The other tests could not fail otherwise."""
    ref, query = good
    page = write(query, ref, genes=["g3", "g7"])
    assert genes_box(page).startswith("✓ No concern Yes, all of them.")
    assert "On these slides r is 0.50 (g3), 0.50 (g7)." in genes_box(page)
    assert image_box(page).startswith("✓ No concern")
    assert [row(page, gene) for gene in ("g3", "g7")] == ["✓ yes", "✓ yes"]


@pytest.mark.parametrize(
    ("reached", "said"),
    [
        (-0.65, "g7 was predicted the wrong way round here (r = −0.65)."),
        (-0.02, "g7 was not predicted here (r = −0.02)."),
        (0.0, "g7 was not predicted here (r = 0.00)."),
        (0.39, "g7 was predicted worse here than expected (r = 0.39 instead of at least 0.40)."),
        (0.3999, ""),
        (0.4, ""),
        (0.9, ""),
        (np.nan, ""),
    ],
)
@pytest.mark.parametrize("verdict", [LIKE, UNLIKE])
def test_what_was_measured_here_decides(reached: float, said: str, verdict: str, good: Pair, write: Callable) -> None:
    ref, query = good
    query.var.loc["g7", "bleep_pearson"] = reached
    look(query, verdict)
    page = write(query, ref, genes=["g3", "g7"])
    assert row(page, "g7").startswith("✕") == bool(said)
    if said:
        assert row(page, "g7") == ("✕ not here" if reached <= 0 else "✕ worse here")
    assert row(page, "g3") == ("✓ yes" if verdict == LIKE else "? not known here")
    assert genes_box(page).startswith("✕ Doubtful") == bool(said)
    assert said in genes_box(page)
    assert "0.50 (g3)" in genes_box(page)


@pytest.mark.slow
def test_each_gene_that_failed_is_named(good: Pair, write: Callable) -> None:
    """A gene that is not listed too, and one without a calibration."""
    ref, query = good
    expect(ref, "g5", predictable=False, expected=0.1, low=-0.2, high=0.3)
    query.var.loc[["g3", "g5", "g7"], "bleep_pearson"] = [-0.5, -0.1, 0.2]
    said = genes_box(write(query, ref, genes=["g3", "g5", "g7"]))
    assert "g3 and g5 were predicted the wrong way round here (r = −0.50, −0.10)." in said
    assert "g7 was predicted worse here than expected (r = 0.20 instead of at least 0.40)." in said
    alone = write(query, genes=["g3", "g7"])
    assert genes_box(alone).startswith("✕ Doubtful g3 was predicted the wrong way round here (r = −0.50).")
    assert [row(alone, gene) for gene in ("g3", "g7")] == ["✕ not here", "not tested"]


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        ("within-patient", "Yes, but this was shown within one patient only."),
        ("patients unknown", "Yes, but this was shown on unknown patients only."),
    ],
)
def test_a_list_of_one_patient_is_no_reassurance(scope: str, said: str, good: Pair, write: Callable) -> None:
    ref, query = good
    promise(ref, scope)
    assert genes_box(write(query, ref, genes="g3")).startswith(f"! Take care {said}")


def test_a_list_of_which_nothing_is_recorded(good: Pair, write: Callable) -> None:
    ref, query = good
    for part in ("calibration", "scope"):
        del ref.uns["bleep"][part]
    assert genes_box(write(query, ref, genes="g3")).startswith(
        "! Take care Yes, but this was shown on unknown patients"
    )


def test_scopes_stand_in_whole_sentences(good: Pair, write: Callable) -> None:
    ref, query = good
    promise(ref, "patients unknown")
    query.uns["bleep_intervals"] |= {"guaranteed_level": np.nan, "scope": ref.uns["bleep"]["scope"]}
    page = write(query, ref, genes="g3")
    assert re.search(r"The bounds were found on \d sections of unknown patients\.", page.text("#maps"))
    assert re.search(r"They were found on \d sections of unknown patients, on tissue that", page.text("#limits"))


@pytest.mark.slow
def test_other_tissue_is_not_known(good: Pair, write: Callable) -> None:
    ref, query = good
    look(query, UNLIKE)
    del query.var["bleep_pearson"]
    page = write(query, ref, genes=["g3", "g7"])
    assert genes_box(page).startswith("? Not known The list of genes was made on tissue that looks unlike this slide")
    assert [row(page, gene) for gene in ("g3", "g7")] == ["? not known here", "? not known here"]
    assert image_box(page) == (
        "! Take care The checks found no fault. The slide's look is in doubt all the same, see there."
    )
    assert "✓ No concern The checks of image" not in page.text("#slides")
    assert "! Take care The checks of image and scale found no fault." in page.text("#slides")
    look(query, OTHER)
    page = write(query, ref, genes=["g3", "g7"])
    assert genes_box(page).startswith("✓ No concern")
    assert image_box(page).startswith("✓ No concern")


@pytest.mark.slow
def test_one_slide_of_other_tissue_among_two(good: Pair, write: Callable) -> None:
    ref, query = good
    query.obs["section"] = np.where(np.arange(query.n_obs) % 2, "E2", "D1")
    for part in (query.uns["spatial"], query.uns["crops"], query.uns["alignment_check"]):
        part["E2"] = part["D1"]
    table = query.uns["bleep"]["reliability"]
    both = pd.concat([table.iloc[[0]]] * 2, ignore_index=True)
    query.uns["bleep"]["reliability"] = both.assign(section=["D1", "E2"], verdict=[LIKE, UNLIKE])
    page = write(query, ref, genes="g3", library_key="section")
    assert genes_box(page).startswith("? Not known The list of genes was made on tissue that looks unlike E2,")
    assert image_box(page).startswith("! Take care")
    page = write(query, ref, genes="g3", library_key="section", library_id="D1")
    assert genes_box(page).startswith("✓ No concern")


@pytest.mark.parametrize(
    ("read", "said"),
    [
        ("the hires image", "? Not known This check read the hires image, whose colours go with the expression. It did "
         "not read MOB1.jpg, from which the crops were cut. So it does not say that the crops fit."),
        ("the MOB1.jpg", "! Take care Colours under the spots go with their expression, but there is a doubt"),
        ("`obsm['crops']`", "! Take care Colours under the spots go with their expression, but there is a doubt"),
    ],
)  # fmt: skip
def test_a_check_of_another_picture_clears_no_crops(read: str, said: str, good: Pair, write: Callable) -> None:
    ref, query = good
    record, check = query.uns["crops"]["D1"], query.uns["alignment_check"]["D1"]
    record["source"] = "MOB1.jpg"
    check |= {"verdict": "fits", "source": read}
    assert f"✓ No concern {GOES_WELL}" in write(query, ref, genes="g3").text("#slides")
    record["findings"] = pd.DataFrame({"sign": ["look"], "found": [LOOK], "remedy": ["Pass the image of D1."]})
    page = write(query, ref, genes="g3")
    assert GOES_WELL not in page.text("#slides")
    assert said in page.text("#slides")
    assert image_box(page).startswith("✕ Doubtful")
