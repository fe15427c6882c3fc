"""The list of encoders: each one's facts against what its library says of it."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import torchvision

from bleep_sc.models.encoders import of_timm
from bleep_sc.models.encoders.color import FEATURE_SET, feature_names
from bleep_sc.models.encoders.networks import build_network
from bleep_sc.models.encoders.of_lite import LITE0
from bleep_sc.models.encoders.of_torchvision import WEIGHTS
from bleep_sc.models.encoders.registry import COLOR, ENCODERS, NETWORKS, encoder_named, names_network


@pytest.mark.slow
def test_the_list_is_known_without_torch_or_timm() -> None:
    script = (
        "import sys, bleep_sc\nfrom bleep_sc.models.encoders.registry import ENCODERS, encoder_named\n"
        "encoder_named('resnet50')\n"
        "print([name for name in ('torch', 'torchvision', 'timm', 'scipy.ndimage') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != LITE0])
def test_normalisation_and_licence_are_torchvisions(name: str) -> None:
    encoder = encoder_named(name)
    preset = torchvision.models.get_model_weights(name)[WEIGHTS].transforms()
    assert (list(encoder.mean), list(encoder.std)) == (preset.mean, preset.std)
    assert encoder.licence.startswith("code BSD-3-Clause; weights: no licence stated")
    assert not encoder.frozen


@pytest.mark.parametrize("name", NETWORKS)
def test_patches_are_those_of_the_network(name: str) -> None:
    with torch.device("meta"):
        network = build_network(name, image_size=64).network
    assert encoder_named(name).patch == getattr(network, "patch_size", 1)


def test_color_is_made_by_hand() -> None:
    color = encoder_named(COLOR)
    assert color.frozen
    assert color.width == len(feature_names())
    assert color.source is None
    assert color.by_hand is not None
    assert color.by_hand.feature_set == FEATURE_SET


@pytest.mark.parametrize(
    ("name", "mean"),
    [
        ("timm:vit_tiny_patch16_224", (0.5, 0.5, 0.5)),
        ("timm:resnet10t", (0.485, 0.456, 0.406)),
        ("timm:vit_base_patch32_clip_224.openai", (0.48145466, 0.4578275, 0.40821073)),
        ("timm:vit_base_patch32_clip_224", (0.48145466, 0.4578275, 0.40821073)),
    ],
)
def test_timm_says_how_its_networks_were_trained(name: str, mean: tuple[float, ...]) -> None:
    encoder = encoder_named(name)
    assert (encoder.name, encoder.mean) == (name, mean)
    assert (encoder.width, encoder.patch, encoder.frozen) == (None, 1, False)


def test_the_licence_is_that_of_the_weights() -> None:
    assert encoder_named("timm:resnet10t").licence == "apache-2.0"
    assert encoder_named("timm:vit_base_patch16_224.mae").licence == "cc-by-nc-4.0"


def test_timm_networks_without_weights_are_fed_as_for_imagenet(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = SimpleNamespace(is_model=lambda name: True, get_pretrained_cfg=lambda name: None)
    monkeypatch.setattr(of_timm, "_timm", lambda: nothing)
    encoder = encoder_named("timm:own")
    resnet = ENCODERS["resnet18"]
    assert (encoder.mean, encoder.std, encoder.licence) == (resnet.mean, resnet.std, "unknown")


def test_what_a_user_passes_names_a_network_or_not() -> None:
    assert [each for each in ("resnet18", "timm:resnet10t", "no such", COLOR, None, len) if names_network(each)] == [
        *("resnet18", "timm:resnet10t", "no such")
    ]


def test_unknown_names_have_no_record() -> None:
    for name in ("resnet19", "timm:no_such"):
        with pytest.raises(ValueError, match="encoder"):
            encoder_named(name)
