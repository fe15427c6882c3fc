"""Cut many square windows from one image; arrays in, arrays out."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from bleep_sc.pp._images.colors import to_rgb
from bleep_sc.pp._images.patches import patches
from bleep_sc.pp._images.readers import reader_errors_naming

Border = Literal["white", "reflect"]


def cut_windows(array: np.ndarray, centres: np.ndarray, size: int, *, border: Border) -> np.ndarray:
    """Cut windows of native pixels, uint8 (n, size, size, 3), from an array (y, x, channels)."""
    out = np.empty((len(centres), size, size, 3), dtype=np.uint8)
    for _ in write_windows(out, array, centres=centres, border=border):
        pass
    return out


def write_windows(
    out: np.ndarray,
    array: Any,
    *,
    centres: np.ndarray,
    rows: np.ndarray | None = None,
    width: float | None = None,
    border: Border,
    name: str = "image",
) -> Iterator[int]:
    """Cut a window around each centre, in an order that reads each part of the image about once.

    Windows of native pixels begin ``size // 2`` before the rounded centre. Those of a given width are exactly centred
    and resampled without aliasing. Pixel i covers the interval from i - 1/2 to i + 1/2, so a centre on a pixel stays
    on it.

    Parameters
    ----------
    out
        Array that the windows are written to, uint8 (n, size, size, 3).
    array
        The image (y, x, channels): NumPy, dask or a file.
    centres
        Centres of the windows, x and y in pixels (n, 2).
    rows
        The row of `out` that each window is written to; all rows in turn by default.
    width
        Width of the windows in pixels, which may be a fraction, where they are to be resampled.
    border
        What fills a window where it leaves the image.
    name
        Name of the image in messages.

    Yields
    ------
    The number of each window once it is written.
    """
    size = out.shape[1]
    rows = np.arange(len(centres)) if rows is None else rows
    if width is None:
        for i, window in _windows(array, native_corners(centres, size), size, border=border, name=name):
            out[rows[i]] = window
            yield i
        return
    from PIL import Image

    # the resampling filter reaches some pixels past the window
    margin = int(np.ceil(3 * max(1.0, width / size))) + 1
    outer = int(np.ceil(width)) + 2 * margin + 1
    begins = fractional_corners(centres, width)
    corners = np.floor(begins).astype(np.int64) - margin
    for i, window in _windows(array, corners, outer, border=border, name=name):
        x, y = begins[i] - corners[i]
        box = (x, y, x + width, y + width)
        out[rows[i]] = np.asarray(Image.fromarray(window).resize((size, size), Image.Resampling.BICUBIC, box=box))
        yield i


def native_corners(centres: np.ndarray, size: int) -> np.ndarray:
    """Compute the first pixel (x, y) of each window of native pixels (n, 2)."""
    return np.rint(centres).astype(np.int64) - size // 2


def fractional_corners(centres: np.ndarray, width: float) -> np.ndarray:
    """Compute where resampled windows begin, from the upper left edge of the first pixel (n, 2)."""
    return centres - width / 2 + 0.5


def leave_image(corners: np.ndarray, width: float, width_height: np.ndarray) -> np.ndarray:
    """Tell which windows reach over the border of the image (n,)."""
    return np.any((corners < 0) | (corners + width > width_height), axis=1)


def _windows(
    array: Any, corners: np.ndarray, size: int, *, border: Border, name: str
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each window with its number, as RGB (size, size, 3)."""
    low, high = _needed(corners, size, np.array([array.shape[1], array.shape[0]]), border)
    places = (corners - low).tolist()
    patches_by_number = patches(array, low, high)
    while True:
        with reader_errors_naming(name):
            number, patch = next(patches_by_number, (-1, None))
        if patch is None:
            return
        pixels, (x, y) = to_rgb(patch, name=name), places[number]
        # a patch differs from its window only where that leaves the image
        whole = x == y == 0 and pixels.shape[:2] == (size, size)
        yield number, pixels if whole else _padded(pixels, x, y, size, border=border)


def _needed(corners: np.ndarray, size: int, limit: np.ndarray, border: Border) -> tuple[np.ndarray, np.ndarray]:
    """Find the part of the image that each window needs: its first pixel and the one after its last (n, 2), x first."""
    reach: int | np.ndarray = 0
    if border == "reflect":  # it reads as far inwards as it looks outwards
        reach = np.where((corners < 0) | (corners + size > limit), size, 0)
    return np.clip(corners - reach, 0, limit), np.clip(corners + size + reach, 0, limit)


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
    """Mirror positions at the first and last pixel without repeating these, as NumPy's ``pad(mode="reflect")``."""
    if length == 1:
        return np.zeros_like(index)
    period = 2 * (length - 1)
    index = index % period
    return np.minimum(index, period - index)
