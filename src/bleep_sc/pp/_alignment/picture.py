"""Make a small picture of a section, on which a spot is some pixels wide, from an image of any size."""

import numpy as np

from bleep_sc.pp._alignment.looks import PictureLook
from bleep_sc.pp._images.section import SectionImage
from bleep_sc.pp._images.thumbnails import thumbnails

_PIXELS = 16
"""Width of a spot on the picture."""
_MOST = 4000
"""Largest side of the picture in pixels."""
_WIDTH_IN_PITCHES = 0.55
"""Width of a spot whose diameter is not known: that of Visium's."""


def picture_look(image: SectionImage, *, diameter: float, pitch: float, name: str) -> PictureLook:
    """Read an image at its lowest level that shows enough, and make it as small as is enough.

    Parameters
    ----------
    image
        The section's image.
    diameter
        Of a spot, in full-resolution pixels; NaN where it is not known.
    pitch
        Distance from a spot to the next, in full-resolution pixels.
    name
        Name of the image in messages.
    """
    width = diameter if np.isfinite(diameter) else _WIDTH_IN_PITCHES * pitch
    level = image.coarsest(max(1.0, width * image.scale / _PIXELS))
    largest = int(level.width_height.max())
    side = int(np.ceil(largest * min(1.0, _PIXELS / max(1.0, width * level.scale))))
    pixels, share = thumbnails(level.array, {"small": max(1, min(side, _MOST))}, name=name)["small"]
    return PictureLook(pixels, level.scale * share, (0.5 - level.offset) * share, width)
