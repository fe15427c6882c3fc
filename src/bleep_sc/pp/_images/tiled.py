"""An image that stays in its file and is read tile by tile, upright and in RGB."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from bleep_sc.pp._images.turn import Turn

Place = tuple[int, int]
"""Row and column of a pixel or of a tile."""
AHEAD = 2
"""Number of tiles that are read ahead for each thread that decodes them."""


class TiledFile(ABC):
    """One level of an image in a file. It holds no open file, so it can be pickled and read by another process."""

    stored_size: tuple[int, int]
    """Height and width of the stored pixels."""
    turn: Turn
    """How these are turned upright."""
    tile: tuple[int, int] | None
    """Height and width of what is read at one go; ``None`` where pixels lie bare in the file."""
    missing: np.ndarray | None
    """Which tiles the scanner left out, boolean (rows, columns); ``None`` where it left out none, or does not say."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the upright image (y, x, channels)."""
        return (*self.turn.size(*self.stored_size), 3)

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """Type of its values."""

    @abstractmethod
    def read_tiles(self, tiles: Iterable[Place]) -> Iterator[tuple[Place, np.ndarray]]:
        """Decode some stored tiles (y, x, channels) in turn; tiles at the border may reach beyond the image."""

    @abstractmethod
    def bare_parts(self) -> AbstractContextManager[Callable[[slice, slice], np.ndarray]]:
        """Open a file without tiles, and give a function that reads some stored rows and columns (y, x, channels)."""


def done_ahead(
    jobs: Iterable[tuple[Place, Callable[[], np.ndarray]]], *, threads: int, most: int
) -> Iterator[tuple[Place, np.ndarray]]:
    """Decode tiles in threads, in order, with at most `most` of them begun and not yet taken."""
    if threads < 2:  # a thread of its own would only make memory dearer
        for place, job in jobs:
            yield place, job()
        return
    ahead: deque[tuple[Place, Future[np.ndarray]]] = deque()
    with ThreadPoolExecutor(threads) as workers:
        for place, job in jobs:
            ahead.append((place, workers.submit(job)))
            if len(ahead) == most:
                first, decoded = ahead.popleft()
                yield first, decoded.result()
        for first, decoded in ahead:
            yield first, decoded.result()
