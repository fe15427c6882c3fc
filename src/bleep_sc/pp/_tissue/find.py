"""Where the tissue of one slide lies: as somebody says, else as its colours say."""

from pathlib import Path
from typing import Any

import numpy as np

from bleep_sc.pp._images.open import existing_path
from bleep_sc.pp._tissue.by_color import tissue_mask
from bleep_sc.pp._tissue.mask import TissueMask
from bleep_sc.pp._tissue.polygons import PolygonError, polygons_in_geojson, polygons_of, rasterised

_FINE = 8
"""Pixels of the mask along the pitch."""
_LEAST, _MOST_DRAWN = 500, 4000
"""Smallest side of a mask, and largest side of one that is drawn of polygons."""
_SAME_SHAPE = 0.02
"""Height to width of a mask and of the slide may differ by this share, as rounding makes it."""


def said_tissue(mask: Any, full: np.ndarray, *, pitch: float) -> TissueMask:
    """Take the tissue of a slide as somebody says.

    Parameters
    ----------
    mask
        An array, polygons, or the path of a GeoJSON.
    full
        Width and height of the slide in full-resolution pixels.
    pitch
        Distance between the places in full-resolution pixels, which says how fine polygons are drawn.

    Raises
    ------
    ValueError
        What is said cannot be laid over this slide, or is no tissue.
    TypeError
        It is something else.
    FileNotFoundError
        There is no such file.
    """
    if isinstance(mask, np.ndarray):
        return _of_array(mask, full)
    factor = min(1.0, _side(full, pitch, most=_MOST_DRAWN) / full.max())
    size = np.maximum(1, np.ceil(full * factor)).astype(np.int64)
    try:
        shapes = polygons_in_geojson(_existing(mask)) if isinstance(mask, str | Path) else polygons_of(mask)
    except PolygonError as err:
        msg = f"`mask` {err}."
        raise ValueError(msg) from err
    except TypeError as err:
        msg = (
            f"`mask` must be an array (y, x), polygons (a GeoDataFrame such as `wsi.shapes['tissues']`) or the path of "
            f"a GeoJSON, found {type(mask).__name__}."
        )
        raise TypeError(msg) from err
    drawn = rasterised(shapes, (int(size[1]), int(size[0])), np.array([factor, factor]))
    if not drawn.any():
        low, high = (np.array([shape.bounds for shape, _ in shapes])[:, part] for part in (slice(2), slice(2, 4)))
        msg = (
            f"`mask` covers nothing of the slide of {full[0]:.0f} x {full[1]:.0f} pixels: its polygons lie from "
            f"{low.min(axis=0).round()} to {high.max(axis=0).round()} (x, y). They must be in full-resolution pixels: "
            "if they are in µm, divide them by µm per pixel."
        )
        raise ValueError(msg)
    return TissueMask(drawn, np.array([factor, factor]))


def tissue_on(picture: np.ndarray, full: np.ndarray, *, pitch: float) -> TissueMask:
    """Find the tissue of a slide by the colours of a small picture of it (y, x, 3).

    Raises
    ------
    ValueError
        There is none.
    """
    from PIL import Image

    small = Image.fromarray(picture)
    side = _side(full, pitch, most=max(small.size))
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    found = tissue_mask(np.asarray(small))
    if found is None:
        msg = (
            "no tissue was found on `image` by its colours. Say where it is by `mask=`: an array (y, x) that is True "
            "on tissue, polygons, or the path of a GeoJSON from QuPath."
        )
        raise ValueError(msg)
    return TissueMask(found, np.array(small.size) / full)


def _side(full: np.ndarray, pitch: float, *, most: int) -> int:
    """Longer side of a mask that is fine enough for places so far apart."""
    return int(np.clip(_FINE * full.max() / pitch, min(_LEAST, most), most))


def _of_array(mask: np.ndarray, full: np.ndarray) -> TissueMask:
    if mask.ndim != 2 or mask.dtype.kind not in "buif" or not mask.size:
        msg = f"`mask` must be an array (y, x) of True and False, found the shape {mask.shape} of {mask.dtype}."
        raise ValueError(msg)
    height, width = mask.shape
    if abs(height / width / (full[1] / full[0]) - 1) > max(_SAME_SHAPE, 1 / min(height, width)):
        fits_turned = abs(width / height / (full[1] / full[0]) - 1) < _SAME_SHAPE
        turned = " `mask.T` would fit." if fits_turned else ""
        msg = (
            f"`mask` is {width} x {height} and the slide {full[0]:.0f} x {full[1]:.0f} pixels (width x height): a mask "
            f"must show the whole slide, at any size.{turned}"
        )
        raise ValueError(msg)
    is_tissue = np.nan_to_num(mask) != 0
    if not is_tissue.any():
        msg = "`mask` is empty: it is True (or not 0) nowhere."
        raise ValueError(msg)
    return TissueMask(is_tissue, np.array([width, height]) / full)


def _existing(path: str | Path) -> Path:
    found = existing_path(path)
    if found is None or found.is_dir():
        msg = f"`mask`: there is no file {str(path)[:500]!r}."
        raise FileNotFoundError(msg)
    return found
