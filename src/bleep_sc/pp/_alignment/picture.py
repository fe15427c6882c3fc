"""Make a small picture of a section, on which a spot is some pixels wide, from an image of any size."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bleep_sc._library import library_part, scale_factor
from bleep_sc.pp._alignment.compared import Compared
from bleep_sc.pp._alignment.looks import PictureLook
from bleep_sc.pp._images.section import SectionImage
from bleep_sc.pp._images.thumbnails import thumbnails

_PIXELS = 16
"""Width of a spot on the picture."""
_MOST = 4000
"""Largest side of the picture in pixels."""
_WIDTH_IN_PITCHES = 0.55
"""Width of a spot whose diameter is not known: that of Visium's."""


def picture_look(image: SectionImage, uns: Mapping[str, Any], library_id: str, *, compared: Compared) -> PictureLook:
    """Read an image at its lowest level that shows enough, and make it as small as is enough.

    Parameters
    ----------
    image
        The section's image.
    uns
        Of the AnnData; it may know the diameter of a spot.
    library_id
        Name of the section.
    compared
        The places that are compared.
    """
    width = compared.width
    if width is None:
        factors = library_part(uns, library_id, "scalefactors")
        diameter = scale_factor(factors, "spot_diameter_fullres", library_id=library_id)
        width = diameter if np.isfinite(diameter) else _WIDTH_IN_PITCHES * compared.pitch
    level = image.coarsest(max(1.0, width * image.scale / _PIXELS))
    largest = int(level.width_height.max())
    side = int(np.ceil(largest * min(1.0, _PIXELS / max(1.0, width * level.scale))))
    name = f"image of {library_id!r}"
    pixels, share = thumbnails(level.array, {"small": max(1, min(side, _MOST))}, name=name)["small"]
    return PictureLook(pixels, level.scale * share, (0.5 - level.offset) * share, width)


def full_size(image: SectionImage | None) -> np.ndarray | None:
    """Width and height of an image in full-resolution pixels; None where they are not known."""
    return None if image is None or image.is_part else image.width_height / image.scale
