"""Cutting many square windows from one image; arrays in, arrays out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bleep_sc.pp._images import read_rgb

Border = Literal["white", "reflect"]
Watch = Callable[[Iterable[int]], Iterable[int]]


def cut_windows(
    array: Any, centres: np.ndarray, size: int, *, border: Border, name: str = "image", watch: Watch = iter
) -> np.ndarray:
    """Cut native pixels.

    Each window begins ``size // 2`` before the rounded centre. The part of the image that the windows touch is read
    once, whatever holds it.

    Parameters
    ----------
    array
        (y, x, channels), NumPy or dask.
    centres
        x and y in pixels (n, 2).
    size
        Side of the windows in pixels.
    border
        What stands where a window leaves the image.
    watch
        Wraps the loop over the windows, as a progress bar does.

    Returns
    -------
    uint8 (n, size, size, 3).
    """
    corners = native_corners(centres, size)
    out = np.empty((len(centres), size, size, 3), dtype=np.uint8)
    if len(centres):
        part = _Part.read(array, corners, size, border=border, name=name)
        for i in watch(range(len(centres))):
            out[i] = part.window(corners[i], size)
    return out


def cut_resampled(
    array: Any,
    centres: np.ndarray,
    width: float,
    size: int,
    *,
    border: Border,
    name: str = "image",
    watch: Watch = iter,
) -> np.ndarray:
    """Cut windows of a fractional width, exactly centred, and resample them to `size` pixels without aliasing.

    Pixel i covers the interval from i - 1/2 to i + 1/2, so a centre on a pixel stays on it. Returns as `cut_windows`.
    """
    from PIL import Image

    # the resampling filter reaches some pixels past the window
    margin = int(np.ceil(3 * max(1.0, width / size))) + 1
    outer = int(np.ceil(width)) + 2 * margin + 1
    begins = fractional_corners(centres, width)
    corners = np.floor(begins).astype(np.int64) - margin
    out = np.empty((len(centres), size, size, 3), dtype=np.uint8)
    if len(centres):
        part = _Part.read(array, corners, outer, border=border, name=name)
        for i in watch(range(len(centres))):
            x, y = begins[i] - corners[i]
            window = Image.fromarray(part.window(corners[i], outer))
            box = (x, y, x + width, y + width)
            out[i] = np.asarray(window.resize((size, size), Image.Resampling.BICUBIC, box=box))
    return out


def native_corners(centres: np.ndarray, size: int) -> np.ndarray:
    """First pixel (x, y) of windows of native pixels (n, 2)."""
    return np.rint(centres).astype(np.int64) - size // 2


def fractional_corners(centres: np.ndarray, width: float) -> np.ndarray:
    """Where resampled windows begin, from the upper left edge of the first pixel (n, 2)."""
    return centres - width / 2 + 0.5


def leave_image(corners: np.ndarray, width: float, width_height: np.ndarray) -> np.ndarray:
    """Which windows reach over the image's border (n,)."""
    return np.any((corners < 0) | (corners + width > width_height), axis=1)


@dataclass(frozen=True)
class _Part:
    """The part of an image that some windows touch, in memory as RGB."""

    pixels: np.ndarray
    low: np.ndarray
    """Its first pixel (x, y) in the image."""
    border: Border

    @classmethod
    def read(cls, array: Any, corners: np.ndarray, size: int, *, border: Border, name: str) -> "_Part":
        limit = np.array([array.shape[1], array.shape[0]])
        reach = size if border == "reflect" else 0  # a reflected window reads as far inwards as it looks outwards
        low = np.clip(corners.min(axis=0) - reach, 0, limit)
        high = np.clip(corners.max(axis=0) + size + reach, 0, limit)
        return cls(read_rgb(array[low[1] : high[1], low[0] : high[0]], name=name), low, border)

    def window(self, corner: np.ndarray, size: int) -> np.ndarray:
        """By its first pixel (x, y) in the image. It leaves the part only where it leaves the image."""
        x, y = corner - self.low
        height, width = self.pixels.shape[:2]
        if x < 0 or y < 0 or x + size > width or y + size > height:
            return _padded(self.pixels, x, y, size, border=self.border)
        return self.pixels[y : y + size, x : x + size]


def _padded(image: np.ndarray, x: int, y: int, size: int, *, border: Border) -> np.ndarray:
    rows, columns = np.arange(y, y + size), np.arange(x, x + size)
    height, width = image.shape[:2]
    if border == "reflect":
        return image[_reflect(rows, height)[:, None], _reflect(columns, width)]
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    window = image[np.clip(rows, 0, height - 1)[:, None], np.clip(columns, 0, width - 1)]
    window[~inside] = 255
    return window


def _reflect(index: np.ndarray, length: int) -> np.ndarray:
    """Mirror at the first and last pixel without repeating them, as NumPy's ``pad(mode="reflect")``."""
    if length == 1:
        return np.zeros_like(index)
    period = 2 * (length - 1)
    index = index % period
    return np.minimum(index, period - index)
