"""Rectangles of an image of any size, each tile of it read about once: from memory, from dask, from a file."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bleep_sc._settings import settings
from bleep_sc.pp._images import quiet_readers
from bleep_sc.pp._tiff import Place, TiffImage


def patches(array: Any, low: np.ndarray, high: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Rectangles with their numbers, in an order that suits the image.

    Parameters
    ----------
    array
        (y, x, channels), NumPy, dask or a TIFF on disk.
    low, high
        First pixel, x and y, of each rectangle and the one after the last (n, 2); all inside the image.
    """
    if isinstance(array, TiffImage) and array.tile is None:
        with array.bare_parts() as read:
            for i in np.lexsort(low.T).tolist():
                yield i, read(slice(low[i, 1], high[i, 1]), slice(low[i, 0], high[i, 0]))
        return
    tiles = _Tiles.of(array)
    if tiles is None:
        with quiet_readers():
            array = np.asarray(array)
        for i, ((left, top), (right, bottom)) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
            yield i, array[top:bottom, left:right]
        return
    patch_bytes = int((high - low).prod(axis=1).max(initial=1)) * array.dtype.itemsize * array.shape[2]
    yield from tiles.patches(low, high, most=_number_in_memory(patch_bytes))


def side_by_side(x: np.ndarray, first: np.ndarray, last: np.ndarray, *, most: int) -> Iterator[np.ndarray]:
    """Group patches so that few are begun and not yet whole while their tiles are read row by row.

    Parameters
    ----------
    x
        Where they lie across; a group is halved across while it has too many.
    first, last
        Rows of tiles that they touch.
    most
        How many may be begun at once.
    """
    todo = [np.arange(len(x))]
    while todo:
        group = todo.pop()
        changes = np.zeros(last.max(initial=0) + 2, dtype=np.int64)
        np.add.at(changes, first[group], 1)
        np.add.at(changes, last[group] + 1, -1)
        if len(group) > 1 and changes.cumsum().max() > most:
            order = group[np.argsort(x[group], kind="stable")]
            todo += [order[len(order) // 2 :], order[: len(order) // 2]]
        elif len(group):
            yield group


@dataclass(frozen=True)
class _Tiles:
    """An image that is read tile by tile."""

    starts: tuple[np.ndarray, np.ndarray]
    """First row of each row of tiles, first column of each column."""
    read: Callable[[Iterable[Place]], Iterator[tuple[Place, np.ndarray]]]

    @classmethod
    def of(cls, array: Any) -> "_Tiles | None":
        """``None`` for an image that is in memory, or comes into memory whole whatever is read of it."""
        if isinstance(array, TiffImage):
            assert array.tile is not None  # noqa: S101
            down, right = (np.arange(0, n, step) for n, step in zip(array.shape, array.tile, strict=False))
            return cls((down, right), array.read_tiles)
        if not hasattr(array, "dask") or _is_read_whole(array):
            return None
        down, right = (np.cumsum([0, *lengths[:-1]]) for lengths in array.chunks[:2])
        return cls((down, right), lambda tiles: _compute(array, tiles))

    def patches(self, low: np.ndarray, high: np.ndarray, *, most: int) -> Iterator[tuple[int, np.ndarray]]:
        """Put rectangles together from tiles, at most so many at a time, and hand over each as soon as it is whole."""
        first, last = self._tile_of(low), self._tile_of(high - 1)
        missing = (last - first + 1).prod(axis=1)
        for group in side_by_side(low[:, 0], first[:, 0], last[:, 0], most=most):
            touching: dict[Place, list[int]] = defaultdict(list)
            for i in group.tolist():
                for row in range(first[i, 0], last[i, 0] + 1):
                    for column in range(first[i, 1], last[i, 1] + 1):
                        touching[row, column].append(i)
            begun: dict[int, np.ndarray] = {}
            for tile, pixels in self.read(sorted(touching)):
                start = np.array([self.starts[1][tile[1]], self.starts[0][tile[0]]])
                end = start + pixels.shape[1::-1]
                for i in touching[tile]:
                    if i not in begun:
                        begun[i] = np.empty((*(high[i] - low[i])[::-1], pixels.shape[2]), pixels.dtype)
                    a, b = np.maximum(low[i], start), np.minimum(high[i], end)
                    begun[i][_box(a - low[i], b - low[i])] = pixels[_box(a - start, b - start)]
                    missing[i] -= 1
                    if not missing[i]:
                        yield i, begun.pop(i)

    def _tile_of(self, places: np.ndarray) -> np.ndarray:
        """Row and column of the tile in which each pixel (x, y) lies (n, 2)."""
        down, right = self.starts
        found = [np.searchsorted(down, places[:, 1], "right") - 1, np.searchsorted(right, places[:, 0], "right") - 1]
        return np.stack(found, axis=1)


def _box(low: np.ndarray, high: np.ndarray) -> tuple[slice, slice]:
    return slice(low[1], high[1]), slice(low[0], high[0])


def _compute(array: Any, tiles: Iterable[Place]) -> Iterator[tuple[Place, np.ndarray]]:
    """Some blocks of a dask array, as many at a time as memory allows."""
    import dask

    tiles = list(tiles)
    block_bytes = max(array.chunks[0]) * max(array.chunks[1]) * array.shape[2] * array.dtype.itemsize
    step = _number_in_memory(block_bytes)
    for start in range(0, len(tiles), step):
        some = tiles[start : start + step]
        with quiet_readers():
            blocks = dask.compute(*(array.blocks[tile] for tile in some))
        yield from zip(some, blocks, strict=True)


def _number_in_memory(item_bytes: int) -> int:
    return max(1, int(settings.memory * 2**20 / 2 / item_bytes))


def _is_read_whole(array: Any) -> bool:
    """Whether one task computes what opposite corners hold: squidpy reads a file by one, and may rechunk it then."""
    if array.npartitions == 1:
        return True
    first, last = (_tasks(corner) for corner in (array[:1, :1], array[-1:, -1:]))
    return any(_computes(first[key]) for key in first.keys() & last.keys())


def _tasks(array: Any) -> dict[Any, Any]:
    from dask.core import flatten

    tasks: dict[Any, Any] = array.dask.cull(set(flatten(array.__dask_keys__()))).to_dict()
    return tasks


def _computes(task: Any) -> bool:
    return hasattr(task, "func") or (isinstance(task, tuple) and bool(task) and callable(task[0]))
