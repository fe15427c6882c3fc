from typing import Literal

import torch
from torch import Tensor, nn

from bleep_sc.models.train.augment import N_SYMMETRIES, symmetry
from bleep_sc.models.train.batches import Batch

Loss = Literal["mse", "stnet"]


class Regressor(nn.Module):
    """An image encoder and a head that predicts expression: ST-Net, a plain CNN regressor, ridge regression.

    Parameters
    ----------
    image_encoder
        What makes features of the image input.
    head
        What makes expression of features; its last layer is a `MeanHead`.
    loss
        ``"mse"``: squared errors, mean over spots and genes. ``"stnet"``: their sum over spots and mean over genes (He
        et al., 2020), so that the gradient grows with the batch.
    symmetries
        Predict the mean over the eight flips and quarter turns of a crop.
    """

    def __init__(self, image_encoder: nn.Module, head: nn.Sequential, *, loss: Loss, symmetries: bool) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.head = head
        self._loss = loss
        self._symmetries = symmetries

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
