"""Measure whether the joint space still tells spots apart."""

from dataclasses import dataclass

import numpy as np

from bleep_sc.models.search.nearest import nearest

# the repaired reference code with a ResNet-50 from random weights came to 0.999 and 10 %, and to no better
# predictions than a regression on mean colour; expression embeddings may all be close and still rank well
MAX_COSINE = 0.98
MIN_SHARE_IN_USE = 0.2
_MOST_SPOTS = 10_000
"""The most spots that are compared with each other: more would say the same, and take with their square."""


@dataclass(frozen=True)
class Spread:
    """The measures of how far a joint space is from collapse."""

    image_cosine: float
    """Mean cosine between the image embeddings of two spots."""
    expression_cosine: float
    """Mean cosine between the expression embeddings of two spots."""
    in_use: int
    """Number of reference spots that are among the k nearest of the image of any other spot."""
    n_reference: int
    k: int

    @property
    def collapsed(self) -> bool:
        """Whether nearly all images look alike to the model, or nearly all queries get the same few profiles."""
        return self.image_cosine > MAX_COSINE or self.in_use < MIN_SHARE_IN_USE * self.n_reference

    def record(self) -> dict[str, float]:
        """Return the measures as plain numbers, for a config."""
        return {
            "image_cosine": self.image_cosine,
            "expression_cosine": self.expression_cosine,
            "references_in_use": self.in_use,
        }

    def __str__(self) -> str:
        return (
            f"mean cosine between two spots {self.image_cosine:.3f} (image) and {self.expression_cosine:.3f} "
            f"(expression); {self.in_use} of {self.n_reference} reference spots are among the {self.k} nearest of "
            "some other spot"
        )


def measure_spread(image: np.ndarray, expression: np.ndarray, *, k: int = 50) -> Spread:
    """Measure the spread of both embeddings (n, d) of the same n spots; of very many, on some at equal distances."""
    if len(image) > _MOST_SPOTS:
        rows = np.linspace(0, len(image) - 1, _MOST_SPOTS).astype(np.int64)
        image, expression = image[rows], expression[rows]
    n = len(image)
    k = min(k, max(1, (n - 1) // 10))
    rows, _ = nearest(image, expression, k, leave_out=np.arange(n))
    return Spread(_mean_cosine(image), _mean_cosine(expression), len(np.unique(rows)), n, k)


def _mean_cosine(embedding: np.ndarray) -> float:
    unit = embedding / np.maximum(np.linalg.norm(embedding, axis=1, keepdims=True), 1e-12)
    n = len(unit)
    total = unit.sum(axis=0, dtype=np.float64)
    return float((total @ total - n) / (n * (n - 1)))
