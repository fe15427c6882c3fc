"""What a report lacks is named, and the line that it gives gets it."""

from collections.abc import Callable
from html import unescape

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData

import bleep_sc as bl

pytestmark = pytest.mark.usefixtures("quick")

Pair = tuple[AnnData, AnnData]
Take = Callable[[AnnData, AnnData], object]


def lines(page: object) -> list[str]:
    """The lines of code that the report gives."""
    return [unescape(part.split("</code>")[0]) for part in page.html.split("<pre><code>")[1:]]  # type: ignore[attr-defined]


def without_bounds(ref: AnnData, query: AnnData) -> None:
    del query.layers["bleep_lower"], query.layers["bleep_upper"]


def without_calibration(ref: AnnData, query: AnnData) -> None:
    without_bounds(ref, query)
    ref.var = ref.var[[]]
    for part in ("calibration", "coverage", "scope"):
        del ref.uns["bleep"][part]


def without_scores(ref: AnnData, query: AnnData) -> None:
    del query.var["bleep_pearson"]


def without_reliability(ref: AnnData, query: AnnData) -> None:
    del query.obs["bleep_reliability"]


def without_check(ref: AnnData, query: AnnData) -> None:
    del query.uns["alignment_check"]


def with_counts(ref: AnnData, query: AnnData) -> None:
    query.X = 20 * query.layers["counts"]
    del query.layers["counts"]


TAKEN: dict[str, tuple[Take, str, int]] = {
    "bounds": (without_bounds, "Lower and upper bounds", 1),
    "calibration": (without_calibration, "Expected scores of the genes", 2),
    "scores": (without_scores, "Scores on these slides", 1),
    "reliability": (without_reliability, "Reliability", 1),
    "check": (without_check, "The check that the image fits the spots", 1),
    "counts": (with_counts, "Measured maps", 1),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", TAKEN)
def test_the_line_gets_what_is_missing(name: str, full: Pair, write: Callable) -> None:
    ref, query = full
    take, what, n_missing = TAKEN[name]
    take(ref, query)
    page = write(query, ref, genes=["g3"])
    assert what in page.text("#missing")
    given = lines(page)
    assert len(given) == n_missing
    for code in given:
        exec(code, {"bl": bl, "sc": sc, "query": query, "ref": ref})  # noqa: S102 - it is what a user would do
    again = write(query, ref, genes=["g3"])
    # a new prediction has no bounds yet, and counts bring no scores
    assert what not in again.text("#missing")


def test_keys_of_ones_own_stand_in_the_lines(full: Pair, write: Callable) -> None:
    ref, query = full
    ref.uns["mine"] = ref.uns.pop("bleep")
    query.layers["theirs"], query.uns["theirs"] = query.layers["bleep"], query.uns["bleep"]
    page = write(query, ref, key="mine", layer="theirs", genes=["g3"])
    assert 'bl.tl.calibrate(ref, key="mine")' in lines(page)
    assert 'bl.tl.evaluate(query, layer="theirs")' in lines(page)
    assert 'bl.tl.impute(query, ref, key="mine", key_added="theirs")' in lines(page)
    assert any(
        'bl.tl.intervals(query, ref, key="mine", layer="theirs", key_added="theirs")' in line for line in lines(page)
    )


@pytest.mark.slow
def test_why_the_tissue_of_a_value_cannot_be_shown(full: Pair, write: Callable) -> None:
    ref, query = full

    def said(query: AnnData, ref: AnnData) -> str:
        return write(query, ref, genes=["g3"]).text("#missing")

    assert "has other spots, or another order" in said(query, ref[::-1].copy())
    without = ref.copy()
    del without.obsm["crops"]
    assert "`ref` holds no crops any more." in said(query, without)
    assert "bl.pp.crops(ref" in said(query, without)
    without = query.copy()
    del without.obsm["crops"]
    assert "`query` holds no crops any more." in said(without, ref)
    without = query.copy()
    del without.obsm["bleep_neighbors"]
    assert "looks up no reference spots" in said(without, ref)
    without = ref.copy()
    without.X = None
    assert "does not hold the measured values any more" in said(query, without)


@pytest.mark.slow
def test_pictures_that_are_missing_are_named_and_can_be_added(full: Pair, write: Callable) -> None:
    ref, query = full
    del query.uns["spatial"]
    page = write(query, ref, genes=["g3"])
    assert "The H&E picture of D1" in page.text("#missing")
    (code,) = lines(page)
    picture = np.full((120, 120, 3), 200, dtype=np.uint8)
    exec(code, {"query": query, "picture": picture})  # noqa: S102
    assert "missing" not in [found.get("id") for _, found in write(query, ref, genes=["g3"]).elements]
    assert "missing" not in [found.get("id") for _, found in write(query, ref, genes=["g3"], img_key=None).elements]


def test_bounds_of_other_genes(full: Pair, write: Callable) -> None:
    """A gene without bounds has no such map, and the others have."""
    ref, query = full
    for end in ("lower", "upper"):
        query.layers[f"bleep_{end}"][:, query.var_names.get_loc("g3")] = np.nan
    page = write(query, ref, genes=["g3", "g7"])
    assert [found["data-gene"] for found in page.all("img", **{"data-kind": "lower"})] == ["1"]


@pytest.mark.slow
def test_what_nobody_recorded(full: Pair, write: Callable) -> None:
    """Layers of other programs, older predictions, tables that lack a part."""
    _, query = full
    query.layers["other"] = query.layers["bleep"]
    page = write(query, layer="other", genes=["g3"])
    assert "Nothing is recorded of the model" in page.text("#model")
    del query.uns["bleep"]["reliability"]
    query.obs["bleep_reliability"] = np.nan
    assert "Nothing says whether this slide looks like the reference" in write(query, genes=["g3"]).text("#slides")
    query.uns["crops"] = pd.DataFrame({"a": [1]})
    assert "Checks of image and scale" in write(query, genes=["g3"], library_key="section").text("#missing")


@pytest.mark.slow
def test_what_the_bounds_promise(full: Pair, write: Callable) -> None:
    _, query = full
    entry = query.uns["bleep_intervals"]
    entry |= {"level": 0.8, "empirical": np.nan, "guaranteed_level": 0.6, "depth": "2000"}
    said = write(query, genes=["g3"]).text("#maps")
    assert "About 80% of the values that sequencing would find" in said
    assert "in spots that are sequenced to 2000 counts" in said
    assert "For a new patient, 60% is sure." in said
    entry |= {"guaranteed_level": np.nan, "scope": "within one patient, 2 sections"}
    assert "Nothing is sure for another patient" in write(query, genes=["g3"]).text("#maps")
    entry["target"] = "rate"
    assert "if counting added no noise" in write(query, genes=["g3"]).text("#maps")
    del query.uns["bleep_intervals"]
    assert "Nothing is recorded of how many values" in write(query, genes=["g3"]).text("#maps")
