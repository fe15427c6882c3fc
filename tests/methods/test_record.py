"""Every method's record is whole, and agrees with the model and the configs of its method."""

import json
from typing import Any, get_args

import pytest
from anndata import AnnData

import bleep_sc as bl
from bleep_sc.methods.inputs import KINDS as INPUTS
from bleep_sc.methods.names import MethodName, Mode, PresetName
from bleep_sc.methods.recipe import values_of
from bleep_sc.methods.record import Method
from bleep_sc.methods.registry import all_methods, choose, method_of_stored, methods_named, settable
from bleep_sc.models.nets.kinds import KINDS

METHODS = all_methods()
IDS = [f"{method.name}, {' or '.join(method.kinds)}" for method in METHODS]
of_each = pytest.mark.parametrize("method", METHODS, ids=IDS)


def test_every_name_has_its_methods_and_a_stored_model_tells_them_apart() -> None:
    for name in get_args(MethodName):
        assert {method.name for method in methods_named(name)} == {name}
        assert any("default" in method.presets for method in methods_named(name))
    assert len(set(IDS)) == len(METHODS)
    for method in METHODS:
        assert method.kinds
        assert all(method_of_stored(method.name, kind) is method for kind in method.kinds)
    assert method_of_stored("no such method", "regressor") is None
    assert method_of_stored("ridge", "bleep") is None


@of_each
def test_the_record_is_whole(method: Method[Any]) -> None:
    assert set(method.kinds) <= set(KINDS)
    assert set(method.presets) <= set(get_args(PresetName))
    assert method.presets or method.kinds == ("slim",), "what `fit` can not choose is made of a fitted model"
    assert set(method.modes) <= set(get_args(Mode))
    assert method.retrieves == ("retrieval" in method.modes)
    assert set(method.required) <= set(method.own_config)
    assert not (method.held_out.spots and method.held_out.folds)
    for recipe in method.presets.values():
        values = values_of(recipe)
        assert set(values) <= settable()
        assert method.by_epochs == ("max_epochs" in values), "only what trains by epochs can be resumed"
        needs = method.needs(values)
        assert set(needs.source.kinds) <= set(INPUTS.values())
        assert needs.encoder == values.get("encoder")
        assert needs.source == method.needs({}).source, "what a config lacks must not change what may be read"


@of_each
def test_its_usual_way_to_predict_is_one_that_it_has(method: Method[Any]) -> None:
    assert method.mode(None) == method.modes[0]
    for mode in get_args(Mode):
        if mode in method.modes:
            assert method.mode(mode) == mode
        else:
            with pytest.raises(ValueError, match=f"`predict='{mode}'`"):
                method.mode(mode)


def test_the_first_method_of_a_name_that_has_the_preset_is_chosen() -> None:
    """Whatever the encoder: recipe and encoder are chosen apart."""
    for encoder in (None, "color", "resnet18", len, ("color", "resnet18")):
        assert choose("bleep", "default", {"encoder": encoder})[0].kinds == ("hybrid", "fused")
        if encoder is None or isinstance(encoder, tuple):
            assert choose("bleep", "best", {"encoder": encoder})[0].kinds == ("hybrid", "fused")
        else:
            with pytest.raises(ValueError, match=r"`preset='best'` fuses several encoders"):
                choose("bleep", "best", {"encoder": encoder})
        assert choose("bleep", "paper", {"encoder": encoder})[0].kinds == ("bleep",)


@pytest.mark.parametrize("method", [m for m in METHODS if m.own_config and m.presets], ids=lambda m: m.kinds[0])
def test_what_fit_stores_of_a_method_is_what_its_record_allows(method: Method[Any], ref: AnnData) -> None:
    quick = {
        "hybrid": {"max_epochs": 1, "members": 1},
        "bleep": {"preset": "paper", "encoder": "color", "max_epochs": 1},
        "histogene": {"dim": 64, "depth": 1, "max_epochs": 1},
    }
    bl.tl.fit(ref, method=method.name, **quick.get(method.kinds[0], {}))  # type: ignore[arg-type]
    config = json.loads(ref.uns["bleep"]["config"])
    common = {"format_version", "method", "preset", "params", "model", "image", "expression", "library_key", "units"}
    own = set(config) - common - {"patient_key", "versions", "sha256"}
    assert own <= set(method.own_config)
    assert set(method.required) <= own
