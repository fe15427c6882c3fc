"""Heads that predict expression from image features."""

import torch
from torch import Tensor, nn


class MeanHead(nn.Module):
    """A linear map that begins as the mean: zero weights, and the training mean as bias (He et al., 2020).

    With no features at all it stays the mean.
    """

    def __init__(self, n_features: int, n_genes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_genes, n_features))
        self.bias = nn.Parameter(torch.zeros(n_genes))

    def start_at(self, mean: Tensor) -> None:
        """Take the mean expression of the training spots as first prediction."""
        with torch.no_grad():
            self.bias.copy_(mean)

    def forward(self, features: Tensor) -> Tensor:
        """(n, n_features) to (n, n_genes)."""
        return nn.functional.linear(features, self.weight, self.bias)


def regression_head(
    n_features: int, n_genes: int, *, hidden: int | None = None, rank: int | None = None, dropout: float = 0.0
) -> nn.Sequential:
    """Build a head whose last layer is a `MeanHead`.

    Linear by itself; with `hidden`, behind Linear, GELU and dropout; with `rank`, behind a Linear to that many
    components of expression.
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
