from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from bleep_sc.models.nets.arguments import BuiltEncoder, ImageArguments, Weights
from bleep_sc.models.nets.image_side import ImageModel


@dataclass(frozen=True)
class FeatureArguments(ImageArguments):
    """The arguments of a feature space, which are those of its image encoder alone."""

    kind: ClassVar[str] = "features"

    def build(self, weights: Weights = None) -> "FeatureSpace":
        """Build the model."""
        return FeatureSpace(self.build_encoder(weights))


class FeatureSpace(ImageModel):
    """A space of image features as they are. Retrieval without any training compares spots in it."""

    def __init__(self, image_encoder: BuiltEncoder) -> None:
        super().__init__()
        self.width = image_encoder.n_features
        self.image_encoder = image_encoder.module

    def embed_image(self, images: Tensor) -> Tensor:
        """Turn crops uint8 (n, y, x, 3), or ready-made features, into the features to compare (n, n_features)."""
        features: Tensor = self.image_encoder(images)
        return features
