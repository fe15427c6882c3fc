"""The record that stands beside the crops of a section and says what they show."""

from collections.abc import Iterable
from typing import Any

from bleep_sc.pp._finding import Finding, as_frame
from bleep_sc.pp._section_crops import SectionCrops


def crop_record(
    section: SectionCrops,
    *,
    um_per_px: float,
    spot_diameter: float,
    library_key: str | None,
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
    findings
        What seemed wrong.
    """
    return {
        "size": section.size,
        "size_um": float(section.full_width * um_per_px),
        "um_per_px": float(section.full_width * um_per_px / section.size),
        "spot_diameters": float(section.full_width / spot_diameter),
        "source": section.image.source,
        "level_scale": float(section.image.scale),
        "border": section.border,
        "padded": section.n_padded(),
        "missing_tiles": section.n_missing_tiles(),
        "findings": as_frame(findings),
        "library_key": library_key or "",
    }
