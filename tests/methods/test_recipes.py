from typing import Any

import pytest

from bleep_sc.methods.recipes import BleepRecipe, HybridRecipe, recipe


@pytest.mark.parametrize(
    ("preset", "encoder", "kind"),
    [
        ("default", None, HybridRecipe),
        ("default", "color", HybridRecipe),
        ("default", len, HybridRecipe),
        ("default", "resnet18", BleepRecipe),
        ("paper", None, BleepRecipe),
        ("paper", "color", BleepRecipe),
    ],
)
def test_preset_and_encoder_choose_the_recipe(preset: Any, encoder: Any, kind: type) -> None:
    assert type(recipe("bleep", preset, {"encoder": encoder})) is kind


def test_a_network_is_trained_as_published_but_stopped_early() -> None:
    network = recipe("bleep", "default", {"encoder": "resnet18"})
    assert isinstance(network, BleepRecipe)
    assert (network.encoder, network.accumulate, network.patience) == ("resnet18", 1, 10)
