"""The image side of a model: its encoder by itself, and the model that goes on from what that made."""

from copy import copy
from typing import Self

from torch import Tensor, nn


class ImageModel(nn.Module):
    """A model with an image encoder, whose features say what a spot looks like."""

    image_encoder: nn.Module

    def encode_image(self, images: Tensor) -> Tensor:
        """Turn crops uint8 (n, y, x, 3), or ready-made features, into the encoder's features (n, n_features)."""
        features: Tensor = self.image_encoder(images)
        return features

    def after_encoder(self) -> Self | None:
        """Return the model that reads what `encode_image` made; None where it must see the crops again.

        It shares all its other parts with this model.
        """
        rest = copy(self)
        # the copy has this model's own mapping of parts
        rest._modules = {**self._modules, "image_encoder": nn.Identity()}
        return rest
