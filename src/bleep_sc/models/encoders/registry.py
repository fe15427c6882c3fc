"""The list of image encoders that have a name.

The list is closed, so that a stored model can be rebuilt without importing a class that a file names. Neither torch nor
timm is imported before an encoder is built.
"""

from collections.abc import Mapping
from typing import Any

from bleep_sc.models.encoders.color import FEATURE_SET, color_features, feature_names
from bleep_sc.models.encoders.of_lite import lite_encoder
from bleep_sc.models.encoders.of_timm import PREFIX, has_model, timm_encoder
from bleep_sc.models.encoders.of_torchvision import torchvision_encoder
from bleep_sc.models.encoders.record import ByHand, Encoder

COLOR = "color"
"""Name of the encoder that makes colour and texture features by hand."""

_COLOR = ByHand(color_features, FEATURE_SET, feature_names)

ENCODERS: Mapping[str, Encoder] = {
    encoder.name: encoder
    for encoder in (
        Encoder(COLOR, 164, (0, 0, 0), (1, 1, 1), "BSD-3-Clause", by_hand=_COLOR),
        torchvision_encoder("resnet18", 512),
        torchvision_encoder("resnet34", 512),
        torchvision_encoder("resnet50", 2048),
        torchvision_encoder("resnet101", 2048),
        torchvision_encoder("resnet152", 2048),
        torchvision_encoder("densenet121", 1024),
        torchvision_encoder("efficientnet_b0", 1280),
        torchvision_encoder("vit_b_16", 768, patch=16),
        torchvision_encoder("vit_b_32", 768, patch=32),
        torchvision_encoder("vit_l_32", 1024, patch=32),
        lite_encoder(),
    )
}
"""All encoders by name, but for those of timm, whose names only timm knows."""
NETWORKS = tuple(name for name, encoder in ENCODERS.items() if not encoder.frozen)


def names_network(encoder: Any) -> bool:
    """Tell whether a user's `encoder` names a network, known or not: any text that names nothing made by hand does."""
    return isinstance(encoder, str) and (encoder not in ENCODERS or not ENCODERS[encoder].frozen)


def made_by_hand(name: str) -> ByHand | None:
    """Return the code behind the name of an encoder made by hand; None for any other name."""
    return ENCODERS[name].by_hand if name in ENCODERS else None


def encoder_named(name: str) -> Encoder:
    """Return the record of an encoder.

    Raises
    ------
    ValueError
        No encoder has that name.
    ImportError
        The encoder is one of timm, which is not installed.
    """
    if name in ENCODERS:
        return ENCODERS[name]
    check_encoder_name(name)
    return timm_encoder(name)


def check_encoder_name(name: str) -> None:
    """Refuse a name that no network has, before anything is built."""
    if name.startswith(PREFIX):
        if not has_model(name):
            msg = f"`encoder={name!r}`: timm has no model of that name; `timm.list_models()` lists them."
            raise ValueError(msg)
    elif name not in NETWORKS:
        msg = (
            f"`encoder` must be 'color', one of {', '.join(map(repr, NETWORKS))}, a timm model as 'timm:<name>', "
            f"a torch module or a function of image tensors; found {name!r}."
        )
        raise ValueError(msg)
