from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from bleep_sc.models.nets.arguments import Arguments, Weights
from bleep_sc.models.nets.losses import info_nce
from bleep_sc.models.nets.rules import POSITIVE, REPEATS, SHARE, whole
from bleep_sc.models.train.batches import Batch

_INPUT_DROPOUT = 0.2
"""Dropout of image features and components alike, so that no head relies on a single one of them."""


@dataclass(frozen=True)
class JointArguments(Arguments):
    """The arguments of a joint space. It is stored only as a part of a hybrid."""

    kind: ClassVar[str] = "joint"
    n_features: Annotated[int, whole(1)]
    """Number of features that the image heads read."""
    n_components: Annotated[int, whole(1)]
    """Number of components of expression."""
    members: Annotated[int, REPEATS]
    """Number of pairs of heads."""
    dim: Annotated[int, whole(1)]
    """Width of the output of each head."""
    hidden: Annotated[int, whole(1)]
    """Width of each head's hidden layer."""
    dropout: Annotated[float, SHARE]
    """Dropout of the image heads' hidden layers."""
    temperature: Annotated[float, POSITIVE]
    """Temperature of the loss."""

    def build(self, weights: Weights = None) -> nn.Module:
        """Build the model. It has no image network, so `weights` are not used."""
        return JointSpace(self)


class JointSpace(nn.Module):
    """An ensemble of contrastive heads between image features and components of expression.

    Each member is a pair of small heads with first weights and dropout of its own. All are trained on the same batches.
    The embedding of a spot is the embeddings by all members side by side, each scaled to the same length. So the cosine
    between two spots is the mean of the members' cosines.
    """

    def __init__(self, arguments: JointArguments) -> None:
        super().__init__()
        dim, hidden, members = arguments.dim, arguments.hidden, range(arguments.members)
        self.width = len(members) * dim
        self.image_heads = nn.ModuleList(_head(arguments.n_features, hidden, dim, arguments.dropout) for _ in members)
        self.expression_heads = nn.ModuleList(_head(arguments.n_components, hidden, dim, 0.0) for _ in members)
        self._temperature = arguments.temperature

    def embed_image(self, features: Tensor) -> Tensor:
        """Embed features (n, n_features) in the joint space (n, members * dim), at length one."""
        return _side_by_side(self.image_heads, features)

    def embed_expression(self, components: Tensor) -> Tensor:
        """Embed components (n, n_components) in the joint space (n, members * dim), at length one."""
        return _side_by_side(self.expression_heads, components)

    def loss(self, batch: Batch) -> Tensor:
        """Compute the sum of the members' losses, so that the gradient of each member is that of its own loss."""
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
