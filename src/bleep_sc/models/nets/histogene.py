"""HisToGene (Pang et al., bioRxiv 2021), which reads the spots of a section as a sentence is read word by word."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from bleep_sc.models.nets.arguments import Arguments, Weights
from bleep_sc.models.nets.rules import MAX_SIDE, REPEATS, SHARE, multiple, whole
from bleep_sc.models.train.batches import Batch

PATCH = 112
"""Side of the published patches in pixels. Of larger crops only the centre is read."""
POSITIONS = 64
"""Number of rows, and of columns, that have a position embedding."""
_DIM_HEAD = 64
_RGB = 3


@dataclass(frozen=True)
class HisToGeneArguments(Arguments):
    """The arguments of HisToGene. Their docstrings name the published values."""

    kind: ClassVar[str] = "histogene"
    image_size: Annotated[int, whole(1, MAX_SIDE)]
    """Side of the crops in pixels; 112 as published."""
    n_genes: Annotated[int, whole(1)]
    """Number of genes predicted."""
    dim: Annotated[int, multiple(_DIM_HEAD)]
    """Width of the transformer, with one attention head for each 64; 1,024 as published."""
    depth: Annotated[int, REPEATS]
    """Number of blocks; 8 as published."""
    dropout: Annotated[float, SHARE]
    """Dropout of the blocks and of the input of the first block; 0.1 as published."""

    @property
    def reads_crops(self) -> bool:
        """True, since the patches are crops, although no network has a name."""
        return True

    def build(self, weights: Weights = None) -> "HisToGene":
        """Build the model, whose weights are always random at first."""
        return HisToGene(self)


class HisToGene(nn.Module):
    """A model of patch and position embeddings, a pre-norm transformer over the spots of a window, and a linear head.

    As published, patches are fed as raw pixel values from 0 to 255, not normalised.
    """

    def __init__(self, arguments: HisToGeneArguments) -> None:
        super().__init__()
        dim, dropout = arguments.dim, arguments.dropout
        self._patch = min(PATCH, arguments.image_size)
        self.patch_embedding = nn.Linear(_RGB * self._patch**2, dim)
        self.x_embedding = nn.Embedding(POSITIONS, dim)
        self.y_embedding = nn.Embedding(POSITIONS, dim)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*[_Block(dim, dropout) for _ in range(arguments.depth)])
        self.gene_head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, arguments.n_genes))

    def encode_image(self, images: Tensor) -> Tensor:
        """Embed the patch in the middle of each crop, of crops uint8 (n, y, x, 3), as (n, dim)."""
        margin = (images.shape[1] - self._patch) // 2
        centre = images[:, margin : margin + self._patch, margin : margin + self._patch]
        # columns, rows, channels: the order in which the published patches are flattened
        embedding: Tensor = self.patch_embedding(centre.transpose(1, 2).flatten(1).float())
        return embedding

    def after_encoder(self) -> None:
        """Say that the crops must be seen again: a window reads them, and one layer makes an embedding of them."""

    def predict(self, images: Tensor, positions: Tensor) -> Tensor:
        """Predict expression (n, n_genes) from a window's crops uint8 (n, y, x, 3) and rows and columns (n, 2)."""
        row, column = positions.unbind(dim=1)
        spots = self.encode_image(images) + self.x_embedding(column) + self.y_embedding(row)
        attended = self.blocks(self.dropout(spots)[None])[0].float()
        with torch.autocast(attended.device.type, enabled=False):
            expression: Tensor = self.gene_head(attended)
        return expression

    def loss(self, batch: Batch) -> Tensor:
        """Compute the mean squared error of one window."""
        assert batch.positions is not None  # noqa: S101 - its batches are sequences
        return torch.nn.functional.mse_loss(self.predict(batch.images, batch.positions), batch.expression)


class _Block(nn.Module):
    """A block of attention and a feed-forward part, each behind a LayerNorm and beside a skip."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = _Attention(dim, dropout)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Linear(dim, 2 * dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * dim, dim),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        out: Tensor = x + self.feed_forward(x)
        return out


class _Attention(nn.Module):
    """Multi-head attention of every spot to every other. As published, queries, keys and values have no bias."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self._heads = dim // _DIM_HEAD
        self.query_key_value = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Sequential(nn.Linear(dim, dim), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        n_sequences, n, dim = x.shape
        parts = self.query_key_value(x).view(n_sequences, n, 3, self._heads, _DIM_HEAD).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(*parts)
        out: Tensor = self.out(attended.transpose(1, 2).reshape(n_sequences, n, dim))
        return out
