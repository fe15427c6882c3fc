"""Turn the pixels of any image in memory into RGB of 8 bits, or say why they cannot be."""

from typing import Any

import numpy as np

from bleep_sc.pp._images.tiff_colors import over_white


def check_rgb(array: Any, *, name: str) -> None:
    """Refuse what cannot be turned into RGB uint8, before any pixel is read."""
    height, width, channels = array.shape
    if not height or not width:
        msg = f"`{name}` is empty, {width} x {height} pixels: was it cropped to nothing?"
        raise ValueError(msg)
    if channels not in (1, 3, 4):
        msg = (
            f"`{name}` has {channels} channels; an H&E image has 3 (RGB), 4 (RGBA) or 1 (grey). Choose the stained "
            "channels, or an ImageContainer layer that holds them."
        )
        raise ValueError(msg)
    if array.dtype.kind not in "uif" and array.dtype != bool:
        msg = f"`{name}` must hold numbers, found {array.dtype}."
        raise ValueError(msg)


def to_rgb(array: np.ndarray, *, name: str) -> np.ndarray:
    """Turn an image (y, x, 1 | 3 | 4) into RGB uint8: floats are taken as 0..1, transparency is laid on white.

    Raises
    ------
    ValueError
        The image holds integers above 255 or floats outside 0..1, whose scale is not known.
    """
    if array.dtype != np.uint8:
        low, high = (array.min(), array.max()) if array.size else (0, 0)
        if array.dtype.kind == "f":
            if not np.isfinite([low, high]).all():
                msg = f"`{name}` holds NaN or infinite values. Replace them, as by 1 (white)."
                raise ValueError(msg)
            if not (low >= 0 and high <= 1):
                msg = (
                    f"`{name}` holds floats from {low:.3g} to {high:.3g}; 0 to 1 is expected. Divide it by its largest "
                    "possible value, or convert it to uint8."
                )
                raise ValueError(msg)
            array = np.rint(array * 255).astype(np.uint8)
        elif low < 0 or high > 255:
            msg = (
                f"`{name}` is {array.dtype} with values from {low} to {high}; 0 to 255 is expected. Scale it to uint8, "
                "as by `skimage.util.img_as_ubyte`."
            )
            raise ValueError(msg)
        else:
            array = (array * 255 if array.dtype == bool else array).astype(np.uint8)
    if array.shape[2] == 1:
        return np.repeat(array, 3, axis=2)
    if array.shape[2] == 4:
        return over_white(array[..., :3], array[..., 3], premultiplied=False)
    return array
