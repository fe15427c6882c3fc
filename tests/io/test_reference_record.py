"""The record of a reference beside its model may come from anywhere: one clear error refuses a damaged one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from anndata import AnnData

import bleep_sc as bl

pytestmark = pytest.mark.odd

Part = dict[str, Any]


def placed(value: Any) -> Callable[[Part], Any]:
    return lambda entry: entry.update(placed=value)


def measured(**changes: Any) -> Callable[[Part], Any]:
    return lambda entry: entry.update(measured={**entry["measured"], **changes})


REFUSED: dict[str, tuple[Callable[[Part], Any], str]] = {
    "a list of rows": (placed([1, 2]), r"\['placed'\]` must be a mapping"),
    "a text": (placed("a"), r"\['placed'\]` must be a mapping"),
    "a path": (placed({"../x": np.zeros(3, dtype=np.uint64)}), r"\['placed'\]` must go by names without '/'"),
    "signed": (placed({"a": np.zeros(3, dtype=np.int64)}), r"\['placed'\]\['a'\]` must be a one-dimensional uint64"),
    "two axes": (placed({"a": np.zeros((3, 2), dtype=np.uint64)}), r"\['placed'\]\['a'\]` must be a one-dimensional"),
    "lists": (placed({"a": [[1], [2, 3]]}), r"\['placed'\]\['a'\]` must be a one-dimensional uint64.*found list"),
    "objects": (placed({"a": np.array([{}], dtype=object)}), r"\['placed'\]\['a'\]` must be a one-dimensional uint64"),
    "too many": (placed({str(i): np.zeros(0, dtype=np.uint64) for i in range(2000)}), r"\['placed'\]` must be a map"),
    "values that are text": (lambda e: e.update(measured="a"), r"\['measured'\]` must be a mapping"),
    "names that are numbers": (measured(spots=np.arange(16)), r"\['measured'\]\['spots'\]` must be a list of gene nam"),
    "a gene without a name": (measured(genes=[""] * 30), r"\['measured'\]\['genes'\]` must be a list of gene names"),
    "one gene less": (measured(genes=["a"] * 29), r"\['measured'\]\['values'\]` must be finite float32 values of 16"),
    "NaN": (
        measured(values=np.full((16, 30), np.nan, dtype=np.float32)),
        r"\['measured'\]\['values'\]` must be finite float32",
    ),
    "other numbers": (
        measured(values=np.zeros((16, 30), dtype=complex)),
        r"\['measured'\]\['values'\]` must be finite float32",
    ),
    "a list of lists": (
        measured(values=[[1], [2, 3]]),
        r"\['measured'\]\['values'\]` must be finite float32.*found list",
    ),
    "very many": (
        measured(spots=["a"] * 10**4, genes=["g"] * 10**3, values=np.zeros((10**4, 10**3), dtype=np.float32)),
        r"\['measured'\]\['values'\]` must be finite float32",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_damaged_is_refused(case: str, fitted: AnnData, query: AnnData, unchanged: Callable[..., None]) -> None:
    change, message = REFUSED[case]
    fitted.uns["bleep"] = dict(fitted.uns["bleep"])
    change(fitted.uns["bleep"])
    unchanged(query)
    with pytest.raises(ValueError, match=r"`ref\.uns\['bleep'\]" + message) as caught:
        bl.tl.impute(query, fitted, k=5)
    assert "undamaged copy" in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("case", [case for case in REFUSED if "placed" in REFUSED[case][1]])
def test_embed_writes_it_anew(case: str, fitted: AnnData, query: AnnData) -> None:
    fitted.uns["bleep"] = dict(fitted.uns["bleep"])
    REFUSED[case][0](fitted.uns["bleep"])
    bl.tl.embed(fitted)
    bl.tl.impute(query, fitted, k=5)


@pytest.mark.parametrize("part", ["spots", "genes", "values"])
def test_what_a_concat_left_incomplete_is_not_read(part: str, fitted: AnnData, query: AnnData) -> None:
    del fitted.uns["bleep"]["measured"][part]
    fitted.X = fitted.X * 2
    bl.tl.impute(query, fitted, k=5)


@pytest.mark.parametrize("entry", ["a text", 3, ["a", "list"]])
def test_what_the_user_keeps_under_the_name_is_left_alone(entry: Any, fitted: AnnData, query: AnnData) -> None:
    query.uns["bleep"] = entry
    bl.tl.embed(query, fitted)
    assert query.uns["bleep"] == entry
