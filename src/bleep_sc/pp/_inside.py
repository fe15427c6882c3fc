"""Refuse spots that lie outside their image, and say how they would come to lie inside."""

from collections.abc import Iterable

import numpy as np

from bleep_sc.pp._signs.placements import in_micrometres
from bleep_sc.pp._signs.section import SectionToCheck

_FEW = 0.05
"""Share of the spots that may be left out; of more, something else is wrong."""
_MANY = 0.5
"""The same, where none of them is further out than a spot is wide."""
_ALIKE = 0.03
"""An image has the size that a factor says if it differs by no more than this share."""


def check_inside(sections: Iterable[SectionToCheck]) -> None:
    """Refuse sections of which a spot lies outside the image."""
    faults, stored = [], ""
    for section in sections:
        limit = section.image.width_height
        centres = section.image.centres(section.xy)
        outside = ~_inside(centres, limit)
        if not outside.any():
            continue
        stored = section.code.stored
        low, high = centres.min(axis=0), centres.max(axis=0)
        faults.append(
            f"{outside.sum()} of {len(outside)} spots of {section.library_id!r} (x from {_places(low[0], high[0])}, "
            f"y from {_places(low[1], high[1])}, on an image of {limit[0]} x {limit[1]} pixels). "
            + _advice(section, outside)
        )
    if faults:
        msg = f"`{stored}` lies outside the image for " + " And for ".join(faults)
        raise ValueError(msg)


def _places(low: float, high: float) -> str:
    """Put a range of pixels in words, in powers of ten where the numbers are absurdly large."""
    return f"{low:.0f} to {high:.0f}" if max(-low, high) < 1e9 else f"{low:.3g} to {high:.3g}"


def _advice(section: SectionToCheck, outside: np.ndarray) -> str:
    """Say what would bring all spots into the image; a scale is named only where one is recorded."""
    image = section.image
    factor = _factor_of_size(section) if image.scale == 1 else ""
    if factor:
        return factor
    for placement in in_micrometres(section):
        centres = image.centres(placement.xy)
        if _inside(centres, image.width_height).all() and (centres.max(axis=0) > image.width_height / 2).any():
            return f"All spots fit {placement.name}: {placement.remedy}."
    advice = []
    if outside.mean() <= _FEW:
        advice.append(f"If these few are beyond the rim of the scan, leave them out: {_leaving_out(section)}.")
    elif outside.mean() <= _MANY and _just_beyond(section):
        advice.append(
            "None is further out than a spot is wide, as where places of `bl.pp.pool` stand at the border of their "
            f"bins. Leave them out: {_leaving_out(section)}."
        )
    if _inside(image.centres(section.xy[:, ::-1]), image.width_height).all():
        advice.append(f"All spots fit with x and y swapped: `{section.code.moved('{}[:, ::-1].copy()')}`.")
    return " ".join(advice) or _fitting_factor(section)


def _just_beyond(section: SectionToCheck) -> bool:
    """Tell whether no spot is further outside than its diameter; not where that is unknown."""
    centres, limit = section.image.centres(section.xy), section.image.width_height
    beyond = max(float(-centres.min()), float((centres - limit).max()))
    return beyond <= section.scale.spot_diameter * section.image.scale


def _factor_of_size(section: SectionToCheck) -> str:
    """Name the recorded factor of the picture whose size the image has."""
    if section.picture is None:
        return ""
    expected = section.picture.width_height / section.picture.factor
    for name, factor in section.factors.items():
        is_another = abs(factor - 1) > _ALIKE  # the small picture of a small image is as large as that
        if is_another and (np.abs(section.image.width_height / (expected * factor) - 1) <= _ALIKE).all():
            return _container(name, factor)
    return ""


def _fitting_factor(section: SectionToCheck) -> str:
    """Name the largest recorded factor that brings all spots into the image and makes them fill it."""
    image = section.image
    largest = float(np.min((image.width_height + image.offset - 1) / np.maximum(section.xy.max(axis=0), 1)))
    # with a picture its size has spoken: the image has that of none of them
    factors = {} if section.picture is not None and section.whole else section.factors
    for name, factor in sorted(factors.items(), key=lambda item: -item[1]):
        # any factor fits that is small enough: one at which the spots fill half of the image is likely its own
        if factor >= largest / 2 and _inside(section.xy * factor - image.offset, image.width_height).all():
            return _container(name, factor)
    if largest > 0 and _inside(section.xy * largest - image.offset, image.width_height).all():
        return (
            "If the image was shrunk, pass the factor by which it was: "
            "`squidpy.im.ImageContainer(..., scale=...)`; none that is recorded fits."
        )
    return "No scale would fit: image and coordinates do not belong together."


def _container(name: str, factor: float) -> str:
    return f"The scale {factor:.6g} (`{name}`) would fit: pass `squidpy.im.ImageContainer(..., scale={factor:.6g})`."


def _leaving_out(section: SectionToCheck) -> str:
    image = section.image
    low, high = (image.offset / image.scale, (image.offset + image.width_height - 1) / image.scale)
    bounds = [f"[{x:.6g}, {y:.6g}]" for x, y in (low, high)]
    places = section.code.read
    inside = f"(({places} >= {bounds[0]}) & ({places} <= {bounds[1]})).all(axis=1)"
    if section.code.library_key is not None:
        inside = f"{inside} | ~{section.code.of_section}"
    return f"`adata = adata[{inside}].copy()`"


def _inside(centres: np.ndarray, width_height: np.ndarray) -> np.ndarray:
    """Tell which places lie in the image (n,).

    Here a pixel's centre has whole numbers. Where its corner has them, as in SpatialData, the image reaches half a
    pixel further.
    """
    return np.asarray(((centres >= -0.5) & (centres < width_height)).all(axis=1))
