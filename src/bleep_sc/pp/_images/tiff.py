"""Read only those tiles or strips of a TIFF that are asked for, so that it may have any size."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from bleep_sc._blocks import budget
from bleep_sc.pp._images.series import PagesAt
from bleep_sc.pp._images.tiff_colors import JPEG_2000, StoredColors
from bleep_sc.pp._images.tiled import AHEAD, Place, TiledFile, done_ahead
from bleep_sc.pp._images.turn import TURNS, UPRIGHT, Turn

_LARGER, _SMALL = 4, 2**16
"""Bounds on the pixels that a tile claims: at most so many times those of its place, as some writers fill tiles up.

A place of fewer pixels than the second number counts as that many.
"""
_ROWS = 256
"""Height up to which strips are read together; a strip is often a single row."""

_SAMPLED = 16
"""Number of places that are looked at to tell the range of the values."""
_SEPARATE = 2
"""Value of PlanarConfiguration: a plane for each channel."""
_EIGHT_BITS = 255
_MARKER, _FRAMES = 0xFF, frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""What each segment of a JPEG begins with, and the kinds of segment that say its size."""

Segment = Callable[[], tuple[np.ndarray | None, tuple[int, ...]]]
"""A function that decodes bytes that were read from a file, and says their shape; it may run in any thread.

There are no pixels where the file leaves a part out.
"""


@dataclass(frozen=True, eq=False)
class TiffImage(TiledFile):
    """One level of an image in a TIFF, which stays on disk; upright and in RGB wherever it is read.

    The object holds no open file, so it can be pickled and read by another process.
    """

    path: Path
    pages: PagesAt
    stored_size: tuple[int, int]
    """Height and width of the stored pixels."""
    colors: StoredColors
    turn: Turn
    tile: tuple[int, int] | None
    """Height and width of what is read at one go; ``None`` where pixels lie bare in the file."""
    strips: int = 1
    """Number of strips that make up a tile."""
    missing: np.ndarray | None = None
    """Which tiles the scanner left out, boolean (rows, columns); ``None`` where it left out none."""

    @classmethod
    def of(cls, path: Path, tiff: Any, pages: PagesAt, colors: StoredColors) -> "TiffImage":
        """Read from the tags of an open file how an image is stored."""
        opened = pages.of(tiff)
        key = opened[0].keyframe
        size = (key.imagelength, key.imagewidth)
        turn = TURNS.get(int(key.tags.valueof(274, 1)), UPRIGHT)
        if len(opened) == 1 and key.is_memmappable:
            return cls(path, pages, size, colors, turn, None)
        strips = 1 if key.is_tiled else max(1, _ROWS // key.rowsperstrip)
        tile = (key.tilelength, key.tilewidth) if key.is_tiled else (strips * key.rowsperstrip, key.imagewidth)
        image = cls(path, pages, size, colors, turn, tile, strips)
        return replace(image, missing=image._left_out(opened))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its values."""
        return self.colors.dtype

    def in_eight_bits(self) -> "TiffImage":
        """Return the image with the range of its values settled: some writers put 0 to 255 into 16 bits.

        A few tiles tell. No section is so dark that its brightest pixel is 1 of 255.
        """
        maximum = self.colors.maximum
        if maximum is None or maximum <= _EIGHT_BITS or self.colors.model not in ("RGB", "gray"):
            return self
        if max((int(part.max(initial=0)) for part in self._sample()), default=0) > 1:
            return self
        return replace(self, colors=replace(self.colors, maximum=_EIGHT_BITS))

    def _sample(self) -> Iterator[np.ndarray]:
        """Read some tiles, or some rows where there are none."""
        high, wide = self.stored_size
        if self.tile is None:
            with self.bare_parts() as read:
                for row in np.unique(np.linspace(0, high - 1, _SAMPLED).astype(int)).tolist():
                    yield read(slice(row, row + 1), slice(0, wide))
            return
        rows, columns = -(-high // self.tile[0]), -(-wide // self.tile[1])
        numbers = np.unique(np.linspace(0, rows * columns - 1, _SAMPLED).astype(int))
        for _, pixels in self.read_tiles((int(number // columns), int(number % columns)) for number in numbers):
            yield pixels

    @contextmanager
    def bare_parts(self) -> Iterator[Callable[[slice, slice], np.ndarray]]:
        """Open a file without tiles, and give a function that reads some stored rows and columns (y, x, channels)."""
        with self.pages.opened(self.path) as pages:
            page = pages[0]

            def read(rows: slice, columns: slice) -> np.ndarray:
                # mapped again each time, so that what was read before can leave memory
                mapped = page.asarray(out="memmap", squeeze=False)
                part = np.moveaxis(mapped[:, 0, rows, columns], 0, 2)  # the first or the last axis holds the channels
                samples = np.array(part.reshape(*part.shape[:2], -1), dtype=page.dtype)
                return self.colors.rgb(samples)

            yield read

    def read_tiles(self, tiles: Iterable[Place]) -> Iterator[tuple[Place, np.ndarray]]:
        """Decode some stored tiles (y, x, channels) in turn; tiles at the border may reach beyond the image."""
        with self.pages.opened(self.path) as pages:
            key = pages[0].keyframe
            threads = key.maxworkers
            assert self.tile is not None  # noqa: S101 - bare pixels have none
            tile_bytes = self.tile[0] * self.tile[1] * key.samplesperpixel * len(pages) * key.dtype.itemsize
            most = min(AHEAD * threads, budget(tile_bytes, parts=2))
            jobs = ((tile, partial(self._assembled, self._segments(pages, tile))) for tile in tiles)
            yield from done_ahead(jobs, threads=threads, most=most)

    def _left_out(self, pages: list[Any]) -> np.ndarray | None:
        """Find the tiles without a byte; a file that is damaged here is refused when it is read."""
        assert self.tile is not None  # noqa: S101 - bare pixels have none
        with suppress(Exception):
            high, wide = (-(-n // side) for n, side in zip(self.stored_size, self.tile, strict=True))
            empty = np.zeros((high * self.strips, wide), dtype=bool)
            for page in pages:
                counts = np.asarray(page.databytecounts)
                planes = page.keyframe.samplesperpixel if page.keyframe.planarconfig == _SEPARATE else 1
                of_planes = (counts.reshape(planes, -1, wide) == 0).any(axis=0)
                empty[: len(of_planes)] |= of_planes
            of_tiles = np.asarray(empty.reshape(high, self.strips, wide).any(axis=1))
            return of_tiles if of_tiles.any() else None
        return None

    def _segments(self, pages: list[Any], tile: Place) -> list[list[Segment]]:
        """Read a tile, strip by strip, from each plane of channels; the segments are still to be decoded."""
        assert self.tile is not None  # noqa: S101 - bare pixels have none
        key = pages[0].keyframe
        high, wide = -(-self.stored_size[0] * self.strips // self.tile[0]), -(-self.stored_size[1] // self.tile[1])
        rows = range(tile[0] * self.strips, min((tile[0] + 1) * self.strips, high))
        planes = range(key.samplesperpixel if key.planarconfig == _SEPARATE else 1)
        return [
            [_read_segment(page, (plane * high + row) * wide + tile[1]) for page in pages for plane in planes]
            for row in rows
        ]

    def _assembled(self, strips: list[list[Segment]]) -> np.ndarray:
        """Decode a tile and turn it into RGB; what the scanner left out is white, as the glass is."""
        out = []
        for planes in strips:
            decoded = [decode() for decode in planes]
            if any(pixels is None for pixels, _ in decoded):
                white = np.uint8(_EIGHT_BITS) if self.colors.maximum is not None else np.float32(1)
                out.append(np.full((*decoded[0][1][1:3], 3), white))
                continue
            samples = [pixels for pixels, _ in decoded if pixels is not None]
            out.append(self.colors.rgb(samples[0] if len(samples) == 1 else np.concatenate(samples, axis=-1)))
        return out[0] if len(out) == 1 else np.concatenate(out, axis=0)


def lacks_codec(page: Any) -> bool:
    """Whether a page is compressed by JPEG 2000 and this installation of imagecodecs cannot read that."""
    import imagecodecs

    return page.keyframe.compression in JPEG_2000 and not imagecodecs.JPEG2K.available


def _read_segment(page: Any, index: int) -> Segment:
    # each attribute may look into the file: none may be left to the thread that decodes
    key, file = page.keyframe, page.parent.filehandle
    decode = key.decode
    tables = {name: getattr(page, name, None) for name in ("jpegtables", "jpegheader")}  # a frame lacks the second
    offset, count = page.dataoffsets[index], page.databytecounts[index]
    file.seek(offset)
    encoded = file.read(count)
    if len(encoded) < count:
        msg = f"a tile should have {count} bytes and has {len(encoded)}"
        raise ValueError(msg)

    _check_claim(encoded, key)

    def decoded() -> tuple[np.ndarray | None, tuple[int, ...]]:
        pixels, _, shape = decode(encoded or None, index, **tables)
        return None if pixels is None else np.asarray(pixels)[0], shape

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
        pixels = _pixels_of_jpeg(encoded)
        if pixels is None:
            with Image.open(BytesIO(encoded)) as inner:
                pixels = inner.size[0] * inner.size[1]
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        pixels = Image.MAX_IMAGE_PIXELS or 0  # or more
    except Exception:  # noqa: BLE001 - not one of Pillow's: its own decoder says what is wrong
        return
    if pixels > _LARGER * max(high * wide, _SMALL):
        msg = f"a tile of {wide} x {high} pixels says that it has {pixels} or more"
        raise ValueError(msg)


def _pixels_of_jpeg(encoded: bytes) -> int | None:
    """Read from the header of a JPEG how many pixels it has, for which Pillow would take a tenth of a decoding.

    None where there is no such header.
    """
    at = 2 if encoded[:2] == b"\xff\xd8" else len(encoded)
    while at + 9 <= len(encoded) and encoded[at] == _MARKER:
        kind = encoded[at + 1]
        if kind in _FRAMES:
            return int.from_bytes(encoded[at + 5 : at + 7]) * int.from_bytes(encoded[at + 7 : at + 9])
        at += 2 + int.from_bytes(encoded[at + 2 : at + 4])
    return None
