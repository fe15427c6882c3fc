"""Heads that predict expression from image features."""

import torch
from torch import Tensor, nn


class MeanHead(nn.Module):
    """A linear map that at first predicts the training mean: its weights are zero, its bias is the mean.

    ST-Net (He et al., 2020) begins so too. Without any features the map always predicts the mean.
    """

    def __init__(self, n_features: int, n_genes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_genes, n_features))
        self.bias = nn.Parameter(torch.zeros(n_genes))

    def start_at(self, mean: Tensor) -> None:
        """Set the bias to the mean expression of the training spots."""
        with torch.no_grad():
            self.bias.copy_(mean)

    def forward(self, features: Tensor) -> Tensor:
        """Predict expression (n, n_genes) from features (n, n_features)."""
        return nn.functional.linear(features, self.weight, self.bias)


def regression_head(
    n_features: int, n_genes: int, *, hidden: int | None = None, rank: int | None = None, dropout: float = 0.0
) -> nn.Sequential:
    """Build a head whose last layer is a `MeanHead`.

    Without more arguments that layer is the whole head. With `hidden` there are Linear, GELU and dropout before it.
    With `rank` there is a Linear to that many components of expression before it.
    """
    before: list[nn.Module] = []
    width = n_features
    if hidden is not None:
        before, width = [nn.Linear(n_features, hidden), nn.GELU(), nn.Dropout(dropout)], hidden
    elif rank is not None:
        before, width = [nn.Linear(n_features, rank)], rank
    elif dropout:
        before = [nn.Dropout(dropout)]
    return nn.Sequential(*before, MeanHead(width, n_genes))
