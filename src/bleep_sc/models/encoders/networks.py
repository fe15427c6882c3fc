"""Build image networks by name. Weights are fetched only where a user asks `fit` for pretrained ones."""

from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn

from bleep_sc.models.encoders.record import Channels
from bleep_sc.models.encoders.registry import check_encoder_name, encoder_named
from bleep_sc.models.encoders.weights import file_state, imagenet_state, load_state


class ImageNetwork(nn.Module):
    """A network without its classifier, fed with uint8 crops.

    Crops (n, y, x, 3) become float images. They are normalised by the statistics that the network was made for, unless
    `learn` has taken others. Their memory order is already what PyTorch calls channels-last, in which convolutions are
    about twice as fast on a CPU.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, n_features: int, *, mean: Channels, std: Channels) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.n_features = n_features
        self.register_buffer("mean", 255 * torch.tensor(mean))
        self.register_buffer("std", 255 * torch.tensor(std))

    def learn(self, crops: Tensor) -> None:
        """Take mean and spread of each channel from these crops to normalise by, as ST-Net does."""
        spread, mean = torch.std_mean(crops.double(), dim=(0, 1, 2), correction=0)
        self.mean, self.std = mean.float(), spread.clamp(min=1).float()

    def forward(self, crops: Tensor) -> Tensor:
        """Turn crops uint8 (n, y, x, 3) into features, float (n, n_features)."""
        return self.read(self.normalized(crops))

    def normalized(self, crops: Tensor) -> Tensor:
        """Normalise crops; float32 of the same shape."""
        return (crops.float() - self.mean).div_(self.std)

    def read(self, images: Tensor) -> Tensor:
        """Turn normalised images (n, y, x, 3) into features."""
        features: Tensor = self.network(images.permute(0, 3, 1, 2))
        return features


def build_network(name: str, *, image_size: int, weights: str | Path | None = None) -> ImageNetwork:
    """Build a named network.

    Parameters
    ----------
    name
        One of `NETWORKS`, or ``"timm:<model>"``.
    image_size
        Side of the crops in pixels. Vision transformers are built for one size.
    weights
        ``None`` for random ones from torch's random state, ``"imagenet"``, or a file. A file is ``.safetensors`` or a
        state dict that `torch.load` reads with ``weights_only=True``.
    """
    check_encoder_name(name)
    if not isinstance(weights, str | PathLike | None):
        msg = f"`weights` must be 'imagenet', None or the path of a file of weights, found {weights!r}."
        raise TypeError(msg)
    encoder = encoder_named(name)
    assert encoder.source is not None  # noqa: S101 - the check has seen to it
    if image_size % encoder.patch:
        msg = f"`encoder={name!r}` needs crops whose size is a multiple of {encoder.patch} pixels, found {image_size}."
        raise ValueError(msg)
    network, n_features = encoder.source.build(encoder, image_size)
    if weights == "imagenet":
        load_state(network, imagenet_state(encoder), source="the ImageNet weights")
    elif weights is not None:
        load_state(network, file_state(Path(weights)), source=f"`weights={str(weights)!r}`")
    return ImageNetwork(network, n_features, mean=encoder.mean, std=encoder.std)
