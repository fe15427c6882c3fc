"""The scale makes no sense: no microscope has such pixels, or no array has its spots so far apart."""

import numpy as np

from bleep_sc.pp._images.section import HIRES
from bleep_sc.pp._scale.visium import within_array
from bleep_sc.pp._signs.in_words import in_figures
from bleep_sc.pp._signs.section import FEWEST_SPOTS, SectionToCheck

_FEWEST_PIXELS = 8
"""A crop with fewer pixels of the image along its side shows no nuclei and no texture."""
_NARROWEST_UM = 20
"""Narrower crops, as of bins of Visium HD, may have so few pixels on a sound image, of 2.5 µm per pixel or less."""
_NEAREST, _FARTHEST = 20, 600
"""Spots of known arrays are 100 (Visium), 143 and 200 µm apart; a factor of three more or less is no array's."""
_PITCH_IN_DIAMETERS = (1.25, 2.2)
"""Spots are 1.4 to 1.9 diameters apart. Bins and pooled places touch, which is 1; of a part drawn from them it is more.

Only places within the range are known to be spots, and all of them.
"""


def implausible_scale(section: SectionToCheck) -> tuple[str, str] | None:
    """A crop of many µm has next to no pixels of the image, or neighbouring spots are too near or too far."""
    um_per_px = section.scale.um_per_px
    if np.isnan(um_per_px) or section.scale.contradicted_by is not None:  # which is said already
        return None
    said = [*_few_pixels(section), *_odd_pitch(section)]
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


def _odd_pitch(section: SectionToCheck) -> list[str]:
    """Judge the distance between what is known to be spots of an array; silent about all else."""
    low, high = _PITCH_IN_DIAMETERS
    diameters = section.pitch / section.scale.spot_diameter
    known = len(section.xy) >= FEWEST_SPOTS and low <= diameters <= high and within_array(section.obs) is not None
    pitch = section.pitch * section.scale.um_per_px
    if not known or _NEAREST <= pitch <= _FARTHEST:
        return []
    return [f"neighbouring spots are {in_figures(pitch)} µm apart, where arrays have 100 to 200 µm"]
