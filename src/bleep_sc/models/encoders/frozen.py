"""Read crops with a network that stays as it is: centre, resampling, symmetries, pooled stages."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bleep_sc.models.encoders.networks import ImageNetwork, build_network
from bleep_sc.models.encoders.record import Encoder
from bleep_sc.models.encoders.registry import encoder_named
from bleep_sc.models.encoders.stages import PooledStages, stages_of

_AT_A_TIME = 16
"""Crops that a CPU reads together. Maps of more crops are fetched from the system again for every layer, which takes as
long again as the layers do."""


@dataclass(frozen=True)
class Reading:
    """How a frozen network reads a crop."""

    view_px: int
    """Side of the crop's centre that is read, in the crop's pixels."""
    input_px: int
    """Side that this is resampled to, in pixels."""
    stages: tuple[int, ...] | None
    """Stages, counted from 0, whose pooled means are the features; None for the network's own output."""
    symmetries: int
    """Number of views whose features are averaged: 1, 4 (all quarter turns) or 8 (their mirror images too)."""

    def to_json(self) -> dict[str, Any]:
        """Turn it into plain types."""
        return {**asdict(self), "stages": None if self.stages is None else list(self.stages)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Reading":
        """Make what checked plain types describe."""
        stages = values["stages"]
        return cls(**{**values, "stages": None if stages is None else tuple(stages)})


def reading_of(encoder: Encoder, *, view_px: int) -> Reading:
    """Return how a network reads crops by default, which its record says, of a view that the caller chooses."""
    return Reading(view_px, encoder.input_px, encoder.stages, encoder.symmetries)


class FrozenEncoder(nn.Module):
    """A network that turns crops into features and never learns: in evaluation mode for good, without gradients."""

    def __init__(self, network: ImageNetwork, reading: Reading) -> None:
        super().__init__()
        self.reading = reading
        self.network = network
        self.n_features = network.n_features
        self.requires_grad_(False).train(False)

    def train(self, mode: bool = True) -> "FrozenEncoder":  # noqa: FBT001, FBT002 - as torch has it
        """Stay in evaluation mode, also where a model that this is part of is trained."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, crops: Tensor) -> Tensor:
        """Turn crops, uint8 (n, y, x, 3), into features, float32 (n, n_features)."""
        step = _AT_A_TIME if crops.device.type == "cpu" else max(len(crops), 1)
        return torch.cat([self._read(part) for part in crops.split(step)])

    def _read(self, crops: Tensor) -> Tensor:
        # before they are turned: once, not for every view
        images = self.network.normalized(_resampled(centre(crops, self.reading.view_px), self.reading.input_px))
        total = torch.zeros(len(crops), self.n_features, device=crops.device)
        for view in _symmetries(images, self.reading.symmetries):
            total += self.network.read(view).float()
        return total / self.reading.symmetries


def build_frozen(name: str, reading: Reading, *, weights: str | Path | None = None) -> FrozenEncoder:
    """Build a named network for frozen reading. Only the layers up to the last stage that is read are kept.

    Parameters
    ----------
    name
        One of `NETWORKS`, or ``"timm:<model>"``.
    reading
        How crops are read; `reading_of` has the network's own way.
    weights
        ``None`` for random ones from torch's random state, ``"imagenet"``, or a file, as for `build_network`. A model
        that was stored is built with ``None``, then takes its state dict.

    Raises
    ------
    ValueError
        The network has no such stages, or cannot read images of that size.
    """
    network = build_network(name, image_size=reading.input_px, weights=weights)
    if reading.stages is not None:
        network = _cut(network, name, reading.stages)
    return FrozenEncoder(network, reading)


def _cut(network: ImageNetwork, name: str, kept: tuple[int, ...]) -> ImageNetwork:
    stages = stages_of(network.network)
    if not kept or not set(kept) <= set(range(len(stages))):
        known = f"0 to {len(stages) - 1}" if stages else "none that are known here: pass `stages=None`, its own output"
        msg = f"`stages={kept}`: the stages of {name!r} are {known}."
        raise ValueError(msg)
    pooled = PooledStages(stages, kept).eval()
    with torch.no_grad():  # how wide they are, only running it tells
        width = pooled(torch.zeros(1, 3, 64, 64)).shape[1]
    record = encoder_named(name)
    return ImageNetwork(pooled, width, mean=record.mean, std=record.std)


def weights_digest(module: nn.Module) -> str:
    """Return the SHA-256, in hexadecimal digits, of a module's tensors: their names, types, shapes and values.

    Neither the memory order of the tensors nor the device that holds them makes a difference.
    """
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def centre(crops: Tensor, side: int) -> Tensor:
    """Return the centre of crops (n, y, x, 3). Where it is no whole pixel, it lies half a pixel to the upper left."""
    height, width = crops.shape[1:3]
    if side > min(height, width):
        msg = f"`view_px={side}`: the crops have only {min(height, width)} pixels."
        raise ValueError(msg)
    top, left = (height - side) // 2, (width - side) // 2
    return crops[:, top : top + side, left : left + side]


def _resampled(crops: Tensor, side: int) -> Tensor:
    """Turn uint8 (n, y, x, 3) into float32 of another side, antialiased where it shrinks; no value is rounded."""
    images = crops.float()
    if crops.shape[1] == side:
        return images
    planes = images.permute(0, 3, 1, 2)
    resampled = functional.interpolate(planes, (side, side), mode="bilinear", antialias=True, align_corners=False)
    return resampled.permute(0, 2, 3, 1)


def _symmetries(images: Tensor, number: int) -> list[Tensor]:
    """Return images (n, y, x, 3) turned, and mirrored, in as many ways."""
    if number == 1:
        return [images]
    transposed = images.transpose(1, 2).contiguous()  # ten times as slow as a flip: once for all
    turns = [images, transposed.flip(1), images.flip(1, 2), transposed.flip(2)]
    return [*turns, *(turn.flip(2) for turn in turns)] if number == 8 else turns
