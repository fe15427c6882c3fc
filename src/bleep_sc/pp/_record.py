"""The record that stands beside the crops of a section and says what they show."""

from collections.abc import Iterable
from typing import Any

from bleep_sc import _keys
from bleep_sc.pp._finding import Finding, as_frame
from bleep_sc.pp._section_crops import SectionCrops


def crop_record(
    section: SectionCrops,
    *,
    um_per_px: float,
    spot_diameter: float,
    library_key: str | None,
    spatial_key: str = _keys.SPATIAL,
    findings: Iterable[Finding] = (),
) -> dict[str, Any]:
    """Make the record of a section's crops.

    Parameters
    ----------
    section
        The crops.
    um_per_px, spot_diameter
        µm per full-resolution pixel, and full-resolution pixels per spot diameter; NaN where unknown.
    library_key
        Column of `obs` with the section of each spot.
    spatial_key
        Key in `obsm` of the places at which they were cut.
    findings
        What seemed wrong.
    """
    width = width_record(
        section.size,
        section.full_width,
        um_per_px=um_per_px,
        spot_diameter=spot_diameter,
        level_scale=section.image.scale,
        source=section.image.source,
    )
    return {
        **width,
        "border": section.border,
        "padded": section.n_padded(),
        "missing_tiles": section.n_missing_tiles(),
        "findings": as_frame(findings),
        "library_key": library_key or "",
        "spatial_key": spatial_key,
    }


def width_record(
    size: int, full_width: float, *, um_per_px: float, spot_diameter: float, level_scale: float, source: str
) -> dict[str, Any]:
    """Make the part of the record that is known of any crop, whoever cut it: how much tissue it shows.

    Parameters
    ----------
    size
        Side in pixels of the crop.
    full_width
        Side in full-resolution pixels.
    um_per_px, spot_diameter
        µm per full-resolution pixel, and full-resolution pixels per spot diameter; NaN where unknown.
    level_scale
        Pixels of the level that was read per full-resolution pixel.
    source
        Where the pixels come from.
    """
    return {
        "size": size,
        "size_um": float(full_width * um_per_px),
        "um_per_px": float(full_width * um_per_px / size),
        "spot_diameters": float(full_width / spot_diameter),
        "source": source,
        "level_scale": float(level_scale),
    }
