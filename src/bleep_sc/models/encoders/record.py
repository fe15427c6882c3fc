from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

Channels = tuple[float, float, float]
"""A value each of red, green and blue, which go from 0 to 1."""


@dataclass(frozen=True)
class Source:
    """The library that a network's layers and pretrained weights come from."""

    build: Callable[["Encoder", int], "tuple[nn.Module, int]"]
    """From a network's record and the side of its crops to the network with random weights, without its classifier,
    and the width of its features."""
    pretrained: Callable[["Encoder"], "Mapping[str, Tensor]"]
    """From a network's record to its weights by name, fetched where they are not here yet."""


@dataclass(frozen=True)
class ByHand:
    """The code that describes crops without a network."""

    features: Callable[..., np.ndarray]
    """From crops, NumPy or dask, and `progress_bar` to float32 (n, width)."""
    feature_set: str
    """The version of the list of features: a stored model must never meet another one."""


@dataclass(frozen=True)
class Encoder:
    """The facts of an image encoder, which makes features of crops: uint8 (n, size, size, 3), RGB."""

    name: str
    """What `encoder=` takes, and what a config stores."""
    width: int | None
    """Number of its features; None where that is known only once it is built."""
    mean: Channels
    """What is taken off the channels of a crop before it is read."""
    std: Channels
    """What they are divided by then."""
    licence: str
    """Terms of its code and its weights, as far as their authors state them."""
    patch: int = 1
    """What the side of a crop must be a multiple of, in pixels; 1 where any will do or none is known of."""
    source: Source | None = None
    """Where a network comes from; None of features that are made by hand."""
    by_hand: ByHand | None = None
    """What makes the features, where no network does."""

    @property
    def frozen(self) -> bool:
        """Whether it stays as it is, being made by hand; networks are trained along by the methods that train."""
        return self.by_hand is not None
