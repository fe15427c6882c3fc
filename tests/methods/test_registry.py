from typing import Any

import pytest

from bleep_sc.methods.bleep import BleepRecipe
from bleep_sc.methods.hybrid.method import HybridRecipe
from bleep_sc.methods.registry import choose


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
    assert type(choose("bleep", preset, {"encoder": encoder})[1]) is kind


def test_a_network_is_trained_as_published_but_stopped_early() -> None:
    _, network = choose("bleep", "default", {"encoder": "resnet18"})
    assert isinstance(network, BleepRecipe)
    assert (network.encoder, network.accumulate, network.patience) == ("resnet18", 1, 10)
