"""The scale makes no sense: no crop is so coarse, or no array has its spots so far apart."""

import numpy as np

from bleep_sc.pp._images.section import HIRES
from bleep_sc.pp._scale.visium import within_array
from bleep_sc.pp._signs.in_words import in_figures
from bleep_sc.pp._signs.section import FEWEST_SPOTS, SectionToCheck

_FEWEST_PIXELS = 8
"""A crop with fewer pixels of the image along its side shows no nuclei and no texture."""
_NARROWEST_UM = 20
"""Narrower crops, as of bins of Visium HD, may have so few pixels on a sound image, of 2.5 µm per pixel or less."""
_FARTHEST = 600
"""Spots of known arrays are 100 (Visium), 143 and 200 µm apart; a factor of three more is no array's.

Places that are too near are not doubted: bins of Visium HD may be 2 µm apart, and every third of them looks like spots.
"""
_PITCH_IN_DIAMETERS = (1.25, 2.2)
"""Spots are 1.4 to 1.9 diameters apart. Pooled places touch, which is 1; of a part drawn from them it is more."""


def implausible_scale(section: SectionToCheck) -> tuple[str, str] | None:
    """A crop of many µm has next to no pixels of the image, or neighbouring spots are too far apart."""
    um_per_px = section.scale.um_per_px
    if np.isnan(um_per_px) or section.scale.contradicted_by is not None:  # which is said already
        return None
    said = [*_few_pixels(section), *_wide_pitch(section)]
    if not said:
        return None
    found = f"with {um_per_px:.4g} µm per pixel ({section.scale.witnesses[0].source}), {' and '.join(said)}."
    return found, "Is the scale wrong by a factor? Pass `mpp=`, the µm per full-resolution pixel of the image."


def _few_pixels(section: SectionToCheck) -> list[str]:
    pixels = section.image_pixels
    asked = section.um is not None and section.um >= _NARROWEST_UM
    if not asked or pixels >= _FEWEST_PIXELS or section.image.source == HIRES:  # another warning speaks of that picture
        return []
    return [f"a crop of {section.um:g} µm has only {pixels:.2g} pixels of the image along its side"]


def _wide_pitch(section: SectionToCheck) -> list[str]:
    """Judge how far spots of an array are apart; silent about all else."""
    low, high = _PITCH_IN_DIAMETERS
    diameters = section.pitch / section.scale.spot_diameter
    known = len(section.xy) >= FEWEST_SPOTS and low <= diameters <= high and within_array(section.obs) is not None
    pitch = section.pitch * section.scale.um_per_px
    if not known or pitch <= _FARTHEST:
        return []
    return [f"neighbouring spots are {in_figures(pitch)} µm apart, where arrays have 100 to 200 µm"]
