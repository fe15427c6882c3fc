"""The spots of one section and how their crops are cut from its image, at once or on demand."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bleep_sc.pp._cut import Border, fractional_corners, leave_image, native_corners, write_windows
from bleep_sc.pp._images.patches import n_missing_tiles
from bleep_sc.pp._images.raster import RasterFile
from bleep_sc.pp._images.readers import quiet_readers, reader_errors_naming
from bleep_sc.pp._images.section import SectionImage

MOST_PIXELS = 2**14
"""Largest side of a window in pixels, before and after resampling."""
_LAZY_BLOCK = 128


@dataclass(frozen=True)
class SectionCrops:
    """The spots of one section and how their crops are cut from its image."""

    library_id: str
    rows: np.ndarray
    image: SectionImage
    """The image, or one of its lower levels, that the crops are cut from."""
    centres: np.ndarray
    """Spot centres in pixels of the image (n, 2)."""
    size: int
    width: float | None
    """Width of the windows in pixels of the image, where they are resampled to `size`; else ``None``."""
    border: Border

    @property
    def full_width(self) -> float:
        """Width of a window in full-resolution pixels."""
        return (self.size if self.width is None else self.width) / self.image.scale

    @property
    def _corners(self) -> tuple[np.ndarray, float]:
        """Where the windows begin in the image (n, 2), and how wide they are."""
        if self.width is None:
            return native_corners(self.centres, self.size), self.size
        return fractional_corners(self.centres, self.width), self.width

    def in_memory(self) -> "SectionCrops":
        """Read an image that can only be read whole, so that it is read once."""
        if not isinstance(self.image.array, RasterFile):
            return self
        with reader_errors_naming(f"image of {self.library_id!r}"), quiet_readers():
            array = np.asarray(self.image.array)
        return replace(self, image=replace(self.image, array=array))

    def write(self, out: np.ndarray, rows: np.ndarray, spots: Any = slice(None)) -> Iterator[int]:
        """Write the crops of some spots of the section into these rows of `out`; yield after each crop."""
        return write_windows(
            out,
            self.image.array,
            centres=self.centres[spots],
            rows=rows,
            width=self.width,
            border=self.border,
            name=f"image of {self.library_id!r}",
        )

    def n_padded(self) -> int:
        """Count the crops that reach over the edge of the image."""
        corners, width = self._corners
        return int(leave_image(corners, width, self.image.width_height).sum())

    def n_missing_tiles(self) -> int:
        """Count the tiles under the crops that the scanner left out."""
        corners, width = self._corners
        low, high = np.floor(corners).astype(np.int64), np.ceil(corners + width).astype(np.int64)
        return n_missing_tiles(self.image.array, low, high)


def section_crops(
    library_id: str,
    rows: np.ndarray,
    image: SectionImage,
    xy: np.ndarray,
    *,
    size: int,
    um: float | None,
    um_per_px: float,
    border: Border,
) -> SectionCrops:
    """Choose the level of the image and the width of the windows.

    Raises
    ------
    ValueError
        `um` without a known scale, or so wide or narrow that one of them must be wrong.
    """
    if um is None:
        return SectionCrops(library_id, rows, image, image.centres(xy), size, None, border)
    if np.isnan(um_per_px):
        hint = (
            ""
            if image.tag is None or not image.tag.believed
            else f" By {image.tag.source} it is {image.tag.um_per_px:.6g}."
        )
        msg = (
            f"`um={um:g}`: the scale of {library_id!r} is unknown. Pass `mpp=`, its µm per full-resolution pixel, or "
            f"leave `um` out to cut native pixels.{hint}"
        )
        raise ValueError(msg)
    width = um / um_per_px * image.scale
    if not 1 <= width <= MOST_PIXELS:
        msg = (
            f"`um={um:g}` is {width:.3g} pixels wide on the image of {library_id!r}, of {um_per_px / image.scale:.3g} "
            f"µm per pixel; 1 to {MOST_PIXELS} are expected. Is either not in µm, or the scale of the image wrong?"
        )
        raise ValueError(msg)
    level = image.coarsest(width / size)
    return SectionCrops(library_id, rows, level, level.centres(xy), size, width * level.scale / image.scale, border)


def lazy_crops(sections: list[SectionCrops], n_obs: int, size: int) -> Any:
    """Make a dask array in blocks of spots. Each block is cut when it is asked for."""
    from uuid import uuid4

    import dask.array as da

    section_of = np.empty(n_obs, dtype=np.int64)
    place = np.empty(n_obs, dtype=np.int64)
    for number, section in enumerate(sections):
        section_of[section.rows] = number
        place[section.rows] = np.arange(len(section.rows))

    def cut_block(rows: np.ndarray) -> np.ndarray:
        out = np.empty((len(rows), size, size, 3), dtype=np.uint8)
        for number in np.unique(section_of[rows]):
            out_rows = np.flatnonzero(section_of[rows] == number)
            for _ in sections[number].write(out, out_rows, place[rows[out_rows]]):
                pass
        return out

    index = da.arange(n_obs, chunks=_LAZY_BLOCK)
    return da.map_blocks(
        cut_block,
        index,
        dtype=np.uint8,
        chunks=(index.chunks[0], (size,), (size,), (3,)),
        new_axis=[1, 2, 3],
        meta=np.empty((0, 0, 0, 0), dtype=np.uint8),
        name=f"crops-{uuid4().hex}",
    )
