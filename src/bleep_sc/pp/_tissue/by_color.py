"""Tell tissue from glass by colour, on a small picture of a slide."""

import numpy as np

CHANNELS = 3
_NO_PEN = 96
"""Percentile of colourfulness at which it is cut off, so that pen marks do not set the threshold."""
_CONTRAST = 8
"""Least distance between tissue and glass, of 255, for a picture to show both."""
_BLACK, _BRIGHT_PEN, _NOT_H_AND_E = 45, 170, 12
"""Of 255. A pixel whose brightest channel is below the first is black: an edge, no scan, a black pen. One whose
channels are further apart than the second is a pure colour. The dyes of H&E absorb green most: where red is below green
by more than the third, the colour is blue, green or turquoise ink."""
_RIM = 0.004
"""Width of the rim around ink that is left out with it, as a share of the picture's longer side."""
_LEAST_INK = 5e-4
"""Ink covers more than this share of the picture; smaller dark parts are clumps of nuclei or dust."""
_GREEN, _DARKEST, _PALE = 1, 20, 0.3
"""Tissue is darker than the glass in green, where its dyes absorb most, by this share of the way to the percentile of
all that is coloured."""
_SPECK, _HOLE = 0.02, 0.02
"""Parts smaller than this share of all tissue are specks, and holes that are smaller than this share are filled."""


def tissue_by_color(pixels: np.ndarray, *, leave_out: np.ndarray | None = None) -> np.ndarray | None:
    """Tell tissue from glass by how coloured it is (Otsu's threshold); None where the picture does not show both.

    Parameters
    ----------
    pixels
        Values from 0 to 255 (y, x, 3 or more).
    leave_out
        Pixels that are no tissue, and no glass either (y, x).
    """
    from skimage.filters import gaussian, threshold_otsu

    if pixels.shape[2] < CHANNELS:
        return None
    colored = _colorfulness(pixels)
    if leave_out is not None:
        colored[leave_out] = 0
    colored = gaussian(colored, sigma=max(pixels.shape[:2]) / 200, preserve_range=True)
    looked_at = colored if leave_out is None else colored[~leave_out]
    if not looked_at.size:
        return None
    highest = np.percentile(looked_at, _NO_PEN)
    colored, looked_at = np.minimum(colored, highest), np.minimum(looked_at, highest)
    if np.ptp(looked_at) < _CONTRAST:
        return None
    mask = colored > threshold_otsu(looked_at)
    if leave_out is not None:
        mask &= ~leave_out
    if not mask.any() or looked_at[looked_at > 0].size == 0:
        return None
    glass = ~mask if leave_out is None else ~mask & ~leave_out
    if colored[mask].mean() - colored[glass].mean() < _CONTRAST:
        return None
    return np.asarray(mask)


def tissue_mask(pixels: np.ndarray) -> np.ndarray | None:
    """Find the tissue of a slide, without ink, black edges, specks and small holes; None where there is none.

    Parameters
    ----------
    pixels
        A small picture of the slide, uint8 (y, x, 3).
    """
    ink = _ink(pixels)
    mask = tissue_by_color(pixels, leave_out=ink)
    if mask is None:
        return None
    mask &= _dark(pixels, mask, ~mask & ~ink)
    area = int(mask.sum())
    mask = ~_without_small(~_without_small(mask, _SPECK * area), _HOLE * area) & ~ink
    return mask if mask.any() else None


def _dark(pixels: np.ndarray, colored: np.ndarray, glass: np.ndarray) -> np.ndarray:
    """Tell tissue from dye that ran out onto the glass, which is coloured too, and nearly as bright as the glass."""
    from skimage.filters import gaussian

    green = gaussian(pixels[..., _GREEN].astype(np.float32), sigma=max(pixels.shape[:2]) / 400, preserve_range=True)
    bright, dark = np.median(green[glass]), np.percentile(green[colored], _DARKEST)
    return np.asarray(green < bright - _PALE * (bright - dark))


def _without_small(mask: np.ndarray, least: float) -> np.ndarray:
    """Leave out the connected parts of fewer pixels."""
    from skimage.measure import label

    parts = label(mask, connectivity=1)
    large = np.bincount(parts.ravel()) >= least
    large[0] = False
    return np.asarray(large[parts])


def _colorfulness(pixels: np.ndarray) -> np.ndarray:
    red, green, blue = (pixels[..., channel].astype(np.float32) for channel in range(CHANNELS))
    return np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)


def _ink(pixels: np.ndarray) -> np.ndarray:
    """Find what no stained tissue looks like: black, pure colours, and colours that H&E has not; with a rim."""
    from scipy.ndimage import binary_dilation, binary_opening

    red, green, blue = (pixels[..., channel].astype(np.int16) for channel in range(CHANNELS))
    black = pixels[..., :CHANNELS].max(axis=2) < _BLACK
    pure = _colorfulness(pixels) > _BRIGHT_PEN
    other = (green - red > _NOT_H_AND_E) & (np.maximum(green, blue) - red > 2 * _NOT_H_AND_E)
    ink = _without_small(binary_opening(black | pure | other), _LEAST_INK * black.size)  # nuclei are black too
    rim = max(1, round(_RIM * max(pixels.shape[:2])))
    return np.asarray(binary_dilation(ink, iterations=rim))
