"""Image networks by name: torchvision's, and timm's where that extra is installed.

A name comes from a closed list, so a stored model can be rebuilt without importing a class that a file names, and
without a download: weights are fetched only when a user asks `fit` for pretrained ones.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

TORCHVISION = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "densenet121",
    "efficientnet_b0",
    "vit_b_16",
    "vit_b_32",
    "vit_l_32",
)
TIMM = "timm:"

# the one set that every listed network has; that of HEST-Bench's ResNet-50 too (timm's "tv_in1k")
_IMAGENET = "IMAGENET1K_V1"
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class ImageNetwork(nn.Module):
    """A network without its classifier, fed with uint8 crops.

    Crops (n, y, x, 3) become float images, normalised by ImageNet's statistics unless `learn` has taken others. Their
    memory order is already what PyTorch calls channels-last, on which convolutions are about twice as fast on a CPU.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, n_features: int) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.n_features = n_features
        self.register_buffer("mean", 255 * torch.tensor(_MEAN))
        self.register_buffer("std", 255 * torch.tensor(_STD))

    def learn(self, crops: Tensor) -> None:
        """Normalise by the mean and spread of each channel in these crops, as ST-Net does."""
        spread, mean = torch.std_mean(crops.double(), dim=(0, 1, 2), correction=0)
        self.mean, self.std = mean.float(), spread.clamp(min=1).float()

    def forward(self, crops: Tensor) -> Tensor:
        """uint8 (n, y, x, 3) to float (n, n_features)."""
        images = ((crops.float() - self.mean) / self.std).permute(0, 3, 1, 2)
        features: Tensor = self.network(images)
        return features


def check_encoder_name(name: str) -> None:
    """Refuse a name that is not on the list, before anything is built."""
    if name.startswith(TIMM):
        timm = _import_timm()
        if not timm.is_model(name.removeprefix(TIMM)):
            msg = f"`encoder={name!r}`: timm has no model of that name; `timm.list_models()` lists them."
            raise ValueError(msg)
    elif name not in TORCHVISION:
        msg = (
            f"`encoder` must be 'color', one of {', '.join(map(repr, TORCHVISION))}, a timm model as 'timm:<name>', "
            f"a torch module or a function of image tensors; found {name!r}."
        )
        raise ValueError(msg)


def build_network(name: str, *, image_size: int, weights: str | Path | None = None) -> ImageNetwork:
    """Build a named network.

    Parameters
    ----------
    name
        One of `TORCHVISION`, or ``"timm:<model>"``.
    image_size
        Side of the crops in pixels: vision transformers are built for one size.
    weights
        ``None`` for random ones (from torch's random state), ``"imagenet"``, or a file, ``.safetensors`` or a
        state dict that `torch.load` reads with ``weights_only=True``.
    """
    check_encoder_name(name)
    network, n_features = (_timm if name.startswith(TIMM) else _torchvision)(name, image_size)
    if weights == "imagenet":
        _load_state(network, _imagenet_state(name), source="the ImageNet weights")
    elif weights is not None:
        _load_state(network, _file_state(Path(weights)), source=f"`weights={str(weights)!r}`")
    return ImageNetwork(network, n_features)


def _torchvision(name: str, image_size: int) -> tuple[nn.Module, int]:
    import torchvision

    arguments: dict[str, Any] = {}
    patch = 1
    if name.startswith("vit"):
        arguments, patch = {"image_size": image_size}, int(name.rsplit("_", 1)[1])
    elif name.startswith("resnet"):
        # as timm's, which BLEEP trains: from random weights, each residual block begins as the identity
        arguments = {"zero_init_residual": True}
    if image_size % patch:
        msg = f"`encoder={name!r}` needs crops whose size is a multiple of {patch} pixels, found {image_size}."
        raise ValueError(msg)
    network = torchvision.models.get_model(name, weights=None, **arguments)
    # each family calls its classifier otherwise; the last Linear in it tells the width of the features
    attribute = next(a for a in ("fc", "classifier", "heads") if hasattr(network, a))
    head = getattr(network, attribute)
    n_features = next(m for m in reversed(list(head.modules())) if isinstance(m, nn.Linear)).in_features
    setattr(network, attribute, nn.Identity())
    return network, n_features


def _timm(name: str, image_size: int) -> tuple[nn.Module, int]:
    timm = _import_timm()
    model = name.removeprefix(TIMM)
    try:
        network = timm.create_model(model, pretrained=False, num_classes=0, img_size=image_size)
    except TypeError:  # convolutional networks take any size and no such argument
        network = timm.create_model(model, pretrained=False, num_classes=0)
    return network, network.num_features


def _import_timm() -> Any:
    try:
        import timm
    except ImportError as err:
        msg = 'encoders named "timm:..." need timm: `pip install "bleep-sc[encoders]"`.'
        raise ImportError(msg) from err
    return timm


def _imagenet_state(name: str) -> Mapping[str, Tensor]:
    import pickle  # nosec B403 - for the name of an error alone

    try:
        return _timm_state(name.removeprefix(TIMM)) if name.startswith(TIMM) else _torchvision_state(name)
    except (OSError, RuntimeError, pickle.UnpicklingError) as err:  # no network, a refused download, a damaged file
        reason = "more than tensors" if isinstance(err, pickle.UnpicklingError) else err  # its text advises to run it
        msg = (
            f"the ImageNet weights of {name!r} could not be loaded ({type(err).__name__}: {reason}). Choose one: "
            "`weights=None` trains from random weights; `weights='path/to/file.pth'` reads a file that you "
            "downloaded elsewhere; `encoder='color'` needs no weights at all and is quick."
        )
        raise RuntimeError(msg) from err


def _torchvision_state(name: str) -> Mapping[str, Tensor]:
    import torchvision

    weights = torchvision.models.get_model_weights(name)[_IMAGENET]
    # torchvision's builders check the hash too, but of it a file's name holds 8 digits, and then they unpickle the file
    state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True, map_location="cpu")
    return {_modern_name(key): tensor for key, tensor in state.items()}


def _timm_state(model: str) -> Mapping[str, Tensor]:
    timm = _import_timm()
    before = timm.models._builder._CHECK_HASH
    timm.models.set_pretrained_check_hash(True)  # of what is no Hugging Face revision; not checked by default
    try:
        state: Mapping[str, Tensor] = timm.create_model(model, pretrained=True, num_classes=0).state_dict()
    finally:
        timm.models.set_pretrained_check_hash(before)
    return state


def _file_state(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        msg = f"`weights={str(path)!r}`: there is no such file. Pass 'imagenet', None or the path of a file of weights."
        raise FileNotFoundError(msg)
    state = _tensors_of(path)
    for name in ("state_dict", "model"):  # checkpoints keep the weights beside other things
        if isinstance(state, Mapping) and isinstance(state.get(name), Mapping):
            state = state[name]
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        msg = f"`weights={str(path)!r}` must hold a state dict (names to tensors), found {type(state).__name__}."
        raise ValueError(msg)
    return {_modern_name(name.removeprefix("module.")): tensor for name, tensor in state.items()}


def _tensors_of(path: Path) -> Any:
    """What a file holds, read by readers that take tensors alone."""
    import pickle  # nosec B403 - for the name of an error alone

    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, KeyError, ValueError, OSError) as err:
        # PyTorch's own text advises to unpickle the file, which can run code
        msg = (
            f"`weights={str(path)!r}` is damaged or no file of plain tensors ({type(err).__name__}). Nothing but "
            "tensors is read, since a pickled file can run code; save it anew with "
            "`torch.save(model.state_dict(), path)` or as safetensors."
        )
        raise ValueError(msg) from err


def _load_state(network: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Load what the network has; only a classifier's tensors may be left over."""
    own = network.state_dict()
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    wrong = [name for name in own if name in state and state[name].shape != own[name].shape]
    left = [name for name in state if name not in own and not name.startswith(("fc.", "classifier.", "head"))]
    if missing or wrong or left:
        parts = {"missing": missing, "of another shape": wrong, "unknown": left}
        found = "; ".join(
            f"{len(names)} tensors {what}, such as {names[0]!r}" for what, names in parts.items() if names
        )
        msg = f"{source} do not fit the network: {found}."
        raise ValueError(msg)
    network.load_state_dict({name: state[name] for name in own if name in state}, strict=False)


def _modern_name(name: str) -> str:
    """DenseNet files of torchvision's first releases write ``norm.1`` for today's ``norm1``."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name)
