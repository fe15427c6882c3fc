from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self, get_args

import torch
from torch import Tensor

from bleep_sc.models.nets.arguments import BuiltEncoder, ImageArguments, Weights
from bleep_sc.models.nets.heads import regression_head
from bleep_sc.models.nets.image_side import ImageModel
from bleep_sc.models.nets.rules import BOOL, SHARE, choice, or_null, whole
from bleep_sc.models.train.augment import N_SYMMETRIES, symmetry
from bleep_sc.models.train.batches import Batch

Loss = Literal["mse", "stnet"]
"""Name of a loss of squared errors. ``"mse"`` is their mean over spots and genes. ``"stnet"`` is their sum over spots
and mean over genes (He et al., 2020), so that the gradient grows with the batch."""


@dataclass(frozen=True)
class RegressorArguments(ImageArguments):
    """The arguments of a regressor. `regression_head` explains those of the head."""

    kind: ClassVar[str] = "regressor"
    n_genes: Annotated[int, whole(1)]
    """Number of genes predicted."""
    hidden: Annotated[int | None, or_null(whole(1))]
    """Width of the hidden layer of the head; None without one."""
    rank: Annotated[int | None, or_null(whole(0))]
    """Number of components of expression that the head goes through; None without them."""
    dropout: Annotated[float, SHARE]
    """Dropout of the head."""
    loss: Annotated[Loss, choice(*get_args(Loss))]
    """Name of the loss."""
    symmetries: Annotated[bool, BOOL]
    """Whether the prediction is the mean over the eight flips and quarter turns of a crop."""

    def build(self, weights: Weights = None) -> "Regressor":
        """Build the model."""
        return Regressor(self, self.build_encoder(weights))


class Regressor(ImageModel):
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
        """Predict expression (n, n_genes) from crops uint8 (n, y, x, 3), or from features (n, n_features)."""
        features = self.image_encoder(images).float()
        # bfloat16 would round the values that are put out to three digits
        with torch.autocast(features.device.type, enabled=False):
            expression: Tensor = self.head(features)
        return expression

    def after_encoder(self) -> Self | None:
        """Return the model that reads the encoder's features; None where all symmetries of a crop must be seen."""
        return None if self._symmetries else super().after_encoder()

    def predict(self, images: Tensor) -> Tensor:
        """Predict expression as a trained model does: with `symmetries`, as the mean over them."""
        if not self._symmetries:
            return self(images)
        return torch.stack([self(symmetry(images, number)) for number in range(N_SYMMETRIES)]).mean(dim=0)

    def loss(self, batch: Batch) -> Tensor:
        """Compute the loss of one batch."""
        error: Tensor = (self(batch.images) - batch.expression).square().mean() * batch.weight
        return error if self._loss == "mse" else error * len(batch)
