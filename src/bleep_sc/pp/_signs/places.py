"""Places that cannot be right by themselves: of several sections that are taken for one, or too coarse a number."""

import numpy as np

from bleep_sc.pp._signs.joined import joined_sections
from bleep_sc.pp._signs.section import SectionToCheck

_EXACT_TO = 2048
"""Half precision holds whole numbers up to here; above, its steps are 2 pixels and more."""


def repeated_places(section: SectionToCheck) -> tuple[str, str] | None:
    """Sections were joined and are cut from one image: what stands once in a section stands there twice."""
    if coarse_places(section) is not None:  # which makes places coincide
        return None
    joined = joined_sections(section.obs, section.xy, section.uns)
    if joined is None:
        return None
    found = (
        f"{joined.n} of {len(section.xy)} spots {joined.how}, as where several sections are taken for one and are all "
        "cut from one image."
    )
    return found, joined.remedy(section.obs, given=section.code.library_key)


def coarse_places(section: SectionToCheck) -> tuple[str, str] | None:
    """Places were stored with half precision, which large slides do not fit in."""
    largest = float(np.abs(section.xy).max(initial=0))
    if section.stored_dtype != np.float16 or largest <= _EXACT_TO:
        return None
    step = float(np.spacing(np.float16(largest)))
    found = (
        f"`{section.code.stored}` is stored in half precision (float16) and goes up to {largest:.0f}, where its steps "
        f"are of {step:.0f} pixels: places are up to {step / 2:.0f} px off."
    )
    return found, "Read the places again from their source, as float32 or float64."
