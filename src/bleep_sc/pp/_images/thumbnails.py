"""Make small pictures of an image of any size, within bounded memory."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bleep_sc._blocks import budget
from bleep_sc.pp._images.colors import check_rgb, to_rgb
from bleep_sc.pp._images.patches import check_parts, patches
from bleep_sc.pp._images.readers import quiet_readers, reader_errors_naming
from bleep_sc.pp._images.section import SectionImage

_GAP = 2.0
"""Averaging blocks of pixels brings an image down to this many times its new size; a filter does the rest."""

_SIDES = {"hires": 2000, "lowres": 600}
"""Largest side of each small image in pixels, as Space Ranger writes them."""


def pictures(image: SectionImage, *, name: str) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Make the small pictures that travel in `uns`, by name, and the scale factors that say how small they are."""
    small, factors = {}, {}
    level = image.coarsest(float(image.width_height.max() / max(_SIDES.values())))
    for size_name, (pixels, share) in thumbnails(level.array, _SIDES, name=name).items():
        small[size_name] = pixels
        factors[f"tissue_{size_name}_scalef"] = share * level.scale
    return small, factors


def thumbnails(array: Any, sides: Mapping[str, int], *, name: str) -> dict[str, tuple[np.ndarray, float]]:
    """Make RGB pictures of at most `sides` pixels, by name, each with its share of the full width.

    Parameters
    ----------
    array
        The image (y, x, channels): NumPy, dask or a file.
    sides
        Largest side of each picture in pixels, by name, from large to small: each is made from the one before.
    name
        Name of the image in messages.
    """
    from PIL import Image

    check_rgb(array, name=name)
    check_parts(array, name=name)
    length = np.array([array.shape[1], array.shape[0]])
    first = next(iter(sides.values()))
    step = np.maximum(1, length / _smaller(length, first) / _GAP).astype(np.int64)
    pixels, box = Image.fromarray(_averaged(array, step, name=name)), tuple(length / step)
    out: dict[str, tuple[np.ndarray, float]] = {}
    for size_name, side in sides.items():
        length = _smaller(length, side)
        pixels = pixels.resize(
            tuple(length.tolist()), Image.Resampling.LANCZOS, box=None if out else (0, 0, *box), reducing_gap=_GAP
        )
        out[size_name] = np.asarray(pixels), float(length[0] / array.shape[1])
    return out


def _smaller(length: np.ndarray, side: int) -> np.ndarray:
    """Width and height of a picture of at most `side` pixels."""
    return np.maximum(1, np.rint(length * min(1.0, side / length.max()))).astype(np.int64)


def _averaged(array: Any, step: np.ndarray, *, name: str) -> np.ndarray:
    """Average an image over blocks of `step` (x, y) pixels, read in bands of rows; RGB."""
    from PIL import Image

    height, width = array.shape[:2]
    whole = (-(-height // step[1]), -(-width // step[0]), 3)
    out = np.empty(whole, dtype=np.uint8)
    # a band is read, turned into RGB, and averaged: some copies of it are in memory
    rows = budget(width * array.shape[2] * array.dtype.itemsize * step[1], parts=16)
    begins = np.arange(0, whole[0], rows)
    low = np.stack([np.zeros_like(begins), begins * step[1]], axis=1)
    high = np.stack([np.full_like(begins, width), np.minimum((begins + rows) * step[1], height)], axis=1)
    with quiet_readers():
        bands = patches(array, low, high)
        while True:
            with reader_errors_naming(name):
                number, band = next(bands, (-1, None))
            if band is None:
                return out
            small = Image.fromarray(np.ascontiguousarray(to_rgb(band, name=name))).reduce(tuple(step.tolist()))
            out[begins[number] : begins[number] + rows] = np.asarray(small)
