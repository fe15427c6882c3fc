"""The scale of all sections in one line that a user can check."""

from collections.abc import Sequence

import numpy as np

from bleep_sc.pp._signs.section import SectionToCheck

_ALIKE = 0.05
"""Sections whose numbers differ by no more than this share are told together."""
_MOST = 6
"""The most sections that are told one by one."""


def scale_in_words(sections: Sequence[SectionToCheck]) -> str:
    """Say how wide a crop is, and how far spots are from each other; section by section where they differ."""
    um_per_px = np.array([section.scale.um_per_px for section in sections])
    numbers = np.array([[section.image_pixels, section.full_width, section.pitch] for section in sections])
    numbers[:, 1:] *= um_per_px[:, None]
    lowest, highest = numbers.min(axis=0), numbers.max(axis=0)
    alike = np.isnan(numbers).all(axis=0) | (highest <= lowest * (1 + _ALIKE))
    if alike.all():
        return _told(*np.median(numbers, axis=0)).capitalize() + "."
    told = [
        f"{section.library_id!r}: {_told(*own)}" for section, own in zip(sections[:_MOST], numbers[:_MOST], strict=True)
    ]
    return "; ".join(told) + ("; ..." if len(sections) > _MOST else ".")


def _told(pixels: float, um: float, pitch: float) -> str:
    width = f"a crop is {in_figures(pixels)} pixels of the image wide"
    if np.isnan(um):
        return f"{width}, of unknown width in µm"
    apart = "" if np.isnan(pitch) else f", and spots are {in_figures(pitch)} µm apart"
    return f"{width} ({in_figures(um)} µm){apart}"


def in_figures(number: float) -> str:
    """Write a length with three figures, or all before the point."""
    return f"{number:.3g}" if number < 1000 else f"{number:.0f}"
