from dataclasses import replace
from typing import Any

import pytest

from bleep_sc.methods.bleep import BleepRecipe
from bleep_sc.methods.hybrid.method import FusedRecipe, HybridRecipe
from bleep_sc.methods.registry import choose


@pytest.mark.parametrize(
    ("preset", "encoder", "kind"),
    [
        ("default", None, HybridRecipe),
        ("default", "color", HybridRecipe),
        ("default", len, HybridRecipe),
        ("default", "resnet18", HybridRecipe),
        ("default", ("color", "resnet18"), HybridRecipe),
        ("best", None, FusedRecipe),
        ("best", ("color", "resnet18"), FusedRecipe),
        ("paper", None, BleepRecipe),
        ("paper", "color", BleepRecipe),
        ("paper", "resnet18", BleepRecipe),
    ],
)
def test_preset_and_encoder_choose_the_recipe(preset: Any, encoder: Any, kind: type) -> None:
    assert type(choose("bleep", preset, {"encoder": encoder})[1]) is kind


def test_what_naming_a_network_meant_before_can_be_asked_for() -> None:
    _, network = choose("bleep", "paper", {"encoder": "resnet18", "accumulate": 1, "patience": 10})
    assert isinstance(network, BleepRecipe)
    assert (network.encoder, network.accumulate, network.patience) == ("resnet18", 1, 10)


def test_the_presets_of_bleeps_recipe_differ_by_their_encoders_alone() -> None:
    default, best = (choose("bleep", preset, {})[1] for preset in ("default", "best"))
    assert isinstance(default, HybridRecipe)
    assert default.encoder == "color"
    assert vars(best) == vars(replace(default, encoder=("color", "efficientnet_lite0")))


def test_presets_that_a_method_lacks_are_refused() -> None:
    for preset in ("best", "paper"):
        with pytest.raises(
            ValueError, match=rf"`preset='{preset}'` is of 'bleep'.*`method='knn'` has none. Leave it out"
        ):
            choose("knn", preset, {})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`preset` must be one of 'default', 'best', 'paper', found 'better'"):
        choose("bleep", "better", {})  # type: ignore[arg-type]
