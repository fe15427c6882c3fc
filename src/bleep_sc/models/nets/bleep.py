from torch import Tensor, nn

from bleep_sc.models.nets.losses import bleep_loss
from bleep_sc.models.nets.projection import ProjectionHead
from bleep_sc.models.train.batches import Batch


class Bleep(nn.Module):
    """The bi-modal model: an image side and an expression side that meet in one space.

    Parameters
    ----------
    image_encoder
        What makes features of the image input: a network for crops, `Standardize` for ready-made features.
    n_image_features
        Width of what it returns.
    n_genes
        Width of the expression input.
    dim, dropout
        Of both projection heads; 256 and 0.1 in the paper.
    temperature
        Of the loss; 1 in the paper.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        *,
        n_image_features: int,
        n_genes: int,
        dim: int = 256,
        dropout: float = 0.1,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.width = dim
        self.image_encoder = image_encoder
        self.image_projection = ProjectionHead(n_image_features, dim, dropout)
        # in the paper this head is the whole expression encoder
        self.expression_projection = ProjectionHead(n_genes, dim, dropout)
        self.temperature = temperature

    def embed_image(self, images: Tensor) -> Tensor:
        """Crops uint8 (n, y, x, 3), or features (n, n_features), to (n, dim)."""
        embedding: Tensor = self.image_projection(self.image_encoder(images))
        return embedding

    def embed_expression(self, expression: Tensor) -> Tensor:
        """Expression (n, n_genes) to (n, dim)."""
        embedding: Tensor = self.expression_projection(expression)
        return embedding

    def loss(self, batch: Batch) -> Tensor:
        """The contrastive loss of one batch, computed in float32 whatever the networks' precision."""
        image = batch.gather(self.embed_image(batch.images).float())
        profile = batch.gather(self.embed_expression(batch.expression).float())
        return bleep_loss(image, profile, self.temperature)
