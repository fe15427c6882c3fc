from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

Channels = tuple[float, float, float]
"""Values for red, green and blue, as channels that go from 0 to 1."""


@dataclass(frozen=True)
class Source:
    """The library that a network's layers and pretrained weights come from."""

    build: Callable[["Encoder", int], "tuple[nn.Module, int]"]
    """Function that builds a network with random weights and without its classifier.

    It takes the network's record and the side of its crops. It returns the network and the width of its features."""
    pretrained: Callable[["Encoder"], "Mapping[str, Tensor]"]
    """Function that takes a network's record and returns its weights by name, fetched if they are not here yet."""


@dataclass(frozen=True)
class ByHand:
    """The code that describes crops without a network."""

    features: Callable[..., np.ndarray]
    """Function that takes crops, NumPy or dask, and `progress_bar`, and returns features, float32 (n, width)."""
    feature_set: str
    """Version of the list of features. A stored model must never read another one."""
    names: Callable[[], Sequence[str]] = list
    """Function that names the features; without one they have no names."""


@dataclass(frozen=True)
class Encoder:
    """The record of an image encoder, which turns crops, uint8 (n, size, size, 3) in RGB, into features."""

    name: str
    """Name that `encoder=` takes and that a config stores."""
    width: int | None
    """Number of features; None where that is known only once the encoder is built."""
    mean: Channels
    """Mean of each channel, which is subtracted from a crop."""
    std: Channels
    """Spread of each channel, which the crop is then divided by."""
    licence: str
    """Terms of the code and the weights, as far as their authors state them."""
    patch: int = 1
    """Number of pixels that the side of a crop must be a multiple of; 1 where no such number is known."""
    input_px: int = 224
    """Side in pixels that views of crops are resampled to where the network reads them frozen."""
    stages: tuple[int, ...] | None = None
    """Stages, counted from 0, whose pooled means are the features of a frozen network; None for its own output."""
    symmetries: int = 4
    """Number of turned and mirrored views of a crop that a frozen network's features are averaged over."""
    source: Source | None = None
    """Library that the network comes from; None where features are made by hand."""
    by_hand: ByHand | None = None
    """Code that makes the features by hand; None where a network makes them."""

    @property
    def frozen(self) -> bool:
        """Whether training leaves the encoder as it is. It does if the features are made by hand, not by a network."""
        return self.by_hand is not None
