"""Whatever the bytes, a model is refused by a ValueError or is the one that it was; sought by hypothesis."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import fuzz_model
import numpy as np
import pytest
import torch

import bleep_sc as bl
from bleep_sc.io._stored import parse_config
from bleep_sc.io.upgrade import FORMAT_VERSION, upgrade
from bleep_sc.models.nets.serialize import model_from_bytes, weights_to_bytes

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

pytestmark = pytest.mark.odd

QUICK = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
MOST_MIB = 128
NAMES = ("published", "hybrid", "regressor")


@pytest.fixture(scope="module")
def good() -> fuzz_model.Good:
    with bl.settings.override(progress_bar=False, device="cpu", verbosity="error"):
        return fuzz_model.Good()


@settings(QUICK, max_examples=1)
@given(st.text())
def any_text(_: str) -> None:
    """The first time in a clone hypothesis makes a table of all characters, which takes 200 MB."""


@pytest.fixture(scope="module", autouse=True)
def bounded(good: fuzz_model.Good) -> Iterator[None]:
    """All of this together takes little memory."""
    any_text()
    before = fuzz_model.peak_memory()
    yield
    assert fuzz_model.peak_memory() - before < MOST_MIB


def read(spec: Any, weights: bytes) -> torch.nn.Module | None:
    """A model, or None where it was refused as it should be."""
    try:
        return model_from_bytes(spec, weights, where="here")
    except ValueError as err:
        assert str(err).startswith("here")
        return None


@QUICK
@given(st.text(max_size=200) | JSON.map(json.dumps))
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^here"):
        parse_config(text, where="here")


@QUICK
@given(st.data())
def test_a_config_with_anything_anywhere(good: fuzz_model.Good, data: Any) -> None:
    """It is refused, or all that it holds is of the type that the readers count on, and can be written again."""
    config = json.loads(good.model(data.draw(st.sampled_from(NAMES)))["config"])
    part = config
    while True:
        key = data.draw(st.sampled_from(sorted(part)))
        if not (isinstance(part[key], dict) and part[key]) or data.draw(st.booleans()):
            break
        part = part[key]
    if data.draw(st.booleans()):
        del part[key]
    else:
        part[key] = data.draw(JSON)
    try:
        found = parse_config(json.dumps(config), where="here")
    except ValueError as err:
        assert str(err).startswith("here")
        return
    written = {name: value for name, value in config.items() if name != "format_version"}
    assert found == upgrade(written, FORMAT_VERSION)
    assert {name: found[name] for name in written if name != "image"} == {
        name: value for name, value in written.items() if name != "image"
    }
    json.dumps(found, allow_nan=False).encode()
    for name, kind in (("method", str), ("model", dict), ("image", dict), ("expression", dict), ("units", str)):
        assert isinstance(found[name], kind)


@QUICK
@given(st.binary(max_size=300))
def test_any_bytes_are_refused(good: fuzz_model.Good, weights: bytes) -> None:
    spec = json.loads(good.model("published")["config"])["model"]
    assert read(spec, weights) is None
    assert read(spec, len(weights).to_bytes(8, "little") + weights) is None


@QUICK
@given(st.data())
def test_bytes_changed_anywhere(good: fuzz_model.Good, data: Any) -> None:
    """What is taken holds exactly the values of the file: nothing is made up, nothing is lost."""
    name = data.draw(st.sampled_from(NAMES))
    spec, weights = json.loads(good.model(name)["config"])["model"], good.model(name)["model"].tobytes()
    places = st.integers(0, len(weights) - 1) | st.integers(0, 600)
    begin = data.draw(places)
    changed = (
        weights[:begin] + data.draw(st.binary(max_size=12)) + weights[min(begin, len(weights)) + data.draw(places) :]
    )
    if data.draw(st.booleans()):
        inserted = data.draw(st.binary(min_size=1, max_size=12))
        changed = weights[:begin] + inserted + weights[begin + len(inserted) :]
    model = read(spec, changed)
    if changed == weights:
        assert model is not None
    if model is not None:
        from safetensors.torch import load

        state = load(changed)
        assert list(state) and set(state) == set(model.state_dict())
        assert all(torch.equal(state[n], v) and bool(v.isfinite().all()) for n, v in model.state_dict().items())
        assert len(weights_to_bytes(model)) <= len(changed)


@QUICK
@given(st.data())
def test_a_description_with_anything_anywhere(good: fuzz_model.Good, data: Any) -> None:
    """A description that nobody has checked is refused, or means the same model."""
    name = data.draw(st.sampled_from(NAMES))
    spec, weights = json.loads(good.model(name)["config"])["model"], good.model(name)["model"].tobytes()
    changed = copy.deepcopy(spec)
    # repeated parts are bounded by the config's schema, before this is reached
    changed[data.draw(st.sampled_from([part for part in spec if part != "members"]))] = data.draw(JSON)
    model, same = read(changed, weights), read(spec, weights)
    assert same is not None
    if model is not None:
        assert {n: v.tolist() for n, v in model.state_dict().items()} == {
            n: v.tolist() for n, v in same.state_dict().items()
        }
        assert np.isfinite(sum(float(v.double().sum()) for v in model.state_dict().values()))
