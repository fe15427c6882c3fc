"""The crops are dark, as those of a fluorescence image or of one whose colours are inverted."""

import numpy as np

from bleep_sc.pp._signs.section import FEWEST_SPOTS, SectionToCheck

_DARK, _MOST = 50, 0.9
"""Crops of a mean below this, of 255, are dark; so many must be."""
_SPREAD = 0.5


def looks_dark(section: SectionToCheck) -> tuple[str, str] | None:
    """Nearly all crops are dark, where brightfield shows light tissue on bright glass."""
    if section.looked_at is None or len(section.looked_at) < FEWEST_SPOTS:
        return None
    brightness = section.brightness
    dark = float((brightness < _DARK).mean())
    if dark < _MOST or brightness.std() < _SPREAD:
        return None
    found = (
        f"{dark:.0%} of the crops are dark (mean {np.median(brightness):.0f} of 255), where H&E shows light tissue on "
        "bright glass."
    )
    return found, (
        "Is it a fluorescence image, are its colours inverted, or do its 16-bit values reach only 4095? Pass the H&E "
        "image in 8 bits."
    )
