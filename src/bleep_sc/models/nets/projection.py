import torch
from torch import Tensor, nn


class ProjectionHead(nn.Module):
    """A head from features or expression into the joint space, as released with BLEEP.

    Its layers are Linear, GELU, Linear and dropout. The output of the first Linear is added, and a LayerNorm follows
    (Xie et al., NeurIPS 2023; `models.py` of the authors' repository). It gives every embedding a
    norm near the root of its width.
    """

    def __init__(self, n_features: int, dim: int = 256, dropout: float = 0.1) -> None:
        super().__init__()
        self.projection = nn.Linear(n_features, dim)
        self.hidden = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Project features (n, n_features) into the joint space (n, dim)."""
        projected = self.projection(x)
        hidden = self.dropout(self.hidden(nn.functional.gelu(projected)))
        out: Tensor = self.norm(hidden + projected)
        return out


class Standardize(nn.Module):
    """A layer that brings each ready-made image feature to mean 0 and variance 1 over the training spots."""

    mean: Tensor
    scale: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))

    def learn(self, features: Tensor) -> None:
        """Take mean and spread of each feature from the training spots. A constant feature is only centred."""
        if features.shape[1] == 0:
            return
        spread, mean = torch.std_mean(features.double(), dim=0, correction=0)
        self.mean = mean.float()
        self.scale = torch.where(spread > 1e-6 * mean.abs().clamp(min=1e-6), spread, 1.0).float()

    def forward(self, features: Tensor) -> Tensor:
        """Standardise features (n, n_features)."""
        return (features - self.mean) / self.scale
