from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import Tensor

from bleep_sc.models.nets.arguments import BuiltEncoder, ImageArguments, Weights
from bleep_sc.models.nets.image_side import ImageModel
from bleep_sc.models.nets.losses import bleep_loss
from bleep_sc.models.nets.projection import ProjectionHead
from bleep_sc.models.nets.rules import POSITIVE, SHARE, whole
from bleep_sc.models.train.batches import Batch


@dataclass(frozen=True)
class BleepArguments(ImageArguments):
    """The arguments of the published BLEEP. Their docstrings name the paper's values."""

    kind: ClassVar[str] = "bleep"
    n_genes: Annotated[int, whole(1)]
    """Width of the expression input."""
    dim: Annotated[int, whole(1)]
    """Width of the joint space; 256 in the paper."""
    dropout: Annotated[float, SHARE]
    """Dropout of both projection heads; 0.1 in the paper."""
    temperature: Annotated[float, POSITIVE]
    """Temperature of the loss; 1 in the paper."""

    def build(self, weights: Weights = None) -> "Bleep":
        """Build the model."""
        return Bleep(self, self.build_encoder(weights))


class Bleep(ImageModel):
    """The bi-modal model: an image side and an expression side that meet in one space.

    The image encoder turns the image input into features. For crops it is a network, for ready-made features it is
    `Standardize`.
    """

    def __init__(self, arguments: BleepArguments, image_encoder: BuiltEncoder) -> None:
        super().__init__()
        self.width = arguments.dim
        self.image_encoder = image_encoder.module
        self.image_projection = ProjectionHead(image_encoder.n_features, arguments.dim, arguments.dropout)
        # in the paper this head is the whole expression encoder
        self.expression_projection = ProjectionHead(arguments.n_genes, arguments.dim, arguments.dropout)
        self.temperature = arguments.temperature

    def embed_image(self, images: Tensor) -> Tensor:
        """Embed crops uint8 (n, y, x, 3), or features (n, n_features), in the joint space (n, dim)."""
        embedding: Tensor = self.image_projection(self.image_encoder(images))
        return embedding

    def embed_expression(self, expression: Tensor) -> Tensor:
        """Embed expression (n, n_genes) in the joint space (n, dim)."""
        embedding: Tensor = self.expression_projection(expression)
        return embedding

    def loss(self, batch: Batch) -> Tensor:
        """Compute the contrastive loss of one batch, in float32 whatever the networks' precision."""
        image = batch.gather(self.embed_image(batch.images).float())
        profile = batch.gather(self.embed_expression(batch.expression).float())
        return bleep_loss(image, profile, self.temperature)
