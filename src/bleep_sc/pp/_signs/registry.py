"""All signs, in the order in which they are looked for; a new one is a function and a line here."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from bleep_sc.pp._finding import Finding
from bleep_sc.pp._images.section import SectionImage
from bleep_sc.pp._scale.witnesses import contradiction
from bleep_sc.pp._signs.dark import looks_dark
from bleep_sc.pp._signs.look import looks_otherwise
from bleep_sc.pp._signs.pixel_size import implausible_scale
from bleep_sc.pp._signs.places import coarse_places, repeated_places
from bleep_sc.pp._signs.section import SectionToCheck
from bleep_sc.pp._signs.size import size_of_another_image
from bleep_sc.pp._signs.tissue import misses_the_tissue, misses_the_tissue_of_the_image
from bleep_sc.pp._signs.units import fills_a_corner

_LOOKED_AT = 500
"""Number of crops of a section that the signs look at."""


@dataclass(frozen=True)
class Sign:
    """One thing that gives away that image and spots do not belong together."""

    name: str
    look: Callable[[SectionToCheck], tuple[str, str] | None]
    """Returns what was found and the remedy, or None where all is well or nothing can be told."""
    of_place: bool = False
    """Whether it says that image and spots lie otherwise; of these the first that finds something speaks for all."""

    def finding(self, section: SectionToCheck) -> Finding | None:
        """Look, and report."""
        found = self.look(section)
        return None if found is None else Finding(self.name, *found)


BEFORE_CUTTING = (
    Sign("places", repeated_places),
    Sign("precision", coarse_places),
    Sign("pixel_size", implausible_scale),
    Sign("size", size_of_another_image, of_place=True),
    Sign("tissue", misses_the_tissue, of_place=True),
    Sign("units", fills_a_corner, of_place=True),
)
"""They read no pixel of the image."""
AFTER_CUTTING = (
    Sign("tissue", misses_the_tissue_of_the_image, of_place=True),
    Sign("look", looks_otherwise, of_place=True),
    Sign("dark", looks_dark),
)
"""They read the crops that have been cut."""


def found_before(section: SectionToCheck, *, size: int, um: float | None) -> list[Finding]:
    """Find what can be told before anything is cut: as the image was opened, of its scale, and by signs."""
    of_scale = contradiction(section.scale, size=size, um=um, code=section.code)
    told = [*section.image.findings, *(finding for finding in (of_scale, section.scale.doubt) if finding)]
    return told + _look_for(BEFORE_CUTTING, section, lies_otherwise=False)


def found_after(
    section: SectionToCheck, image: SectionImage, crops: np.ndarray, rows: np.ndarray, known: Iterable[Finding]
) -> list[Finding]:
    """Find what some of the crops of a section tell, and its image where that is in memory now."""
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _LOOKED_AT)).astype(int))
    of_place = {sign.name for sign in BEFORE_CUTTING if sign.of_place}
    if isinstance(image.array, np.ndarray) and not section.image.levels:
        section = replace(section, image=image)
    seen = replace(section, crops=crops, looked_at=chosen, rows=rows[chosen])
    return _look_for(AFTER_CUTTING, seen, lies_otherwise=any(finding.sign in of_place for finding in known))


def _look_for(signs: tuple[Sign, ...], section: SectionToCheck, *, lies_otherwise: bool) -> list[Finding]:
    """Look for signs; `lies_otherwise` says that one of place was found before."""
    findings = []
    for sign in signs:
        if sign.of_place and lies_otherwise:
            continue
        finding = sign.finding(section)
        if finding is not None:
            findings.append(finding)
            lies_otherwise = lies_otherwise or sign.of_place
    return findings
