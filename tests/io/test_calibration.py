"""What is stored beside a model is refused where it is damaged or lies, and gives nothing else away."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from anndata import AnnData

from bleep_sc.io import _calibration, _out_of_fold
from bleep_sc.io._bundle import Part, names_to_bytes, pack, unpack
from bleep_sc.io._calibration import Calibration, rounded_up

pytestmark = pytest.mark.odd


@pytest.fixture(scope="module")
def stored(calibrated_once: tuple[AnnData, AnnData]) -> np.ndarray:
    return calibrated_once[0].uns["bleep"]["calibration"]


def parts(stored: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    return unpack(stored, _calibration._PARTS, where="here")


@pytest.mark.slow
def test_a_round_trip_changes_nothing(stored: np.ndarray) -> None:
    calibration = Calibration.from_bytes(stored, where="here")
    assert np.array_equal(calibration.to_uns()["calibration"], stored)
    table = calibration.promise.coverage_table()
    assert len(table) == 3 * 4 * 3


def test_half_widths_are_rounded_up() -> None:
    values = np.abs(np.random.default_rng(0).normal(size=1000)) * 10.0 ** np.arange(-3, 5).repeat(125)
    assert (rounded_up(values).astype(np.float64) >= values).all()
    np.testing.assert_allclose(rounded_up(values[125:875]).astype(np.float64), values[125:875], rtol=2e-3)
    assert rounded_up(np.array([np.inf, 1e9, 0.0])).tolist() == [np.inf, np.inf, 0]


def array(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def damage(arrays: dict[str, Any], record: dict[str, Any]) -> None:
        arrays[name] = change(arrays[name].copy())

    return damage


def noted(name: str, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def damage(arrays: dict[str, Any], record: dict[str, Any]) -> None:
        record[name] = value

    return damage


def fill(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values.flat[0] = value
        return values

    return change


DAMAGES: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], None], str]] = {
    "NaN": (array("half_width", fill(np.nan)), r"`half_width` holds NaN"),
    "a negative width": (array("half_width", fill(-1)), r"`half_width` is damaged"),
    "a negative spread": (array("rate_sd", fill(-1)), r"`rate_sd` is damaged"),
    "fewer genes": (array("half_width", lambda v: v[:, :, :-1]), r"`rate_sd` must be float16 \(genes\)"),
    "fewer names": (
        array("genes", lambda v: names_to_bytes(["g0", "g1"])),
        r"`genes` is damaged",
    ),
    "a name twice": (array("genes", lambda v: names_to_bytes(["g0"] * 30)), r"`genes` is damaged"),
    "a name without end": (array("genes", lambda v: v[:-1]), r"names, each ended by a zero"),
    "no text": (array("genes", lambda v: np.full_like(v, 255)), r"names, each ended by a zero"),
    "another type": (array("half_width", lambda v: v.astype(np.float32)), r"`half_width` must be float16"),
    "a level of 1": (array("levels", fill(1)), r"`levels` is damaged"),
    "infinite level": (array("levels", fill(np.inf)), r"`levels` holds NaN or infinite"),
    "depths upside down": (array("depths", lambda v: v[::-1]), r"`depths` is damaged"),
    "negative numbers": (array("n_spots", fill(-1)), r"`n_spots` is damaged"),
    "another group": (noted("groups", ["A", "B"]), r"`n_spots` is damaged"),
    "one group": (noted("groups", ["A"]), r"`groups` of the record"),
    "groups that are numbers": (noted("groups", [1, 2, 3]), r"`groups` of the record"),
    "no total": (noted("target_sum", 0), r"`target_sum` of the record"),
    "a total in words": (noted("target_sum", "many"), r"`target_sum` of the record"),
    "no scope": (noted("scope", None), r"`scope` of the record"),
    "a predictor of lists": (noted("predictor", {"k": [1]}), r"`predictor` of the record"),
    "a table of words": (noted("coverage", [["A"]]), r"`coverage` of the record"),
    "a seed below 0": (noted("seed", -1), r"`seed` of the record"),
    "an answer in words": (noted("cross_fit", "yes"), r"`cross_fit` of the record"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damaged_calibrations_are_refused(case: str, stored: np.ndarray) -> None:
    damage, message = DAMAGES[case]
    arrays, record = parts(stored)
    damage(arrays, record)
    with pytest.raises(ValueError, match=message):
        Calibration.from_bytes(pack(arrays, record), where="here")


@pytest.mark.parametrize("case", ["cut", "list", "text", "floats", "nothing", "unknown array", "record of a list"])
def test_what_is_no_bundle(case: str, stored: np.ndarray) -> None:
    arrays, record = parts(stored)
    other: Any = {
        "cut": stored[:-3],
        "list": [[1], [2, 3]],
        "text": "bytes",
        "floats": stored.astype(float),
        "nothing": np.empty(0, dtype=np.uint8),
        "unknown array": pack({**arrays, "code": np.ones(2, dtype=np.float32)}, record),
        "record of a list": pack(arrays, [1]),  # type: ignore[arg-type]
    }[case]
    with pytest.raises(ValueError, match=r"here"):
        Calibration.from_bytes(other, where="here")


@pytest.mark.parametrize("seed", range(200))
def test_any_changed_byte_is_refused_or_harmless(seed: int, stored: np.ndarray) -> None:
    """Nothing but a ValueError, and whatever is read can be used."""
    rng = np.random.default_rng(seed)
    damaged = stored.copy()
    places = rng.integers(0, 1500 if seed % 2 else len(stored), size=rng.integers(1, 4))
    damaged[places] = rng.integers(0, 256, size=len(places))
    try:
        calibration = Calibration.from_bytes(damaged, where="here")
    except ValueError as err:
        assert "here" in str(err)
    else:
        assert (calibration.half_width >= 0).all()
        assert len(calibration.genes) == calibration.half_width.shape[2]


def test_decoders_are_checked(calibrated_once: tuple[AnnData, AnnData]) -> None:
    entry = calibrated_once[0].uns["bleep"]
    decoders = _out_of_fold.from_uns(entry, where="here")
    assert decoders is not None
    assert decoders.width == 20
    assert _out_of_fold.from_uns({}, where="here") is None
    arrays, record = unpack(entry["out_of_fold"], _out_of_fold._PARTS, where="here")
    for name, change in (
        ("loadings", lambda v: v[:, :, :-1]),
        ("loadings", lambda v: v[:, :0]),
        ("mean", fill(np.nan)),
        ("mean", lambda v: v[:-1]),
        ("minimum", fill(1)),
        ("genes", lambda v: names_to_bytes(["g0"])),
    ):
        damaged = {**arrays, name: change(arrays[name].copy())}
        with pytest.raises(ValueError, match=r"here\['out_of_fold'\]"):
            _out_of_fold.from_uns({"out_of_fold": pack(damaged, record)}, where="here")
    with pytest.raises(ValueError, match=r"do not go together"):
        _out_of_fold.from_uns({"out_of_fold": pack(arrays, record | {"trained_on": "all"})}, where="here")
    with pytest.raises(ValueError, match=r"do not go together"):
        _out_of_fold.from_uns({"out_of_fold": pack(arrays, record | {"patients": {"A1": 3}})}, where="here")


def test_folds_of_unlike_width_are_kept() -> None:
    """A small fold has fewer components."""
    from bleep_sc.methods.hybrid.components import Decoder
    from bleep_sc.methods.task import OutOfFold

    rng = np.random.default_rng(0)
    decoders = [Decoder(rng.normal(size=4), rng.normal(size=(width, 4)), -np.inf) for width in (3, 2)]
    scores = rng.normal(size=(2, 3)).astype(np.float32)
    scores[1, 2] = 0
    kept = OutOfFold(scores, np.array([0, 1]), decoders, None)
    read = _out_of_fold.from_uns({"out_of_fold": _out_of_fold.to_uns(kept, np.array(list("abcd")), {})}, where="here")
    assert read is not None
    expected = np.stack([d.decode(scores[[i], : len(d.loadings)], np.arange(4))[0] for i, d in enumerate(decoders)])
    np.testing.assert_allclose(read.decode(scores, np.array([0, 1]), np.arange(4)), expected, rtol=1e-5)


def test_dimensions_of_a_name_are_equal() -> None:
    bundle = pack({"a": np.ones((2, 3), dtype=np.float32)}, {})
    assert unpack(bundle, {"a": Part("float32", ("x", "y"))}, where="here")[0]["a"].shape == (2, 3)
    for shape in (("x", "x"), (2,), (2, 4)):
        with pytest.raises(ValueError, match=r"`a` must be float32"):
            unpack(bundle, {"a": Part("float32", shape)}, where="here")


def test_the_promise_of_one_patient_is_none(stored: np.ndarray) -> None:
    promise = Calibration.from_bytes(stored, where="here").promise
    assert replace(promise, scope="within-patient").guaranteed(0.9) is None
    assert replace(promise, scope="patients unknown").in_words == "on 3 sections of unknown patients"


@pytest.mark.parametrize(
    ("scope", "phrase"),
    [
        ("across patients", "across 4 patients"),
        ("within-patient", "on 4 sections of one patient"),
        ("patients unknown", "on 4 sections of unknown patients"),
        ("of another version", "on 4 sections of unknown patients"),
    ],
)
def test_a_scope_is_a_phrase(scope: str, phrase: str) -> None:
    """It goes on after "Calibrated", "was made" and "were found"."""
    assert _calibration.scope_in_words(scope, 4) == phrase


def test_every_scope_has_a_phrase_of_its_own() -> None:
    labels = get_args(_calibration.Scope)
    assert set(_calibration._PHRASES) == set(labels)
    assert len({_calibration.scope_in_words(label, 2) for label in labels}) == len(labels)
