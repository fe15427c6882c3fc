from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from bleep_sc.models.nets.arguments import BuiltEncoder, ImageArguments, Weights
from bleep_sc.models.nets.heads import regression_head
from bleep_sc.models.nets.rules import BOOL, SHARE, choice, or_null, whole
from bleep_sc.models.train.augment import N_SYMMETRIES, symmetry
from bleep_sc.models.train.batches import Batch

Loss = Literal["mse", "stnet"]
"""Squared errors: ``"mse"`` is their mean over spots and genes, ``"stnet"`` their sum over spots and mean over genes
(He et al., 2020), so that the gradient grows with the batch."""


@dataclass(frozen=True)
class RegressorArguments(ImageArguments):
    """The arguments of a regressor; those of its head as `regression_head` explains them."""

    kind: ClassVar[str] = "regressor"
    n_genes: Annotated[int, whole(1)]
    """Number of genes predicted."""
    hidden: Annotated[int | None, or_null(whole(1))]
    """Width of the head's hidden layer."""
    rank: Annotated[int | None, or_null(whole(0))]
    """Number of components of expression that the head goes through."""
    dropout: Annotated[float, SHARE]
    """Dropout of the head."""
    loss: Annotated[Loss, choice(*get_args(Loss))]
    """What is minimised."""
    symmetries: Annotated[bool, BOOL]
    """Whether the prediction is the mean over the eight flips and quarter turns of a crop."""

    def build(self, weights: Weights = None) -> "Regressor":
        """Build the model."""
        return Regressor(self, self.build_encoder(weights))


class Regressor(nn.Module):
    """An image encoder and a head that predicts expression: ST-Net, a plain CNN regressor, ridge regression.

    The head's last layer is a `MeanHead`.
    """

    def __init__(self, arguments: RegressorArguments, image_encoder: BuiltEncoder) -> None:
        super().__init__()
        self.image_encoder = image_encoder.module
        self.head = regression_head(
            image_encoder.n_features,
            arguments.n_genes,
            hidden=arguments.hidden,
            rank=arguments.rank,
            dropout=arguments.dropout,
        )
        self._loss = arguments.loss
        self._symmetries = arguments.symmetries

    def forward(self, images: Tensor) -> Tensor:
        """Crops uint8 (n, y, x, 3), or features (n, n_features), to (n, n_genes)."""
        features = self.image_encoder(images).float()
        # bfloat16 would round the values that are put out to three digits
        with torch.autocast(features.device.type, enabled=False):
            expression: Tensor = self.head(features)
        return expression

    def predict(self, images: Tensor) -> Tensor:
        """The same, as the model predicts after training."""
        if not self._symmetries:
            return self(images)
        return torch.stack([self(symmetry(images, which)) for which in range(N_SYMMETRIES)]).mean(dim=0)

    def loss(self, batch: Batch) -> Tensor:
        """Squared error of one batch."""
        error: Tensor = (self(batch.images) - batch.expression).square().mean() * batch.weight
        return error if self._loss == "mse" else error * len(batch)
