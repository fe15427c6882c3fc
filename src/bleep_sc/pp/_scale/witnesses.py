"""Ask everybody who knows the scale of a section: the first is believed, and those who contradict it are named."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bleep_sc._checks import check_number
from bleep_sc._library import OWN_DIAMETER, SPOT_DIAMETER_FROM, scale_factor
from bleep_sc._logging import logger
from bleep_sc.pp._finding import Finding
from bleep_sc.pp._places_code import PlacesCode
from bleep_sc.pp._scale.visium import PITCH_IN_DIAMETERS, PITCH_UM, visium_pitch
from bleep_sc.pp._scale.witness import Witness

_APART = 0.05
"""Two witnesses contradict each other where their values differ by more than this share."""
_UNIT_IS_UM, _EXACTLY_UM = 0.01, 0.002
"""A lattice whose pitch is so near to 100 has its places in µm where others know another scale, or by itself."""
RECORDED = "`scalefactors['microns_per_pixel']`"
LATTICE = "the lattice of the spots (Visium's are 100 µm apart)"


@dataclass(frozen=True)
class Evidence:
    """What witnesses look at: all that is known of one section."""

    library_id: str
    mpp: float | Mapping[str, float] | None
    """The argument of that name."""
    scalefactors: Mapping[str, Any]
    metadata: Mapping[str, Any]
    obs: pd.DataFrame
    xy: np.ndarray
    """Spot centres in full-resolution pixels (n, 2)."""
    tag: Witness | None
    """What the image's file says."""

    @property
    def has_spots(self) -> bool:
        """Whether spots were measured on this slide, and not laid on it for a prediction."""
        return SPOT_DIAMETER_FROM not in self.metadata

    @property
    def spot_diameter(self) -> float:
        """In full-resolution pixels; NaN where unknown. The reference's, or the width of a tile, tells nothing here."""
        if str(self.metadata.get(SPOT_DIAMETER_FROM, OWN_DIAMETER)) != OWN_DIAMETER:
            return np.nan
        return scale_factor(self.scalefactors, "spot_diameter_fullres", library_id=self.library_id)


@dataclass(frozen=True)
class Scale:
    """The scale of one section."""

    um_per_px: float
    """µm per full-resolution pixel; NaN where nobody knows."""
    spot_diameter: float
    """In full-resolution pixels; NaN where it is not known of this very slide."""
    witnesses: tuple[Witness, ...]
    """All who know the scale, in the order in which they are believed."""
    doubt: Finding | None = None
    """What is odd about the only one who could know it."""
    places_may_be_um: bool = False
    """Whether 1 µm per pixel is recorded, to the digit: that of an image, or of places in µm that were pooled."""

    @property
    def contradicted_by(self) -> Witness | None:
        """The first witness who contradicts the one that is believed most."""
        apart = (w for w in self.witnesses[1:] if abs(w.um_per_px / self.witnesses[0].um_per_px - 1) > _APART)
        return next(apart, None)


def given(evidence: Evidence) -> Witness | None:
    """The user says it."""
    by_library = isinstance(evidence.mpp, Mapping)
    value = evidence.mpp.get(evidence.library_id) if isinstance(evidence.mpp, Mapping) else evidence.mpp
    if value is None:
        return None
    name = f"mpp[{evidence.library_id!r}]" if by_library else "mpp"
    return Witness("the argument `mpp`", check_number(name, value, above=0))


def recorded(evidence: Evidence) -> Witness | None:
    """It stands among the scale factors."""
    value = scale_factor(evidence.scalefactors, "microns_per_pixel", library_id=evidence.library_id)
    return Witness(RECORDED, value) if np.isfinite(value) else None


def lattice(evidence: Evidence) -> Witness | None:
    """Neighbouring spots of a Visium slide are 100 µm apart, if their diameter fits to that.

    Other distances between spots are not used: first-generation arrays have other pitches, and a wrong scale is worse
    than none.
    """
    pitch = visium_pitch(evidence.obs, evidence.xy) if evidence.has_spots else None
    if pitch is None:
        return None
    diameter, um_per_px = evidence.spot_diameter, PITCH_UM / pitch
    if np.isnan(diameter):
        found = (
            f"the spots form a lattice as on a Visium slide, {pitch:.4g} pixels from one to the next, which is taken "
            f"for {PITCH_UM:g} µm: {um_per_px:.4g} µm per pixel. No spot diameter is known to confirm that."
        )
        remedy = f"If it is Visium, pass `mpp={um_per_px:.6g}`, else its own."
        return Witness(LATTICE, um_per_px, doubt=Finding("lattice", found, remedy))
    low, high = PITCH_IN_DIAMETERS
    if low <= pitch / diameter <= high:
        return Witness(LATTICE, um_per_px, doubt=_places_in_um(pitch))
    found = (
        f"the spots form a lattice as on a Visium slide, but are {pitch / diameter:.3g} spot diameters apart "
        f"({pitch:.4g} and {diameter:.4g} pixels). Visium has {low:g} to {high:g}, so the lattice tells no scale."
    )
    remedy = "Pass `mpp=`, the µm per full-resolution pixel, or mend the spot diameter."
    return Witness(LATTICE, np.nan, doubt=Finding("lattice", found, remedy))


def _places_in_um(pitch: float) -> Finding | None:
    """Doubt a lattice whose pitch is 100 to the digit: its unit may be the micrometre."""
    if abs(pitch / PITCH_UM - 1) > _EXACTLY_UM:
        return None
    found = (
        f"neighbouring spots are {pitch:.4g} apart, as on a Visium slide whose places are in micrometres; taken for "
        "pixels, the image has 1 µm per pixel. Nothing else confirms that."
    )
    return Finding("lattice", found, "If it has, pass `mpp=1`. Else divide the places by its µm per pixel.")


def file_tags(evidence: Evidence) -> Witness | None:
    """The image's file says it: the scale of a slide without spots, and a check of all others."""
    tag = evidence.tag
    return None if tag is None else replace(tag, believed=tag.believed and not evidence.has_spots)


WITNESSES: tuple[Callable[[Evidence], Witness | None], ...] = (given, recorded, lattice, file_tags)
"""In the order in which they are believed; a new one is a function and its place here."""


def scale_of_section(evidence: Evidence) -> Scale:
    """Find µm per full-resolution pixel of one section: that of the first witness who is believed; it is never guessed.

    Raises
    ------
    ValueError
        What a witness goes by is malformed, and nobody before it knows the scale.
    """
    heard: list[Witness] = []
    for ask in WITNESSES:
        try:
            witness = ask(evidence)
        except ValueError:
            if not any(each.believed for each in heard):
                raise
            continue  # what is recorded may be odd where it is not needed
        if witness is not None:
            heard.append(witness)
    known = tuple(witness for witness in heard if np.isfinite(witness.um_per_px))
    believed = next((witness for witness in known if witness.believed), None)
    if believed is not None and believed is known[-1] and evidence.tag is not None and not evidence.has_spots:
        logger.info("%r has %.4g µm per pixel by %s.", evidence.library_id, believed.um_per_px, believed.source)
    doubts = [witness.doubt for witness in heard if witness.doubt is not None and not set(known) - {witness}]
    return Scale(
        np.nan if believed is None else believed.um_per_px,
        evidence.spot_diameter,
        known,
        doubts[0] if doubts else None,
        bool(known) and known[0].source == RECORDED and known[0].um_per_px == 1 and evidence.has_spots,
    )


def contradiction(scale: Scale, *, size: int, um: float | None, code: PlacesCode) -> Finding | None:
    """Tell which witness contradicts the one that is believed most, and what that means for the crops."""
    other = scale.contradicted_by
    if other is None:
        return None
    first = scale.witnesses[0]
    widths = [
        f"{um / each.um_per_px:.4g} pixels" if um is not None else f"{size * each.um_per_px:.4g} µm"
        for each in (first, other)
    ]
    crop = f"A crop of {um:g} µm" if um is not None else f"A crop of {size} pixels"
    found = (
        f"{in_two_values(first, other)} {crop} is {widths[0]} wide by the first and {widths[1]} by the second. The "
        "first one is used."
    )
    remedy = _remedy(first, other, code)
    if scale.places_may_be_um:
        remedy += (
            f" If the places are in µm, as after `bl.pp.pool(..., mpp=1)`: `{code.from_um(f'{other.um_per_px:.6g}')}`."
        )
    return Finding("scale", found, remedy)


def in_two_values(first: Witness, other: Witness) -> str:
    """Say who contradicts whom."""
    return (
        f"two values of µm per pixel contradict each other: {first.um_per_px:.4g} by {first.source}, "
        f"{other.um_per_px:.4g} by {other.source}."
    )


def _remedy(first: Witness, other: Witness, code: PlacesCode) -> str:
    for each, rest in ((first, other), (other, first)):
        if each.source == LATTICE and abs(each.um_per_px - 1) <= _UNIT_IS_UM:
            line = code.moved(f"{{}} / {rest.um_per_px:.6g}")
            return f"The places of the spots seem to be in µm: `{line}`."
    return f"If the second is right, pass `mpp={other.um_per_px:.6g}`."
