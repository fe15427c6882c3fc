"""Cut a network into its stages: runs of layers, after each of which the picture is a coarser map of features."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def stages_of(network: nn.Module) -> list[nn.Sequential]:
    """Return the stages of a convolutional network in order; what stands before the first one belongs to it.

    Known are the families of ResNet, of torchvision and timm, torchvision's DenseNets and EfficientNets, and timm's
    EfficientNets. Any other network has none here.
    """
    parts = dict(network.named_children())
    if "layer1" in parts:
        return _split(parts, ends=[name for name in parts if name.startswith("layer")])
    if {"conv_stem", "blocks"} <= parts.keys():
        run: dict[str, nn.Module] = {name: parts[name] for name in ("conv_stem", "bn1", "act1") if name in parts}
        ends = {f"blocks.{number}": block for number, block in parts["blocks"].named_children()}
        return _split(run | ends, ends=list(ends))
    if isinstance(parts.get("features"), nn.Sequential):
        return [nn.Sequential(layer) for layer in parts["features"].children()]
    return []


def _split(parts: dict[str, nn.Module], *, ends: list[str]) -> list[nn.Sequential]:
    stages, layers = [], []
    for name, part in parts.items():
        layers.append(part)
        if name in ends:
            stages.append(nn.Sequential(*layers))
            layers = []
    return stages  # what comes after the last end pools and classifies


class PooledStages(nn.Module):
    """The first stages of a network, and of some of them the mean of each channel over the picture."""

    def __init__(self, stages: Sequence[nn.Module], kept: Sequence[int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages[: max(kept) + 1])  # no later layer is built into the model
        self.kept = frozenset(kept)

    def forward(self, images: Tensor) -> Tensor:
        """Turn images, float (n, 3, y, x), into features, float (n, channels of the kept stages)."""
        pooled = []
        for number, stage in enumerate(self.stages):
            images = stage(images)
            if number in self.kept:
                pooled.append(images.float().mean(dim=(2, 3)))
        return torch.cat(pooled, dim=1)
