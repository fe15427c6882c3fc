from typing import Any

import torch
from torch import Tensor, nn

from bleep_sc.models.nets.joint import JointSpace
from bleep_sc.models.nets.kernel import KernelRegression


class Hybrid(nn.Module):
    """Retrieval in a joint space and regression of expression components, on the same image features.

    It reads features of a spot seen in its section (`tl` prepares them) and scores on components of expression.

    Parameters
    ----------
    n_image_features
        Width of what the image encoder makes of a crop.
    n_features
        Width of what the heads read: a spot's own features and, where neighbours are looked at, their mean.
    n_genes, n_components
        Width of the expression input, and number of its components.
    n_landmarks
        Of the kernel regression.
    space
        Arguments of `JointSpace`.
    """

    loadings: Tensor
    spread: Tensor
    feature_mean: Tensor
    feature_scale: Tensor
    context_scale: Tensor

    def __init__(
        self, *, n_image_features: int, n_features: int, n_genes: int, n_components: int, n_landmarks: int, **space: Any
    ) -> None:
        super().__init__()
        self.space = JointSpace(n_features=n_features, n_components=n_components, **space)
        self.kernel = KernelRegression(n_landmarks, n_features, n_components)
        self.linear = nn.Linear(n_features, n_components)
        self.register_buffer("loadings", torch.zeros(n_components, n_genes))
        self.register_buffer("spread", torch.ones(n_components))
        self.register_buffer("feature_mean", torch.zeros(n_image_features))
        self.register_buffer("feature_scale", torch.ones(n_image_features))
        self.register_buffer("context_scale", torch.ones(n_image_features))

    @property
    def width(self) -> int:
        """Of the joint space."""
        return self.space.width

    def embed_image(self, features: Tensor) -> Tensor:
        """(n, n_features) to (n, width)."""
        return self.space.embed_image(features)

    def embed_expression(self, scores: Tensor) -> Tensor:
        """Scores on the components (n, n_components) to (n, width)."""
        return self.space.embed_expression(half_whitened(scores, self.spread))

    def regress(self, features: Tensor) -> Tensor:
        """Scores on the components as the linear and as the kernel regression predict them (n, 2, n_components)."""
        # bfloat16 would round the coefficients, of which many large ones cancel
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            return torch.stack([self.linear(features), self.kernel(features)], dim=1)


def half_whitened(scores: Tensor, spread: Tensor) -> Tensor:
    """Bring the components' spreads half way to one: the first ones still count most, the last ones are heard."""
    # in units of a power of two, which rounds nothing, so that expression may be of any size
    unit = -torch.frexp(spread.max()).exponent
    scores, spread = torch.ldexp(scores, unit), torch.ldexp(spread, unit)
    return scores / (spread * spread.mean()).clamp(min=1e-12).sqrt()
