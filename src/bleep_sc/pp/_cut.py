"""Cutting many square windows from one image; arrays in, arrays out."""

from typing import Any, Literal

import numpy as np

from bleep_sc.pp._images import read_pixels, to_rgb

Border = Literal["white", "reflect"]


def cut_windows(array: Any, centres: np.ndarray, size: int, *, border: Border, name: str = "image") -> np.ndarray:
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

    Returns
    -------
    uint8 (n, size, size, 3).
    """
    return _slice(array, native_corners(centres, size), size, border=border, name=name)


def cut_resampled(
    array: Any, centres: np.ndarray, width: float, size: int, *, border: Border, name: str = "image"
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
    for start in range(0, len(centres), 256):
        part = slice(start, start + 256)
        windows = _slice(array, corners[part], outer, border=border, name=name)
        for i, window in enumerate(windows, start):
            x, y = begins[i] - corners[i]
            image = Image.fromarray(window).resize(
                (size, size), Image.Resampling.BICUBIC, box=(x, y, x + width, y + width)
            )
            out[i] = np.asarray(image)
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


def _slice(array: Any, corners: np.ndarray, size: int, *, border: Border, name: str) -> np.ndarray:
    """Windows by their first pixel (x, y), which may lie outside."""
    height, width = array.shape[:2]
    out = np.empty((len(corners), size, size, 3), dtype=np.uint8)
    if not len(corners):
        return out
    limit = np.array([width, height])
    left = leave_image(corners, size, limit)
    reach = size if border == "reflect" else 0  # a reflected window reads as far inwards as it looks outwards
    low = np.clip(corners.min(axis=0) - reach, 0, limit)
    high = np.clip(corners.max(axis=0) + size + reach, 0, limit)
    image = to_rgb(read_pixels(array[low[1] : high[1], low[0] : high[0]]), name=name)
    for i, (x, y) in enumerate(corners - low):
        if left[i]:
            out[i] = _padded(image, x, y, size, border=border)
        else:
            out[i] = image[y : y + size, x : x + size]
    return out


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
