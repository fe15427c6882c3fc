"""Tell whether an image of a file is a lower resolution of another one, which the file does not say."""

import numpy as np

from bleep_sc.pp._images.patches import check_parts, patches
from bleep_sc.pp._images.tiff import TiffImage

_GRID, _LOOKED_AT, _SIDE = 5, 6, 32
"""Places along each side that are looked at in the smaller image; the most varied ones are compared; their width."""
_VARIED, _SAME = 4.0, 0.9
"""Least standard deviation of grey levels for a comparison, and the correlation from which on two pictures are one."""


def shows_the_same(whole: TiffImage, smaller: TiffImage) -> bool | None:
    """Compare a few small parts of two images of which one may be the other, averaged over blocks of pixels.

    None where the smaller image is of one colour, so that nothing can be told.
    """
    for image in (whole, smaller):
        check_parts(image, name="image")
    step = round(whole.shape[1] / smaller.shape[1])
    limit = np.array(smaller.shape[1::-1])
    side = int(min(_SIDE, *limit))
    along = (np.arange(_GRID) + 0.5) / _GRID
    low = (np.stack(np.meshgrid(along, along), axis=-1).reshape(-1, 2) * (limit - side)).astype(np.int64)
    small = _green(smaller, low, side)
    varied = np.argsort(-small.std(axis=(1, 2)), kind="stable")[:_LOOKED_AT]
    if small[varied[0]].std() < _VARIED:
        return None
    large = _green(whole, low[varied] * step, side * step)
    averaged = large.reshape(len(varied), side, step, side, step).mean(axis=(2, 4))
    return bool(np.corrcoef(averaged.ravel(), small[varied].ravel())[0, 1] >= _SAME)


def _green(image: TiffImage, low: np.ndarray, side: int) -> np.ndarray:
    """Read squares of one channel (n, side, side); beyond the image they are empty."""
    limit = np.array(image.shape[1::-1])
    out = np.zeros((len(low), side, side))
    for number, part in patches(image, np.minimum(low, limit - 1), np.minimum(low + side, limit)):
        out[number, : part.shape[0], : part.shape[1]] = part[..., 1]
    return out
