"""The places come from SpatialData, whose tables may be in micrometres, and fill only a corner of the image."""

from bleep_sc import _keys
from bleep_sc.pp._scale.witnesses import LATTICE
from bleep_sc.pp._signs.section import SectionToCheck
from bleep_sc.pp._signs.tissue import picture_at_hand

_CORNER = 0.5
"""Places that reach no further than this share of the image, in both directions, fill only a corner."""


def fills_a_corner(section: SectionToCheck) -> tuple[str, str] | None:
    """Places of a SpatialData table fill a corner of the image, and more of it if they are in micrometres.

    Where there is a small picture of the tissue, that tells better.
    """
    if _keys.SPATIALDATA not in section.uns or not section.whole or picture_at_hand(section) is not None:
        return None
    reach = section.xy.max(axis=0) / section.full_size
    if (reach > _CORNER).any():
        return None
    found = (
        f"the spots reach to {reach[0]:.0%} of the width and {reach[1]:.0%} of the height of the image, and the object "
        "comes from SpatialData, whose tables can hold places in micrometres (those of Xenium do)."
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
