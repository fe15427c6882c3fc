from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from bleep_sc.models.nets.arguments import Arguments, Weights
from bleep_sc.models.nets.joint import JointArguments, JointSpace
from bleep_sc.models.nets.kernel import KernelRegression
from bleep_sc.models.nets.rules import whole


@dataclass(frozen=True)
class _Widths(Arguments):
    """The widths of a hybrid, in the order of a stored config. Two of them are arguments of its joint space too."""

    n_image_features: Annotated[int, whole(1)]
    """Number of features that the image encoder makes of a crop."""
    n_features: Annotated[int, whole(1)]
    """Number of features that the heads read: those of the spot and, where neighbours are looked at, their mean."""
    n_genes: Annotated[int, whole(1)]
    """Width of the expression input."""
    n_components: Annotated[int, whole(1)]
    """Number of components of expression."""
    n_landmarks: Annotated[int, whole(1)]
    """Number of landmarks of the kernel regression."""


@dataclass(frozen=True)
class HybridArguments(JointArguments, _Widths):
    """The arguments of a hybrid: its widths, and then the other arguments of its joint space."""

    # the fields of the last base come first
    kind: ClassVar[str] = "hybrid"

    def build(self, weights: Weights = None) -> nn.Module:
        """Build the model. It has no image network, so `weights` are not used."""
        return Hybrid(self)


class Hybrid(nn.Module):
    """A model of retrieval in a joint space and regression of expression components, on the same image features.

    It reads features of a spot seen in its section, which `methods` prepares, and scores on components of expression.
    """

    loadings: Tensor
    spread: Tensor
    feature_mean: Tensor
    feature_scale: Tensor
    context_scale: Tensor

    def __init__(self, arguments: HybridArguments) -> None:
        super().__init__()
        n_features, n_components = arguments.n_features, arguments.n_components
        n_image_features = arguments.n_image_features
        self.space = JointSpace(arguments)
        self.kernel = KernelRegression(arguments.n_landmarks, n_features, n_components)
        self.linear = nn.Linear(n_features, n_components)
        self.register_buffer("loadings", torch.zeros(n_components, arguments.n_genes))
        self.register_buffer("spread", torch.ones(n_components))
        self.register_buffer("feature_mean", torch.zeros(n_image_features))
        self.register_buffer("feature_scale", torch.ones(n_image_features))
        self.register_buffer("context_scale", torch.ones(n_image_features))

    @property
    def width(self) -> int:
        """Width of the joint space."""
        return self.space.width

    @property
    def parts(self) -> "tuple[Hybrid, ...]":
        """The hybrid of each encoder: this one."""
        return (self,)

    @property
    def networks(self) -> tuple[nn.Module | None, ...]:
        """The frozen network of each encoder: none."""
        return (None,)

    def embed_image(self, features: Tensor) -> Tensor:
        """Embed features (n, n_features) in the joint space (n, width)."""
        return self.space.embed_image(features)

    def embed_expression(self, scores: Tensor) -> Tensor:
        """Embed scores on the components (n, n_components) in the joint space (n, width)."""
        return self.space.embed_expression(half_whitened(scores, self.spread))

    def regress(self, features: Tensor) -> Tensor:
        """Predict scores on the components (n, 2, n_components), by the linear and by the kernel regression."""
        # bfloat16 would round the coefficients, of which many large ones cancel
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            return torch.stack([self.linear(features), self.kernel(features)], dim=1)


def half_whitened(scores: Tensor, spread: Tensor) -> Tensor:
    """Bring the spreads of the components half way to one: the first still count most, but the last count too."""
    # in units of a power of two, which rounds nothing, so that expression may be of any size
    unit = -torch.frexp(spread.max()).exponent
    scores, spread = torch.ldexp(scores, unit), torch.ldexp(spread, unit)
    return scores / (spread * spread.mean()).clamp(min=1e-12).sqrt()
