"""Make records of the networks of torchvision, with the weights of their first release."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bleep_sc.models.encoders.record import Channels, Encoder, Source

if TYPE_CHECKING:
    from torch import Tensor, nn

IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)
WEIGHTS = "IMAGENET1K_V1"
"""Name of the one set of weights that every listed network has, HEST-Bench's ResNet-50 too (timm's ``tv_in1k``)."""
# as torchvision's README has it
_LICENCE = "code BSD-3-Clause; weights: no licence stated, terms of ImageNet, which they were trained on, may apply"


def torchvision_encoder(name: str, width: int, *, patch: int = 1) -> Encoder:
    """Make the record of a network. A network with patches is a vision transformer."""
    return Encoder(name, width, IMAGENET_MEAN, IMAGENET_STD, _LICENCE, patch=patch, source=_SOURCE)


def _build(encoder: Encoder, image_size: int) -> "tuple[nn.Module, int]":
    import torchvision
    from torch import nn

    assert encoder.width is not None  # noqa: S101 - it is in the list
    arguments: dict[str, Any] = {}
    if encoder.patch > 1:  # it is built for one size
        arguments = {"image_size": image_size}
    elif encoder.name.startswith("resnet"):
        # as timm's, which BLEEP trains: from random weights, each residual block begins as the identity
        arguments = {"zero_init_residual": True}
    network = torchvision.models.get_model(encoder.name, weights=None, **arguments)
    classifier = next(a for a in ("fc", "classifier", "heads") if hasattr(network, a))  # each family has its own word
    setattr(network, classifier, nn.Identity())
    return network, encoder.width


def _pretrained(encoder: Encoder) -> "Mapping[str, Tensor]":
    import torchvision

    weights = torchvision.models.get_model_weights(encoder.name)[WEIGHTS]
    # torchvision's builders check the hash too, but of it a file's name holds 8 digits, and then they unpickle the file
    state: Mapping[str, Tensor] = weights.get_state_dict(
        progress=False, check_hash=True, weights_only=True, map_location="cpu"
    )
    return state


_SOURCE = Source(_build, _pretrained)
