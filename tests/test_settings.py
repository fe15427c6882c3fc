"""Settings take what they know, refuse the rest, and come back as they were."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

import bleep_sc as bl

NAMES = ("device", "precision", "progress_bar", "memory", "threads", "verbosity")
NO_NUMBER = r"`settings\.memory` must be a finite number of at least 1, found"
REFUSED: list[tuple[str, Any, str]] = [
    *[("device", value, r"`settings\.device` must be 'auto' or a torch device") for value in ("", None, 3, ["cpu"])],
    *[
        ("precision", value, r"`settings\.precision` must be one of 'auto', '32', '16-mixed', 'bf16-mixed', found")
        for value in ("8", 32, None, ["32"], np.array(["32", "auto"]), pd.NA, {"32"})
    ],
    *[
        ("progress_bar", value, r"`settings\.progress_bar` must be True or False, found")
        for value in (1, "yes", None, np.array([True, False]))
    ],
    *[
        ("memory", value, NO_NUMBER)
        for value in (0, 0.99, -5, np.nan, np.inf, "256", None, True, [256], np.array([1, 2]))
    ],
    *[
        ("threads", value, r"`settings\.threads` must be an integer of at least 1, found")
        for value in (0, -1, 1.0, np.nan, "2", True, [2], np.array([1, 2]), pd.NA)
    ],
    *[
        ("verbosity", value, r"`settings\.verbosity` must be one of 'error', 'warning', 'info', 'debug', found")
        for value in ("loud", "INFO", 10, None, ["info"], np.array(["info", "debug"]))
    ],
]


def state() -> dict[str, Any]:
    return {name: getattr(bl.settings, name) for name in NAMES}


@pytest.mark.odd
@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_refused_and_as_before(number: int) -> None:
    name, value, message = REFUSED[number]
    before = state()
    with pytest.raises(ValueError, match=message):
        setattr(bl.settings, name, value)
    assert state() == before
    other = {"memory": 17.0} if name != "memory" else {"device": "cuda:3"}
    with pytest.raises(ValueError, match=message), bl.settings.override(**other, **{name: value}):
        pytest.fail("the block was entered")
    assert state() == before, "what was set before the refused one is back"


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("device", "cuda:1", "cuda:1"),
        ("precision", "bf16-mixed", "bf16-mixed"),
        ("progress_bar", True, True),
        ("memory", 1, 1.0),
        ("memory", np.float32(2.5), 2.5),
        ("memory", np.int64(64), 64.0),
        ("threads", 2, 2),
        ("threads", np.int64(3), 3),
        ("threads", None, None),
        ("verbosity", "debug", "debug"),
    ],
)
def test_taken_for_a_block_and_back_after_an_error(name: str, value: Any, kept: Any) -> None:
    before = state()
    with pytest.raises(ZeroDivisionError), bl.settings.override(**{name: value}):
        assert state() == before | {name: kept}
        assert f"{name}={kept!r}" in repr(bl.settings)
        raise ZeroDivisionError
    assert state() == before


@pytest.mark.odd
def test_a_misspelt_name_is_refused() -> None:
    before = state()
    with pytest.raises(AttributeError, match=r"`settings` has no 'progresbar'; there is 'device', .*'progress_bar'"):
        bl.settings.progresbar = False  # type: ignore[attr-defined]
    assert not hasattr(bl.settings, "progresbar")
    with (
        pytest.raises(ValueError, match=r"`settings\.override` must be one of 'device'.*found 'devize'"),
        bl.settings.override(memory=3, devize="cpu"),
    ):
        pytest.fail("the block was entered")
    assert state() == before
