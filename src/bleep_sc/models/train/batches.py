from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from bleep_sc.models.train.augment import N_SYMMETRIES
from bleep_sc.models.train.shares import Share


class Rows(Protocol):
    """An array from which batches of rows are taken: NumPy in memory, or dask, cut on demand."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array, the number of rows first."""

    def __getitem__(self, rows: Any, /) -> Any:
        """Take rows by an integer array."""


@dataclass(frozen=True)
class Batch:
    """Spots of one training step."""

    images: Tensor
    """Crops, uint8 (n, y, x, 3), or features, float (n, n_features)."""
    expression: Tensor
    turns: Tensor | None = None
    """Number of the symmetry that each image is turned by; None turns none."""
    positions: Tensor | None = None
    """Row and column of each spot in its window (n, 2), where the spots are one sequence."""
    share: Share | None = None
    """Part of a larger batch that these spots are; None if they are all of it."""

    def __len__(self) -> int:
        """Number of spots in the whole batch, on all processes together."""
        return len(self.expression) if self.share is None else self.share.total

    @property
    def weight(self) -> float:
        """Factor for a mean over these spots, so that the mean over processes is the mean over all spots."""
        return 1.0 if self.share is None else self.share.weight

    def gather(self, own_rows: Tensor) -> Tensor:
        """Gather what each process computed of its spots (n_own, d) into the whole batch (n, d)."""
        return own_rows if self.share is None else self.share.gather(own_rows)

    def pin_memory(self) -> "Batch":
        """Return the batch in memory that a GPU copies from by itself."""
        return replace(
            self,
            images=self.images.pin_memory(),
            expression=self.expression.pin_memory(),
            positions=None if self.positions is None else self.positions.pin_memory(),
        )

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device, except for the turns: they pick rows on the CPU."""
        return replace(
            self,
            images=self.images.to(device, non_blocking=True),
            expression=self.expression.to(device, non_blocking=True),
            positions=None if self.positions is None else self.positions.to(device, non_blocking=True),
        )


def take(images: Rows, rows: np.ndarray) -> Tensor:
    """Take rows of an image array as a tensor."""
    return torch.from_numpy(np.ascontiguousarray(images[rows]))


def split_evenly(rows: np.ndarray, largest: int) -> list[np.ndarray]:
    """Split rows into as few parts of at most `largest` as possible, equal to within one; no spot is left out."""
    return np.array_split(rows, -(-len(rows) // largest))


class Batches:
    """The batches of one epoch after another. The batches of an epoch depend on seed, epoch and spots alone.

    Parameters
    ----------
    images, expression
        Images and expression of all spots. Images are uint8 crops (n, y, x, 3) or float32 features (n, n_features),
        expression is float32 (n, n_genes).
    rows
        The spots to draw from.
    batch_size
        Largest number of spots in a batch.
    seed
        Seed with which the spots are shuffled again each epoch; None keeps their order.
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
        self._rank, self._n_processes = 0, 1
        self.epoch = 0

    def divide(self, rank: int, n_processes: int) -> None:
        """Yield one process's part of each batch from now on. The batches and their turns stay the same."""
        self._rank, self._n_processes = rank, n_processes

    def __len__(self) -> int:
        return -(-len(self._rows) // self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        rows, turns = self._rows, None
        if self._seed is not None:
            rng = np.random.default_rng((self._seed, self.epoch))
            rows = rng.permutation(rows)
            if self._augment:
                turns = rng.integers(N_SYMMETRIES, size=len(rows))
        for part in split_evenly(np.arange(len(rows)), self._batch_size):
            share = None
            if self._n_processes > 1:
                share, part = Share.of(part, self._rank, self._n_processes)
            yield Batch(
                take(self._images, rows[part]),
                torch.from_numpy(self._expression[rows[part]]),
                None if turns is None else torch.from_numpy(turns[part]),
                share=share,
            )


class Sequences:
    """Batches that are each one window of neighbouring spots, for a model that reads them as a sequence.

    Parameters
    ----------
    images, expression
        Images and expression of all spots, as for `Batches`.
    windows
        For each window the rows of its spots and their positions in it (n, 2).
    seed
        Seed with which the windows are shuffled again each epoch; None keeps their order.
    """

    def __init__(
        self,
        images: Rows,
        expression: np.ndarray,
        windows: Sequence[tuple[np.ndarray, np.ndarray]],
        *,
        seed: int | None = None,
    ) -> None:
        self._images = images
        self._expression = expression
        self._windows = windows
        self._seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._windows)

    def __iter__(self) -> Iterator[Batch]:
        order = np.arange(len(self))
        if self._seed is not None:
            order = np.random.default_rng((self._seed, self.epoch)).permutation(order)
        for number in order.tolist():
            rows, positions = self._windows[number]
            yield Batch(
                take(self._images, rows),
                torch.from_numpy(self._expression[rows]),
                positions=torch.from_numpy(positions),
            )
