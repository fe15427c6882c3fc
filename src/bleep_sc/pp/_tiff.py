"""Read only those tiles or strips of a TIFF that are asked for, so that it may have any size."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from bleep_sc._blocks import budget

_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ONE_PLANE = ("YX", "YXS", "SYX", "CYX")
_AHEAD = 2
"""Number of tiles that are read ahead for each thread that decodes them."""
_LARGER, _SMALL = 4, 2**16
"""Bounds on the pixels that a tile claims: at most so many times those of its place, as some writers fill tiles up.

A place of fewer pixels than the second number counts as that many.
"""
_ROWS = 256
"""Height up to which strips are read together; a strip is often a single row."""

Segment = Callable[[], np.ndarray]
"""A function that decodes bytes that were read from a file; it may run in any thread."""
Place = tuple[int, int]
"""Row and column of a pixel or of a tile."""


@dataclass(frozen=True)
class TiffImage:
    """The largest image of a TIFF at full resolution, which stays on disk.

    The object holds no open file, so it can be pickled and read by another process.
    """

    path: Path
    shape: tuple[int, int, int]
    """Shape of the image (y, x, channels)."""
    dtype: np.dtype[Any]
    tile: tuple[int, int] | None
    """Height and width of what is read at one go; ``None`` where pixels lie bare in the file."""
    strips: int = 1
    """Number of strips that make up a tile."""

    @classmethod
    def find(cls, path: Path) -> "TiffImage | None":
        """Find the image of a file; None where the file is no TIFF, or a stack of planes."""
        if not path.is_file():
            return None
        with path.open("rb") as file:
            if file.read(4) not in _SIGNATURES:
                return None
        with _largest(path) as image:
            key, pages = image.keyframe, image.pages
            size = len(pages) * key.imagelength * key.imagewidth * key.samplesperpixel
            if image.axes not in _ONE_PLANE or size != image.size or image.is_multifile or None in pages:
                return None
            path, dtype = path.resolve(), np.dtype(key.dtype)
            shape = (key.imagelength, key.imagewidth, len(pages) * key.samplesperpixel)
            if len(pages) == 1 and key.is_memmappable:
                return cls(path, shape, dtype, None)
            if key.is_tiled:
                return cls(path, shape, dtype, (key.tilelength, key.tilewidth))
            strips = max(1, _ROWS // key.rowsperstrip)
            return cls(path, shape, dtype, (strips * key.rowsperstrip, key.imagewidth), strips)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:  # noqa: FBT001 - NumPy's signature
        with _largest(self.path) as image:
            pixels = image.asarray()
        channels_last = np.moveaxis(pixels, 0, -1) if image.axes in ("SYX", "CYX") else pixels
        return np.asarray(channels_last.reshape(self.shape), dtype=dtype)

    @contextmanager
    def bare_parts(self) -> Iterator[Callable[[slice, slice], np.ndarray]]:
        """Open a file without tiles, and give a function that reads some of its rows and columns (y, x, channels)."""
        with _largest(self.path) as image:
            page = image.pages[0]

            def read(rows: slice, columns: slice) -> np.ndarray:
                # mapped anew each time, so that what was read before can leave memory
                mapped = page.asarray(out="memmap", squeeze=False)
                part = np.moveaxis(mapped[:, 0, rows, columns], 0, 2)  # the first or the last axis holds the channels
                return np.array(part.reshape(*part.shape[:2], -1), dtype=self.dtype)

            yield read

    def read_tiles(self, tiles: Iterable[Place]) -> Iterator[tuple[Place, np.ndarray]]:
        """Decode some tiles (y, x, channels) in turn; tiles at the border may reach beyond the image."""
        with _largest(self.path) as image:
            threads = image.keyframe.maxworkers
            assert self.tile is not None  # noqa: S101 - bare pixels have none
            tile_bytes = self.tile[0] * self.tile[1] * self.shape[2] * self.dtype.itemsize
            most = min(_AHEAD * threads, budget(tile_bytes, parts=2))
            if threads < 2:  # a thread of its own would only make memory dearer
                for tile in tiles:
                    yield tile, _assembled(self._segments(image, tile))
                return
            ahead: deque[tuple[Place, Future[np.ndarray]]] = deque()
            with ThreadPoolExecutor(threads) as workers:
                for tile in tiles:
                    ahead.append((tile, workers.submit(_assembled, self._segments(image, tile))))
                    if len(ahead) == most:
                        place, decoded = ahead.popleft()
                        yield place, decoded.result()
                for place, decoded in ahead:
                    yield place, decoded.result()

    def _segments(self, image: Any, tile: Place) -> list[list[Segment]]:
        """Read a tile, strip by strip, from each plane of channels; the segments are still to be decoded."""
        assert self.tile is not None  # noqa: S101 - bare pixels have none
        key = image.keyframe
        high, wide = -(-self.shape[0] * self.strips // self.tile[0]), -(-self.shape[1] // self.tile[1])
        rows = range(tile[0] * self.strips, min((tile[0] + 1) * self.strips, high))
        return [
            [_read_segment(page, (plane * high + row) * wide + tile[1], self.dtype) for row in rows]
            for page in image.pages
            for plane in range(key.samplesperpixel if key.planarconfig == 2 else 1)
        ]


def _read_segment(page: Any, index: int, dtype: np.dtype[Any]) -> Segment:
    # each attribute may look into the file: none may be left to the thread that decodes
    key, file = page.keyframe, page.parent.filehandle
    decode, empty = key.decode, key.nodata
    tables = {"jpegtables": page.jpegtables, "jpegheader": key.jpegheader}
    offset, count = page.dataoffsets[index], page.databytecounts[index]
    file.seek(offset)
    encoded = file.read(count)
    if len(encoded) < count:
        msg = f"a tile should have {count} bytes and has {len(encoded)}"
        raise ValueError(msg)

    _check_claim(encoded, key)

    def decoded() -> np.ndarray:
        pixels, _, shape = decode(encoded or None, index, **tables)
        # a sparse file leaves empty tiles out
        return np.full(shape[1:], empty, dtype=dtype) if pixels is None else np.asarray(pixels)[0]

    return decoded


def _check_claim(encoded: bytes, key: Any) -> None:
    """Refuse a tile that claims too large a size.

    A tile can be an image file of its own, which says how large it is, and its decoder takes memory for that.
    """
    from PIL import Image
    from tifffile import TIFF

    if key.compression not in TIFF.IMAGE_COMPRESSIONS or not encoded:
        return
    high, wide = (key.tilelength, key.tilewidth) if key.is_tiled else (key.rowsperstrip, key.imagewidth)
    try:
        with Image.open(BytesIO(encoded)) as inner:
            pixels = inner.size[0] * inner.size[1]
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        pixels = Image.MAX_IMAGE_PIXELS or 0  # or more
    except Exception:  # noqa: BLE001 - not one of Pillow's: its own decoder says what is wrong
        return
    if pixels > _LARGER * max(high * wide, _SMALL):
        msg = f"a tile of {wide} x {high} pixels says that it has {pixels} or more"
        raise ValueError(msg)


def _assembled(planes: list[list[Segment]]) -> np.ndarray:
    decoded = [[decode() for decode in strips] for strips in planes]
    if len(decoded) == len(decoded[0]) == 1:
        return decoded[0][0]
    return np.concatenate([np.concatenate(strips, axis=0) for strips in decoded], axis=-1)


@contextmanager
def _largest(path: Path) -> Iterator[Any]:
    """Open a file, and give its largest image: the highest level of its pyramid."""
    from tifffile import TiffFile

    with TiffFile(path) as tiff:
        yield max(tiff.series, key=lambda image: image.keyframe.imagelength * image.keyframe.imagewidth).levels[0]
