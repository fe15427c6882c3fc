"""What tells how unlike a reference a spot looks may come from anywhere: one clear error refuses a damaged one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from anndata import AnnData

import bleep_sc as bl
from bleep_sc.io._bundle import names_to_bytes, pack
from bleep_sc.io._novelty import novelties_from_uns, novelties_to_bytes
from bleep_sc.models.search.novelty import Novelty

NAMES = [f"whole_{i}" for i in range(6)]


def learned(names: list[str] = NAMES) -> Novelty:
    features = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    return Novelty.of_reference(features, groups=np.arange(40) % 4, names=names)


def arrays() -> dict[str, np.ndarray]:
    novelty = learned()
    return {**vars(novelty.look), "held_out": novelty.held_out, "names": names_to_bytes(NAMES)}


@pytest.mark.parametrize("names", [NAMES, []])
def test_what_is_stored_is_read_again(names: list[str]) -> None:
    novelty = learned(names)
    (read,) = novelties_from_uns({"novelty": novelties_to_bytes([novelty])}, where="ref.uns['bleep']")
    assert read.names == tuple(names)
    assert np.array_equal(read.held_out, novelty.held_out)
    for name, values in vars(novelty.look).items():
        assert np.array_equal(getattr(read.look, name), values)
    query = np.random.default_rng(1).normal(size=(9, 6))
    assert np.array_equal(read.look.distances(query), novelty.look.distances(query))


def test_a_model_may_have_none() -> None:
    assert novelties_from_uns({"model": 1}, where="ref.uns['bleep']") == []


@pytest.mark.parametrize("n_encoders", [2, 3])
def test_those_of_several_encoders_are_read_again(n_encoders: int) -> None:
    """Each is as one that stands alone, in the order of the encoders."""
    rng = np.random.default_rng(0)
    novelties = [
        Novelty.of_reference(
            rng.normal(size=(40, 3 + e)).astype(np.float32),
            groups=np.arange(40) % 4,
            names=[f"f{i}" for i in range(3)][:0],
        )
        for e in range(n_encoders)
    ]
    read = novelties_from_uns({"novelty": novelties_to_bytes(novelties)}, where="ref.uns['bleep']")
    assert [len(one.look.center) for one in read] == [3 + e for e in range(n_encoders)]
    for one, other in zip(read, novelties, strict=True):
        assert novelties_to_bytes([one]).tobytes() == novelties_to_bytes([other]).tobytes()


def changed(**parts: Any) -> np.ndarray:
    return pack({**arrays(), **parts}, {})


def without(name: str) -> np.ndarray:
    return pack({part: values for part, values in arrays().items() if part != name}, {})


def at(name: str, value: float) -> np.ndarray:
    values = arrays()[name].copy()
    values.flat[1] = value
    return changed(**{name: values})


def several(ends: Any, *, record: dict[str, Any] | None = None, **more: Any) -> np.ndarray:
    """Of two encoders, with ends that may be wrong."""
    bundle = novelties_to_bytes([learned()])
    parts = {"bundles": np.concatenate([bundle, bundle]), "ends": np.array(ends, dtype=np.int64)}
    return pack(parts | more, record or {})


LENGTH = len(novelties_to_bytes([learned()]))
TOGETHER = "its parts do not go together"
REFUSED: dict[str, tuple[Any, str]] = {
    "a text": ("a", "must be bytes"),
    "a list": ([[1], [2, 3]], "must be bytes"),
    "numbers": (np.zeros(9), "must be bytes"),
    "nothing": (np.zeros(0, dtype=np.uint8), "damaged"),
    "truncated": (novelties_to_bytes([learned()])[:-7], "damaged"),
    "noise": (np.random.default_rng(0).integers(0, 256, size=400).astype(np.uint8), "damaged"),
    "no scale": (without("scale"), "`scale` must be float32"),
    "another part": (pack({**arrays(), "more": np.zeros(3)}, {}), "unknown array 'more'"),
    "float64": (changed(center=np.zeros(6)), "`center` must be float32"),
    "features that differ": (changed(middle=np.zeros(5, dtype=np.float32)), "damaged"),
    "flat axes": (changed(axes=np.zeros(6, dtype=np.float32)), "`axes` must be float32"),
    "NaN": (at("axes", np.nan), "`axes` holds NaN"),
    "infinity": (at("center", np.inf), "`center` holds NaN or infinite"),
    "a spread of NaN": (at("scale", np.nan), "`scale` holds NaN"),
    "a spread of 0": (at("scale", 0), "`scale` must be above 0"),
    "a spread below 0": (at("scale", -1), "`scale` must be above 0"),
    "a rest without spread": (at("rest", 0), "`rest` must be"),
    "a rest at infinity": (changed(rest=np.array([np.inf, 1], dtype=np.float32)), "`rest` must be"),
    "distances in disorder": (changed(held_out=np.array([2, 1], dtype=np.float32)), "`held_out` must hold distances"),
    "a distance below 0": (changed(held_out=np.array([-2, 1], dtype=np.float32)), "`held_out` must hold distances"),
    "no distances": (changed(held_out=np.zeros(0, dtype=np.float32)), "`held_out` must hold distances"),
    "a name too few": (changed(names=names_to_bytes(NAMES[1:])), "it names 5 of 6"),
    "names without an end": (changed(names=names_to_bytes(NAMES)[:-1]), "each ended by a zero"),
    "names that are no text": (changed(names=np.full(9, 255, dtype=np.uint8)), "each ended by a zero"),
    "an empty name": (changed(names=names_to_bytes(["", *NAMES[1:]])), "a name of a feature is none"),
    "a record": (pack(arrays(), {"a": 1}), "its record must be empty"),
    "several: no ends": (several([]), TOGETHER),
    "several: an end too early": (several([LENGTH, 2 * LENGTH - 1]), TOGETHER),
    "several: an end beyond": (several([LENGTH, 2 * LENGTH + 1]), TOGETHER),
    "several: an end at the start": (several([0, 2 * LENGTH]), TOGETHER),
    "several: an end below 0": (several([-5, 2 * LENGTH]), TOGETHER),
    "several: ends in disorder": (several([2 * LENGTH, LENGTH]), TOGETHER),
    "several: an end twice": (several([LENGTH, LENGTH, 2 * LENGTH]), TOGETHER),
    "several: a cut in a bundle": (several([LENGTH - 3, 2 * LENGTH]), "damaged"),
    "several: ends as numbers": (pack({"bundles": several([])[:9], "ends": np.ones(2)}, {}), "`ends` must be int64"),
    "several: bundles as numbers": (several([LENGTH], bundles=np.zeros(LENGTH)), "`bundles` must be uint8"),
    "several: a part more": (several([LENGTH, 2 * LENGTH], more=np.zeros(3)), "unknown array 'more'"),
    "several: a record": (several([LENGTH, 2 * LENGTH], record={"a": 1}), TOGETHER),
    "several: of one encoder's model": (several([LENGTH, 2 * LENGTH]), "is of 6 and 6 image features.* reads 164,"),
    "several, nested": (
        pack({"bundles": several([LENGTH, 2 * LENGTH]), "ends": np.array([len(several([LENGTH, 2 * LENGTH]))])}, {}),
        "`center` must be float32",
    ),
}


@pytest.mark.odd
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_damaged_is_refused(case: str, fitted: AnnData, query: AnnData, unchanged: Callable[..., None]) -> None:
    stored, message = REFUSED[case]
    fitted.uns["bleep"] = {**fitted.uns["bleep"], "novelty": stored}
    unchanged(fitted, query)
    with pytest.raises(ValueError, match=message) as caught:
        bl.tl.impute(query, fitted, k=5)
    assert "ref.uns['bleep']['novelty']" in str(caught.value)


@pytest.mark.odd
def test_one_of_other_features_is_refused(fitted: AnnData, query: AnnData, unchanged: Callable[..., None]) -> None:
    fitted.uns["bleep"] = {**fitted.uns["bleep"], "novelty": novelties_to_bytes([learned()])}
    unchanged(fitted, query)
    with pytest.raises(ValueError, match="is of 6 image features, and the model reads 164"):
        bl.tl.impute(query, fitted, k=5)


@pytest.mark.odd
def test_extreme_numbers_give_no_nan() -> None:
    largest, least = np.finfo(np.float32).max, np.float32(1e-45)
    extreme = {
        "center": np.full(6, -largest),
        "scale": np.full(6, least),
        "middle": np.full(6, largest),
        "axes": np.tile(np.float32([largest, -largest]), (6, 3)),
        "rest": np.array([largest, least], dtype=np.float32),
    }
    (read,) = novelties_from_uns({"novelty": changed(**extreme)}, where="x")
    p = read.p_values(read.look.distances(np.full((3, 6), 1e12, dtype=np.float32)))
    assert ((p > 0) & (p <= 1)).all()
