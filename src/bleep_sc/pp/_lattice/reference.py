"""The lattice on which the spots of a reference stand."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import crop_records, known_places, recorded_library_key, with_frames
from bleep_sc._library import library_part
from bleep_sc.pp._lattice.lattice import LatticeKind
from bleep_sc.pp._scale.witnesses import Evidence, scale_of_section
from bleep_sc.pp._section_images import rows_by_library

_ALIKE = 0.05
"""Neighbours count as equally far, and pitches of sections as equal, within this share."""
_REACH = 1.2
"""Neighbours within so many pitches are counted: six on a hexagonal lattice, and four on a square one."""
_MOST = 95
"""Percentile of the number of neighbours: that of spots that are not at the border."""
_NEIGHBOURS: dict[int, LatticeKind] = {4: "square", 6: "hexagonal"}


@dataclass(frozen=True)
class ReferenceLattice:
    """Kind and pitch of a reference's lattice."""

    kind: LatticeKind | None
    """None where its spots stand on neither lattice, as cells do."""
    um: float
    """Distance between neighbouring spots in µm; NaN where the scale is not known, or sections differ."""
    why: str = ""
    """Why the distance is not known."""


def lattice_of_reference(ref: AnnData, library_key: str | None) -> ReferenceLattice:
    """Look at the distances between the spots of each section.

    Parameters
    ----------
    ref
        The reference.
    library_key
        Column of `obs` with the section of each spot; None takes the one that its crops were cut by.
    """
    xy = known_places(ref)
    if xy is None or not np.isfinite(xy).all():
        return ReferenceLattice(None, np.nan, f"`ref.obsm[{_keys.SPATIAL!r}]` does not say where its spots are")
    obs = with_frames(ref).obs
    try:
        sections = rows_by_library(ref, recorded_library_key(ref) if library_key is None else library_key, None)
    except ValueError as err:
        return ReferenceLattice(None, np.nan, str(err).replace("`adata", "`ref").rstrip("."))
    kinds, pitches = set(), {}
    for library, rows in sections.items():
        kind, pitch = _kind_and_pitch(xy[rows])
        kinds.add(kind)
        pitches[library] = pitch * _um_per_px(ref, library, obs.iloc[rows], xy[rows])
    kind = kinds.pop() if len(kinds) == 1 else None
    values = np.array(list(pitches.values()))
    if kind is None:
        return ReferenceLattice(None, np.nan, "the spots of the reference stand on no lattice, or on several")
    if not np.isfinite(values).all():
        unknown = [library for library, value in pitches.items() if not np.isfinite(value)]
        return ReferenceLattice(kind, np.nan, f"the scale of the reference is unknown for {unknown[:6]}")
    if np.ptp(values) > _ALIKE * values.min():
        return ReferenceLattice(kind, np.nan, f"its sections differ: {values.min():.4g} to {values.max():.4g} µm")
    return ReferenceLattice(kind, float(np.median(values)))


def _um_per_px(ref: AnnData, library: str, obs: pd.DataFrame, xy: np.ndarray) -> float:
    """Ask the witnesses of a section's scale, then the record of its crops."""
    factors, metadata = (library_part(ref.uns, library, part) for part in ("scalefactors", "metadata"))
    scale = scale_of_section(Evidence(library, None, factors, metadata, obs=obs, xy=xy, tag=None))
    if np.isfinite(scale.um_per_px):
        return scale.um_per_px
    record = crop_records(ref).get(library, {})
    width, diameters = (float(record.get(name, np.nan)) for name in ("size_um", "spot_diameters"))
    return width / (diameters * scale.spot_diameter)  # NaN where one of them is not known


def _kind_and_pitch(xy: np.ndarray) -> tuple[LatticeKind | None, float]:
    """Count the neighbours of spots that are about as far as the nearest one, and measure how far that is."""
    from scipy.spatial import KDTree

    if len(xy) < 2:
        return None, np.nan
    tree = KDTree(xy)
    nearest = tree.query(xy, k=2)[0][:, 1]
    pitch = float(np.median(nearest))
    if not pitch > 0 or np.mean(np.abs(nearest / pitch - 1) > _ALIKE) > _ALIKE:
        return None, pitch
    around = tree.query_ball_point(xy, _REACH * pitch, return_length=True) - 1
    return _NEIGHBOURS.get(int(np.percentile(around, _MOST))), pitch
