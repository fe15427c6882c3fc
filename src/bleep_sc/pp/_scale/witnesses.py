"""Ask everybody who knows the scale of a section: the first is believed, and those who contradict it are named."""

from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bleep_sc._checks import check_number
from bleep_sc._library import SPOT_DIAMETER_FROM, scale_factor
from bleep_sc.pp._finding import Finding
from bleep_sc.pp._scale.visium import PITCH_IN_DIAMETERS, PITCH_UM, visium_pitch
from bleep_sc.pp._scale.witness import Witness

_APART = 0.05
"""Two witnesses contradict each other where their values differ by more than this share."""
_UNIT_IS_UM = 0.01
"""A lattice whose pitch is so near to 100 may have its places in µm."""


@dataclass(frozen=True)
class Scale:
    """The scale of one section."""

    um_per_px: float
    """µm per full-resolution pixel; NaN where nobody knows."""
    spot_diameter: float
    """In full-resolution pixels; NaN where it is not known of this very slide."""
    witnesses: tuple[Witness, ...]
    """All who know the scale; the first one that counts is believed."""
    doubt: Finding | None = None
    """What is odd about the lattice."""


def scale_of_section(
    library_id: str,
    *,
    mpp: float | Mapping[str, float] | None,
    scalefactors: Mapping[str, Any],
    metadata: Mapping[str, Any],
    obs: pd.DataFrame,
    xy: np.ndarray,
    tag: Witness | None,
) -> Scale:
    """Find µm per full-resolution pixel of one section; it is never guessed.

    The first of these that is known is believed: `mpp`; ``scalefactors["microns_per_pixel"]``; a Visium lattice, whose
    neighbouring spots are 100 µm apart; for a slide without spots of its own the tags of its file. Other distances
    between spots are not used: first-generation arrays have other pitches, and a wrong scale is worse than none.
    """
    without_spots = SPOT_DIAMETER_FROM in metadata
    copied = str(metadata.get(SPOT_DIAMETER_FROM, "")) == "reference"
    diameter = np.nan if copied else scale_factor(scalefactors, "spot_diameter_fullres", library_id=library_id)
    witnesses = _given(library_id, mpp)
    with suppress(ValueError) if witnesses else nullcontext():  # what is recorded may be odd where it is not needed
        witnesses += _recorded(library_id, scalefactors)
    lattice, doubt = (None, None) if without_spots else _lattice(obs, xy, diameter)
    if lattice is not None:
        witnesses.append(lattice)
    elif witnesses:
        doubt = None  # the scale is known: what the lattice is does not matter
    believed = [*witnesses, *([tag] if tag is not None and without_spots else [])]
    if tag is not None:
        witnesses.append(tag)
    if lattice is not None and len(witnesses) > 1:
        doubt = None  # others are there to compare with
    um_per_px = believed[0].um_per_px if believed else np.nan
    return Scale(um_per_px, diameter, tuple(witnesses), doubt)


def contradiction(scale: Scale, *, size: int, um: float | None, spatial_key: str) -> Finding | None:
    """Tell which witness contradicts the one that is believed most, and what that means for the crops."""
    for first, other in zip(scale.witnesses[:1] * len(scale.witnesses), scale.witnesses, strict=True):
        if abs(other.um_per_px / first.um_per_px - 1) <= _APART:
            continue
        widths = [
            f"{um / each.um_per_px:.4g} pixels" if um is not None else f"{size * each.um_per_px:.4g} µm"
            for each in (first, other)
        ]
        crop = f"A crop of {um:g} µm" if um is not None else f"A crop of {size} pixels"
        found = (
            f"two values of µm per pixel contradict each other: {first.um_per_px:.4g} by {first.source}, "
            f"{other.um_per_px:.4g} by {other.source}. {crop} is {widths[0]} wide by the first and {widths[1]} by the "
            "second. The first one is used."
        )
        return Finding("scale", found, _remedy(first, other, spatial_key))
    return None


def _remedy(first: Witness, other: Witness, spatial_key: str) -> str:
    for each, rest in ((first, other), (other, first)):
        if each.source == _LATTICE and abs(each.um_per_px - 1) <= _UNIT_IS_UM:
            places = f"adata.obsm[{spatial_key!r}]"
            return f"The places of the spots seem to be in µm: `{places} = {places} / {rest.um_per_px:.6g}`."
    return f"If the second is right, pass `mpp={other.um_per_px:.6g}`."


_LATTICE = "the lattice of the spots (Visium's are 100 µm apart)"


def _given(library_id: str, mpp: float | Mapping[str, float] | None) -> list[Witness]:
    value = mpp.get(library_id) if isinstance(mpp, Mapping) else mpp
    if value is None:
        return []
    name = f"mpp[{library_id!r}]" if isinstance(mpp, Mapping) else "mpp"
    return [Witness("the argument `mpp`", check_number(name, value, above=0))]


def _recorded(library_id: str, scalefactors: Mapping[str, Any]) -> list[Witness]:
    recorded = scale_factor(scalefactors, "microns_per_pixel", library_id=library_id)
    return [Witness("`scalefactors['microns_per_pixel']`", recorded)] if np.isfinite(recorded) else []


def _lattice(obs: pd.DataFrame, xy: np.ndarray, diameter: float) -> tuple[Witness | None, Finding | None]:
    """Read the scale off a Visium lattice, where no spot diameter speaks against it; else say what does."""
    pitch = visium_pitch(obs, xy)
    if pitch is None:
        return None, None
    witness = Witness(_LATTICE, PITCH_UM / pitch)
    if np.isnan(diameter):
        found = (
            f"the spots form a lattice as on a Visium slide, {pitch:.4g} pixels from one to the next, which is taken "
            f"for {PITCH_UM:g} µm: {witness.um_per_px:.4g} µm per pixel. No spot diameter is known to confirm that."
        )
        return witness, Finding("lattice", found, f"If it is Visium, pass `mpp={witness.um_per_px:.6g}`, else its own.")
    low, high = PITCH_IN_DIAMETERS
    if low <= pitch / diameter <= high:
        return witness, None
    found = (
        f"the spots form a lattice as on a Visium slide, but are {pitch / diameter:.3g} spot diameters apart "
        f"({pitch:.4g} and {diameter:.4g} pixels). Visium has {low:g} to {high:g}, so the lattice tells no scale."
    )
    return None, Finding("lattice", found, "Pass `mpp=`, the µm per full-resolution pixel, or mend the spot diameter.")
