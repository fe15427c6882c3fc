from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from bleep_sc.models.nets.arguments import Arguments, Weights
from bleep_sc.models.nets.fused import columns_of_encoders, network_of
from bleep_sc.models.nets.kernel import KernelRegression
from bleep_sc.models.nets.rules import BOOL, ENCODERS, whole


@dataclass(frozen=True)
class SlimArguments(Arguments):
    """The arguments of the regressions of a hybrid with what turns their scores into expression."""

    kind: ClassVar[str] = "slim"
    n_image_features: Annotated[int, whole(1)]
    """Number of features that the image encoders make of a crop."""
    n_features: Annotated[int, whole(1)]
    """Number of features that the regressions read: those of the spot and, where neighbours are looked at, theirs."""
    n_genes: Annotated[int, whole(1)]
    """Number of genes that are predicted."""
    n_components: Annotated[int, whole(1)]
    """Number of components of expression."""
    n_landmarks: Annotated[int, whole(1)]
    """Number of landmarks of each kernel regression."""
    nonnegative: Annotated[bool, BOOL]
    """Whether predictions below 0 are set to 0."""
    encoders: Annotated[list[dict[str, Any]], ENCODERS]
    """For each encoder, `n_features` and `network`: the name of its network with how that reads a crop, or None."""

    def build(self, weights: Weights = None) -> "Slim":
        """Build the model. Frozen networks have random weights until the stored ones are loaded."""
        return Slim(self, [network_of(encoder["network"]) for encoder in self.encoders])


class Slim(nn.Module):
    """The regressions of one or several encoders, weighed and added up, and a decoder: it needs no reference spots.

    It reads features as a hybrid does.
    """

    feature_mean: Tensor
    feature_scale: Tensor
    context_scale: Tensor
    mean: Tensor
    loadings: Tensor

    def __init__(self, arguments: SlimArguments, networks: Sequence[nn.Module | None]) -> None:
        super().__init__()
        self._widths = [encoder["n_features"] for encoder in arguments.encoders]
        self._views = arguments.n_features // arguments.n_image_features
        n_components, n_image_features = arguments.n_components, arguments.n_image_features
        self.linear = nn.Linear(arguments.n_features, n_components)
        self.kernels = nn.ModuleList(
            KernelRegression(arguments.n_landmarks, self._views * width, n_components) for width in self._widths
        )
        self.frozen = nn.ModuleDict(
            {str(number): network for number, network in enumerate(networks) if network is not None}
        )
        self.register_buffer("feature_mean", torch.zeros(n_image_features))
        self.register_buffer("feature_scale", torch.ones(n_image_features))
        self.register_buffer("context_scale", torch.ones(n_image_features))
        self.register_buffer("mean", torch.zeros(arguments.n_genes))
        self.register_buffer("loadings", torch.zeros(n_components, arguments.n_genes))
        self.nonnegative = arguments.nonnegative

    @property
    def networks(self) -> tuple[nn.Module | None, ...]:
        """The frozen network of each encoder; None for an encoder without one."""
        brought: dict[str, nn.Module] = dict(self.frozen.items())
        return tuple(brought.get(str(number)) for number in range(len(self._widths)))

    @property
    def fits_together(self) -> bool:
        """Whether the widths of the encoders add up to what the linear regression reads."""
        return self._views in (1, 2) and self._views * sum(self._widths) == self.linear.in_features

    def regress(self, features: Tensor) -> Tensor:
        """Predict scores on the components (n, n_components)."""
        # bfloat16 would round the coefficients, of which many large ones cancel
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            scores: Tensor = self.linear(features)
            for kernel, columns in zip(self.kernels, columns_of_encoders(self._widths, self._views), strict=True):
                scores = scores + kernel(features[:, columns])
            return scores
