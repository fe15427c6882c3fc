"""Make records of the networks of timm, under the names that timm gives them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bleep_sc.models.encoders.of_torchvision import IMAGENET_MEAN, IMAGENET_STD
from bleep_sc.models.encoders.record import Encoder, Source

if TYPE_CHECKING:
    from torch import Tensor, nn

PREFIX = "timm:"
"""Prefix of the name of a network: timm's own name follows it."""


def has_model(name: str) -> bool:
    """Tell whether timm knows a network."""
    return bool(_timm().is_model(name.removeprefix(PREFIX)))


def timm_encoder(name: str) -> Encoder:
    """Make the record of a network from what timm knows of its pretrained weights. Nothing is built for it.

    Where timm has no such weights, channels are normalised as for ImageNet.
    """
    facts = _timm().get_pretrained_cfg(name.removeprefix(PREFIX))
    if facts is None:
        return Encoder(name, None, IMAGENET_MEAN, IMAGENET_STD, "unknown", source=_SOURCE)
    licence = facts.license or "unknown"
    side = min(facts.input_size[1:])
    return Encoder(name, None, tuple(facts.mean), tuple(facts.std), licence, input_px=side, source=_SOURCE)


def _build(encoder: Encoder, image_size: int) -> "tuple[nn.Module, int]":
    timm, model = _timm(), encoder.name.removeprefix(PREFIX)
    try:
        network = timm.create_model(model, pretrained=False, num_classes=0, img_size=image_size)
    except TypeError:  # convolutional networks take any size and no such argument
        network = timm.create_model(model, pretrained=False, num_classes=0)
    return network, network.num_features


def _pretrained(encoder: Encoder) -> "Mapping[str, Tensor]":
    timm = _timm()
    before = timm.models._builder._CHECK_HASH
    timm.models.set_pretrained_check_hash(True)  # of what is no Hugging Face revision; not checked by default
    try:
        model = encoder.name.removeprefix(PREFIX)
        state: Mapping[str, Tensor] = timm.create_model(model, pretrained=True, num_classes=0).state_dict()
    finally:
        timm.models.set_pretrained_check_hash(before)
    return state


def _timm() -> Any:
    try:
        import timm
    except ImportError as err:
        msg = 'encoders named "timm:..." need timm: `pip install "bleep-sc[encoders]"`.'
        raise ImportError(msg) from err
    return timm


_SOURCE = Source(_build, _pretrained)
