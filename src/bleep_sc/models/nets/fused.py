from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, cast

import torch
from torch import Tensor, nn

from bleep_sc.models.encoders.frozen import FrozenEncoder, Reading, build_frozen
from bleep_sc.models.nets.arguments import Weights
from bleep_sc.models.nets.hybrid import Hybrid, HybridArguments
from bleep_sc.models.nets.rules import ENCODERS


@dataclass(frozen=True)
class FusedArguments(HybridArguments):
    """The arguments of a hybrid for each of several encoders, or for one that is a network."""

    kind: ClassVar[str] = "fused"
    encoders: Annotated[list[dict[str, Any]], ENCODERS]
    """For each encoder, `n_features` and `network`: the name of its network with how that reads a crop, or None."""

    def of_encoder(self, n_image_features: int) -> HybridArguments:
        """Return the arguments of the hybrid for an encoder of so many features."""
        values = {name: getattr(self, name) for name in HybridArguments.rules()}
        views = self.n_features // self.n_image_features
        return HybridArguments(
            **{**values, "n_image_features": n_image_features, "n_features": views * n_image_features}
        )

    def build(self, weights: Weights = None) -> "Fused":
        """Build the model. Frozen networks have random weights until the stored ones are loaded."""
        return Fused(self, [network_of(encoder["network"]) for encoder in self.encoders])


class Fused(nn.Module):
    """Hybrids of several encoders, fused late: spaces stand side by side, regressions are averaged.

    It reads the features of all encoders side by side, followed by those of the neighbours where these are looked at.
    It brings the frozen networks that make features of crops.
    """

    shares: Tensor

    def __init__(self, arguments: FusedArguments, networks: Sequence[FrozenEncoder | None]) -> None:
        super().__init__()
        widths = [encoder["n_features"] for encoder in arguments.encoders]
        self.hybrids = nn.ModuleList(arguments.of_encoder(width).build() for width in widths)
        self.frozen = nn.ModuleDict(
            {str(number): network for number, network in enumerate(networks) if network is not None}
        )
        self.register_buffer("shares", torch.full((len(widths),), 1 / len(widths)))
        self._widths, self._views = widths, arguments.n_features // arguments.n_image_features

    @property
    def _columns(self) -> list[list[int]]:
        """The columns of each encoder; not kept, since a stranger's widths, not yet checked, may be in the billions."""
        return columns_of_encoders(self._widths, self._views)

    @property
    def networks(self) -> tuple[nn.Module | None, ...]:
        """The frozen network of each encoder; None for an encoder without one."""
        brought = dict(self.frozen.items())
        return tuple(brought.get(str(number)) for number in range(len(self.hybrids)))

    @property
    def parts(self) -> tuple[Hybrid, ...]:
        """The hybrid of each encoder."""
        return cast(tuple[Hybrid, ...], tuple(self.hybrids))

    @property
    def width(self) -> int:
        """Width of the joint space."""
        return sum(part.width for part in self.parts)

    @property
    def loadings(self) -> Tensor:
        """The loadings of the components of expression, the same for all encoders (n_components, n_genes)."""
        return self.parts[0].loadings

    @property
    def feature_mean(self) -> Tensor:
        """Mean of each encoder's features, side by side (n_image_features,)."""
        return torch.cat([part.feature_mean for part in self.parts])

    @property
    def feature_scale(self) -> Tensor:
        """Spread of each encoder's features, side by side (n_image_features,)."""
        return torch.cat([part.feature_scale for part in self.parts])

    @property
    def context_scale(self) -> Tensor:
        """Spread of the neighbours' mean of these features, side by side (n_image_features,)."""
        return torch.cat([part.context_scale for part in self.parts])

    def embed_image(self, features: Tensor) -> Tensor:
        """Embed features (n, n_features) in the joint space (n, width)."""
        of_parts = zip(self.parts, self._columns, strict=True)
        return side_by_side([part.embed_image(features[:, columns]) for part, columns in of_parts], self.shares)

    def embed_expression(self, scores: Tensor) -> Tensor:
        """Embed scores on the components (n, n_components) in the joint space (n, width)."""
        return side_by_side([part.embed_expression(scores) for part in self.parts], self.shares)

    def regress(self, features: Tensor) -> Tensor:
        """Predict scores on the components (n, 2, n_components), by the linear and by the kernel regressions."""
        of_parts = zip(self.shares, self.parts, self._columns, strict=True)
        return torch.stack([share * part.regress(features[:, columns]) for share, part, columns in of_parts]).sum(dim=0)


def network_of(spec: dict[str, Any] | None) -> FrozenEncoder | None:
    """Build the frozen network that a config describes, with random weights; None where it describes none."""
    if spec is None:
        return None
    reading = Reading.from_json({name: value for name, value in spec.items() if name != "name"})
    return build_frozen(spec["name"], reading)


def columns_of_encoders(widths: Sequence[int], views: int) -> list[list[int]]:
    """List the columns of each encoder, where all encoders' features are followed by those of the neighbours."""
    total, ends = sum(widths), [sum(widths[: number + 1]) for number in range(len(widths))]
    return [
        [view * total + column for view in range(views) for column in range(end - width, end)]
        for width, end in zip(widths, ends, strict=True)
    ]


def side_by_side(embeddings: Sequence[Tensor], shares: Sequence[float] | Tensor) -> Tensor:
    """Put embeddings of length one side by side, so that a cosine is the mean of theirs, weighed by the shares."""
    if len(embeddings) == 1:
        return embeddings[0]
    roots = torch.as_tensor(shares, dtype=torch.float32).sqrt().to(embeddings[0].device)
    return torch.cat([root * embedding for root, embedding in zip(roots, embeddings, strict=True)], dim=1)
