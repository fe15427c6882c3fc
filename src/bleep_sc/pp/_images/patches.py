"""Read rectangles of an image of any size, each tile about once: from memory, from dask or from a file."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bleep_sc._blocks import budget
from bleep_sc.pp._images.raster import RasterFile
from bleep_sc.pp._images.readers import quiet_readers
from bleep_sc.pp._images.tiled import Place, TiledFile

_MOST_BYTES = 4 * 2**30
"""Largest number of bytes that are read at one go.

No slide that was stored in one piece is larger, and a laptop has more memory.
"""

_MOST_TOUCHED = 2**19


def check_parts(array: Any, *, name: str) -> None:
    """Refuse an image of which too much must be read at one go, as a few bytes can claim any size."""
    if isinstance(array, TiledFile):
        height, width = array.tile or (0, 0)
    elif isinstance(array, RasterFile):
        height, width = array.shape[:2]
    elif not hasattr(array, "dask"):
        return
    elif _is_read_whole(array):
        height, width = array.shape[:2]
    else:
        height, width = (max(lengths) for lengths in array.chunks[:2])
    n_bytes = int(height) * int(width) * array.shape[2] * array.dtype.itemsize
    if n_bytes > _MOST_BYTES:
        msg = (
            f"`{name}` says that it has {array.shape[1]} x {array.shape[0]} pixels, of which {width} x {height} must "
            f"be read at one go: {n_bytes / 2**30:.1f} GiB, more than the {_MOST_BYTES / 2**30:.0f} GiB that are. If "
            "that is true, convert it to a TIFF of small tiles and pass its path: only what is needed of it is read. "
            "Or, where memory suffices, pass it in memory: `squidpy.im.ImageContainer(..., lazy=False)`."
        )
        raise ValueError(msg)


def patches(array: Any, low: np.ndarray, high: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield rectangles with their numbers, in an order that suits the image.

    Parameters
    ----------
    array
        The image (y, x, channels): NumPy, dask or a file.
    low, high
        First pixel of each rectangle and the one after its last, x and y (n, 2); all inside the image.
    """
    if not isinstance(array, TiledFile):
        yield from _patches_as_stored(array, low, high)
        return
    height, width = array.shape[:2]
    low, high = array.turn.stored(low, high, (width, height))
    for i, patch in _patches_as_stored(array, low, high):
        yield i, array.turn.upright(patch)


def _patches_as_stored(array: Any, low: np.ndarray, high: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    if isinstance(array, TiledFile) and array.tile is None:
        with array.bare_parts() as read:
            for i in np.lexsort(low.T).tolist():
                yield i, read(slice(low[i, 1], high[i, 1]), slice(low[i, 0], high[i, 0]))
        return
    tiles = _Tiles.of(array)
    if tiles is None:
        with quiet_readers():
            pixels = np.asarray(array)
        _check_shape(pixels, array.shape)
        for i, ((left, top), (right, bottom)) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
            yield i, pixels[top:bottom, left:right]
        return
    patch_bytes = int((high - low).prod(axis=1).max(initial=1)) * array.dtype.itemsize * array.shape[2]
    yield from tiles.patches(low, high, most=budget(patch_bytes, parts=2))


def n_missing_tiles(array: Any, low: np.ndarray, high: np.ndarray) -> int:
    """Count the tiles under some rectangles that the scanner left out; only a TIFF says so."""
    if not isinstance(array, TiledFile) or array.missing is None or array.tile is None:
        return 0
    height, width = array.shape[:2]
    low, high = array.turn.stored(np.maximum(low, 0), np.minimum(high, [width, height]), (width, height))
    inside = (low < high).all(axis=1)
    tile = np.array(array.tile, dtype=np.int64)
    first, last = low[inside, ::-1] // tile, (high[inside, ::-1] - 1) // tile
    # each rectangle adds 1 from its first tile on and takes it away after its last, along both axes
    touched = np.zeros(np.add(array.missing.shape, 1), dtype=np.int64)
    for row, one in ((first[:, 0], 1), (last[:, 0] + 1, -1)):
        for column, other in ((first[:, 1], 1), (last[:, 1] + 1, -1)):
            np.add.at(touched, (row, column), one * other)
    touched = touched.cumsum(axis=0).cumsum(axis=1)[:-1, :-1]
    return int((array.missing & (touched > 0)).sum())


def side_by_side(x: np.ndarray, first: np.ndarray, last: np.ndarray, *, most: int) -> Iterator[np.ndarray]:
    """Group patches so that few are begun and not yet whole while their tiles are read row by row.

    Parameters
    ----------
    x
        Horizontal place of each patch. A group with too many begun patches is halved from left to right.
    first, last
        First and last row of tiles that each patch touches.
    most
        Number of patches that may be begun at once.
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


def _parts(group: np.ndarray, first: np.ndarray, touched: np.ndarray) -> list[np.ndarray]:
    """Split a group from top to bottom into parts that touch no more tiles than fit into a list.

    A file can have very many tiny tiles.
    """
    if touched[group].sum() <= _MOST_TOUCHED:
        return [group]
    group = group[np.argsort(first[group], kind="stable")]
    return np.split(group, np.flatnonzero(np.diff(touched[group].cumsum() // _MOST_TOUCHED)) + 1)


@dataclass(frozen=True)
class _Tiles:
    """An image that is read tile by tile."""

    starts: tuple[np.ndarray, np.ndarray]
    """First pixel row of each row of tiles, and first pixel column of each column of tiles."""
    shape: tuple[int, int, int]
    """Shape of the image (y, x, channels)."""
    read: Callable[[Iterable[Place]], Iterator[tuple[Place, np.ndarray]]]

    @classmethod
    def of(cls, array: Any) -> "_Tiles | None":
        """The tiles of an image; None if it is in memory, or comes into memory whole whatever part is read."""
        if isinstance(array, TiledFile):
            assert array.tile is not None  # noqa: S101
            down, right = (np.arange(0, n, step) for n, step in zip(array.stored_size, array.tile, strict=True))
            return cls((down, right), (*array.stored_size, array.shape[2]), array.read_tiles)
        if not hasattr(array, "dask") or _is_read_whole(array):
            return None
        down, right = (np.cumsum([0, *lengths[:-1]]) for lengths in array.chunks[:2])
        return cls((down, right), array.shape, lambda tiles: _compute(array, tiles))

    def patches(self, low: np.ndarray, high: np.ndarray, *, most: int) -> Iterator[tuple[int, np.ndarray]]:
        """Put rectangles together from tiles, at most `most` at a time, and yield each as soon as it is whole."""
        first, last = self._tile_of(low), self._tile_of(high - 1)
        missing = (last - first + 1).prod(axis=1)
        groups = side_by_side(low[:, 0], first[:, 0], last[:, 0], most=most)
        for group in (part for whole in groups for part in _parts(whole, first[:, 0], missing)):
            touching: dict[Place, list[int]] = defaultdict(list)
            for i in group.tolist():
                for row in range(first[i, 0], last[i, 0] + 1):
                    for column in range(first[i, 1], last[i, 1] + 1):
                        touching[row, column].append(i)
            begun: dict[int, np.ndarray] = {}
            for tile, pixels in self.read(sorted(touching)):
                start = np.array([self.starts[1][tile[1]], self.starts[0][tile[0]]])
                _check_shape(pixels, self._shape_of(tile))
                end = start + pixels.shape[1::-1]
                for i in touching[tile]:
                    if i not in begun:
                        begun[i] = np.empty((*(high[i] - low[i])[::-1], pixels.shape[2]), pixels.dtype)
                    a, b = np.maximum(low[i], start), np.minimum(high[i], end)
                    begun[i][_box(a - low[i], b - low[i])] = pixels[_box(a - start, b - start)]
                    missing[i] -= 1
                    if not missing[i]:
                        yield i, begun.pop(i)

    def _shape_of(self, tile: Place) -> tuple[int, ...]:
        """Shape of the part of a tile that lies in the image."""
        ends = (min([*starts[i + 1 : i + 2], n]) for starts, i, n in zip(self.starts, tile, self.shape, strict=False))
        begins = (starts[i] for starts, i in zip(self.starts, tile, strict=True))
        return (*(int(end - begin) for begin, end in zip(begins, ends, strict=True)), self.shape[2])

    def _tile_of(self, places: np.ndarray) -> np.ndarray:
        """Row and column of the tile in which each pixel (x, y) lies (n, 2)."""
        down, right = self.starts
        row_and_column = [
            np.searchsorted(down, places[:, 1], "right") - 1,
            np.searchsorted(right, places[:, 0], "right") - 1,
        ]
        return np.stack(row_and_column, axis=1)


def _check_shape(pixels: np.ndarray, shape: tuple[int, ...]) -> None:
    """Refuse a tile that does not cover its place: it may reach beyond the image, but never be too small."""
    if pixels.ndim != 3 or pixels.shape[2] != shape[2] or (np.array(pixels.shape[:2]) < shape[:2]).any():
        msg = f"a part should have the shape {tuple(shape)} and has {pixels.shape}"
        raise ValueError(msg)


def _box(low: np.ndarray, high: np.ndarray) -> tuple[slice, slice]:
    return slice(low[1], high[1]), slice(low[0], high[0])


def _compute(array: Any, tiles: Iterable[Place]) -> Iterator[tuple[Place, np.ndarray]]:
    """Compute some blocks of a dask array, as many at a time as memory allows."""
    import dask

    tiles = list(tiles)
    block_bytes = max(array.chunks[0]) * max(array.chunks[1]) * array.shape[2] * array.dtype.itemsize
    step = budget(block_bytes, parts=2)
    for start in range(0, len(tiles), step):
        batch = tiles[start : start + step]
        with quiet_readers():
            blocks = dask.compute(*(array.blocks[tile] for tile in batch))
        yield from zip(batch, blocks, strict=True)


def _is_read_whole(array: Any) -> bool:
    """Whether one task computes opposite corners of an array, so that any part comes with the whole.

    squidpy reads a file by one task, and may rechunk it afterwards.
    """
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
