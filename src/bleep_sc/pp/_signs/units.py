"""The places may be in micrometres, as tables of SpatialData hold them, and fill only a corner of the image."""

import numpy as np

from bleep_sc import _keys
from bleep_sc.pp._scale.witnesses import LATTICE
from bleep_sc.pp._signs.section import SectionToCheck
from bleep_sc.pp._signs.tissue import picture_at_hand

_CORNER = 0.5
"""Places that reach no further than this share of the image, in both directions, fill only a corner."""


def fills_a_corner(section: SectionToCheck) -> tuple[str, str] | None:
    """Places fill a corner of the image, and would fill more of it if they are in micrometres.

    They may be where they come from a table of SpatialData. Where there is a small picture of the tissue, that tells
    better. And they may be where 1 µm per pixel is recorded and no picture came with the places.
    """
    if not section.whole:
        return None
    reach = section.xy.max(axis=0) / section.full_size
    if (reach > _CORNER).any():
        return None
    fills = f"the spots reach to {reach[0]:.0%} of the width and {reach[1]:.0%} of the height of the image, and"
    if section.scale.places_may_be_um:
        explained = section.picture is not None or section.scale.contradicted_by is not None
        return None if explained else _recorded_as_one(section, fills)
    if _keys.SPATIALDATA not in section.uns or picture_at_hand(section) is not None:
        return None
    return _of_a_table(section, fills, reach)


def _recorded_as_one(section: SectionToCheck, fills: str) -> tuple[str, str]:
    found = (
        f"{fills} exactly 1 µm per pixel is recorded, as `bl.pp.pool(..., mpp=1)` records it of places in micrometres. "
        "An image of cells has 0.2 to 0.6."
    )
    return found, f"If they are in micrometres, with the µm per pixel of the image: `{section.code.from_um('...')}`."


def _of_a_table(section: SectionToCheck, fills: str, reach: np.ndarray) -> tuple[str, str] | None:
    found = (
        f"{fills} the object comes from SpatialData, whose tables can hold places in micrometres (those of Xenium do)."
    )
    # a lattice of places in micrometres would be its own witness
    witnesses = [witness for witness in section.scale.witnesses if witness.source != LATTICE]
    for witness in witnesses:
        scaled = reach / witness.um_per_px
        if (scaled <= 1).all() and (scaled > _CORNER).any():
            return (
                f"{found} As micrometres they reach to {scaled[0]:.0%} and {scaled[1]:.0%} ({witness.um_per_px:.4g} µm "
                f"per pixel by {witness.source}).",
                f"If that is right: `{section.code.moved(f'{{}} / {witness.um_per_px:.6g}')}`.",
            )
    if witnesses:
        return None
    return found, f"If they are, divide them by the µm per pixel of the image: `{section.code.moved('{} / ...')}`."
