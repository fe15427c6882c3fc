import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from bleep_sc.models.nets.losses import info_nce
from bleep_sc.models.train.batches import Batch

_INPUT_DROPOUT = 0.2
"""Of image features and components alike: no head may lean on a single one of them."""


class JointSpace(nn.Module):
    """An ensemble of contrastive heads between image features and components of expression.

    Each member is a pair of small heads with first weights and dropout of its own, trained on the same batches. A
    spot's embedding is its members' embeddings side by side, each of length one, so that the cosine between two spots
    is the mean of the members' cosines.

    Parameters
    ----------
    n_features, n_components
        Widths of the two inputs.
    members
        Number of pairs.
    dim, hidden, dropout
        Of each head: width of what it puts out, and width and dropout of its hidden layer.
    temperature
        Of the loss.
    """

    def __init__(
        self,
        *,
        n_features: int,
        n_components: int,
        members: int,
        dim: int,
        hidden: int,
        dropout: float,
        temperature: float,
    ) -> None:
        super().__init__()
        self.width = members * dim
        self.image_heads = nn.ModuleList(_head(n_features, hidden, dim, dropout) for _ in range(members))
        self.expression_heads = nn.ModuleList(_head(n_components, hidden, dim, 0.0) for _ in range(members))
        self._temperature = temperature

    def embed_image(self, features: Tensor) -> Tensor:
        """(n, n_features) to (n, members * dim), of length one."""
        return _side_by_side(self.image_heads, features)

    def embed_expression(self, components: Tensor) -> Tensor:
        """(n, n_components) to (n, members * dim), of length one."""
        return _side_by_side(self.expression_heads, components)

    def loss(self, batch: Batch) -> Tensor:
        """The sum of the members' losses: each member's gradient is that of its own loss."""
        losses = [
            info_nce(image(batch.images).float(), expression(batch.expression).float(), self._temperature)
            for image, expression in zip(self.image_heads, self.expression_heads, strict=True)
        ]
        return torch.stack(losses).sum()


def _head(n_in: int, hidden: int, n_out: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout(_INPUT_DROPOUT),
        nn.Linear(n_in, hidden),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, n_out),
    )


def _side_by_side(heads: nn.ModuleList, inputs: Tensor) -> Tensor:
    return torch.cat([normalize(head(inputs)) for head in heads], dim=1) / len(heads) ** 0.5
