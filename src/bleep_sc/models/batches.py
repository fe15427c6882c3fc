from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from bleep_sc.models.augment import N_SYMMETRIES


class Rows(Protocol):
    """An array of which batches of rows are taken: NumPy in memory, or dask, cut on demand."""

    @property
    def shape(self) -> tuple[int, ...]:
        """First the number of rows."""

    def __getitem__(self, rows: Any, /) -> Any:
        """Rows by an integer array."""


@dataclass(frozen=True)
class Batch:
    """Spots of one step: images, expression, and the symmetry that each image is turned by (None: none)."""

    images: Tensor
    expression: Tensor
    turns: Tensor | None

    def __len__(self) -> int:
        return len(self.expression)


def take(images: Rows, rows: np.ndarray) -> Tensor:
    """Rows of an image array as a tensor."""
    return torch.from_numpy(np.ascontiguousarray(images[rows]))


def split_evenly(rows: np.ndarray, largest: int) -> list[np.ndarray]:
    """Split into as few parts of at most `largest` rows as possible, equal to within one: no spot is left out."""
    return np.array_split(rows, -(-len(rows) // largest))


class Batches:
    """The batches of one epoch after another; what an epoch holds depends on seed, epoch and spots alone.

    Parameters
    ----------
    images, expression
        All spots; uint8 crops (n, y, x, 3) or float32 features (n, n_features), and float32 (n, n_genes).
    rows
        The spots to draw from.
    batch_size
        Most spots of a batch.
    seed
        Shuffles the spots anew each epoch; None keeps their order.
    augment
        Whether each image gets a random flip and quarter turn.
    """

    def __init__(
        self,
        images: Rows,
        expression: np.ndarray,
        rows: np.ndarray,
        *,
        batch_size: int,
        seed: int | None = None,
        augment: bool = False,
    ) -> None:
        self._images = images
        self._expression = expression
        self._rows = rows
        self._batch_size = batch_size
        self._seed = seed
        self._augment = augment
        self.epoch = 0

    def __len__(self) -> int:
        return -(-len(self._rows) // self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        rows, turns = self._rows, None
        if self._seed is not None:
            rng = np.random.default_rng((self._seed, self.epoch))
            rows = rng.permutation(rows)
            if self._augment:
                turns = rng.integers(N_SYMMETRIES, size=len(rows))
        positions = split_evenly(np.arange(len(rows)), self._batch_size)
        for part in positions:
            yield Batch(
                take(self._images, rows[part]),
                torch.from_numpy(self._expression[rows[part]]),
                None if turns is None else torch.from_numpy(turns[part]),
            )
