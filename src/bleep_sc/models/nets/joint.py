from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize

from bleep_sc.models.nets.arguments import Arguments, Weights
from bleep_sc.models.nets.losses import info_nce
from bleep_sc.models.nets.rules import POSITIVE, REPEATS, SHARE, whole
from bleep_sc.models.train.batches import Batch

_INPUT_DROPOUT = 0.2
"""Dropout of image features and components alike, so that no head relies on a single one of them."""


Masks = tuple[Tensor | None, ...]
"""What dropout keeps of a layer's inputs, by layer; None where it keeps all."""


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
        dim, hidden, members = arguments.dim, arguments.hidden, arguments.members
        self.width = members * dim
        self.image_heads = _Heads(members, arguments.n_features, hidden, dim, dropout=arguments.dropout)
        self.expression_heads = _Heads(members, arguments.n_components, hidden, dim, dropout=0.0)
        self.random: torch.Generator | None = None
        """What dropout draws from in training; None: torch's random state, which all threads share."""
        self._temperature = arguments.temperature

    def embed_image(self, features: Tensor) -> Tensor:
        """Embed features (n, n_features) in the joint space (n, members * dim), at length one."""
        return self.image_heads.side_by_side(features)

    def embed_expression(self, components: Tensor) -> Tensor:
        """Embed components (n, n_components) in the joint space (n, members * dim), at length one."""
        return self.expression_heads.side_by_side(components)

    def loss(self, batch: Batch) -> Tensor:
        """Compute the sum of the members' losses, so that the gradient of each member is that of its own loss."""
        sides = (self.image_heads, self.expression_heads)
        inputs = (batch.images, batch.expression)
        masks: list[Masks] = [(None, None), (None, None)]
        if self.training:
            masks = [heads.empty_masks(rows) for heads, rows in zip(sides, inputs, strict=True)]
            # in the order in which the members would draw one after another
            for member in range(len(self.image_heads)):
                for heads, own in zip(sides, masks, strict=True):
                    heads.draw(own, member, self.random)
        image, expression = (
            heads.in_one_product(rows, own) for heads, rows, own in zip(sides, inputs, masks, strict=True)
        )
        return info_nce(image.float(), expression.float(), self._temperature).sum()


class _Heads(nn.ModuleList):
    """The members' heads of one side."""

    _LAYERS = ((0, 1), (3, 4))
    """Where dropout stands in a head, and the linear layer that reads what it keeps."""

    def __init__(self, members: int, n_in: int, hidden: int, n_out: int, *, dropout: float) -> None:
        super().__init__(
            nn.Sequential(
                nn.Dropout(_INPUT_DROPOUT),
                nn.Linear(n_in, hidden),
                nn.GELU(),
                nn.Dropout(dropout),
                nn.Linear(hidden, n_out),
            )
            for _ in range(members)
        )

    def side_by_side(self, inputs: Tensor) -> Tensor:
        """Embed inputs (n, n_in) by all members (n, members * n_out), at length one."""
        return torch.cat([normalize(head(inputs)) for head in self], dim=1) / len(self) ** 0.5

    def empty_masks(self, inputs: Tensor) -> Masks:
        """Make room for what each dropout keeps of a batch (members, n, width); None where it keeps all."""
        return tuple(
            inputs.new_empty(len(self), len(inputs), self._layer(0, linear).in_features)
            if self._layer(0, dropout).p
            else None
            for dropout, linear in self._LAYERS
        )

    def draw(self, masks: Masks, member: int, random: torch.Generator | None) -> None:
        """Draw what a member keeps, as factors."""
        for mask, (dropout, _) in zip(masks, self._LAYERS, strict=True):
            if mask is not None:
                kept = 1 - self._layer(member, dropout).p
                mask[member].bernoulli_(kept, generator=random).div_(kept)

    def in_one_product(self, inputs: Tensor, masks: Masks) -> Tensor:
        """Map inputs (n, n_in) by all members (members, n, n_out), the products of all members in one call."""
        (of_inputs, of_hidden), (first, last) = masks, (linear for _, linear in self._LAYERS)
        rows = inputs.expand(len(self), -1, -1)
        hidden = gelu(self._linear(first, rows if of_inputs is None else rows * of_inputs))
        return self._linear(last, hidden if of_hidden is None else hidden * of_hidden)

    def _linear(self, place: int, rows: Tensor) -> Tensor:
        layers = [self._layer(member, place) for member in range(len(self))]
        weights, biases = torch.stack([layer.weight for layer in layers]), torch.stack([layer.bias for layer in layers])
        return torch.baddbmm(biases[:, None], rows, weights.mT)

    def _layer(self, member: int, place: int) -> Any:
        return cast(nn.Sequential, self[member])[place]
