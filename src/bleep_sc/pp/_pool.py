import copy as copies
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from bleep_sc import _keys
from bleep_sc._adata import check_adata, check_readable, spatial_coordinates, with_frames
from bleep_sc._all_or_nothing import all_or_nothing
from bleep_sc._checks import check_choice, check_key, check_key_added, check_number
from bleep_sc._expression import count_values
from bleep_sc._library import libraries, library_part
from bleep_sc._logging import logger, warn
from bleep_sc.pp._lattice.frame import Frame, frame_of
from bleep_sc.pp._lattice.lattice import KINDS, Lattice, LatticeKind
from bleep_sc.pp._scale.witnesses import Evidence, Scale, in_two_values, scale_of_section
from bleep_sc.pp._section_images import checked_mpp, rows_by_library
from bleep_sc.pp._signs.joined import joined_sections
from bleep_sc.pp._signs.section import said_on_tissue

_NEARLY = 0.99
"""A pitch counts as finer than the bins below this share of their distance."""
_AT_ONCE = 256
"""Number of places around which bins are looked for at a time."""
_NAME_OF_PLACE = r".+_\d+_\d+"
"""How places are called: by library, row and column."""
_OF_BINS = ("bin_size_um",)
"""Scale factors that speak of bins, not of what they are pooled into."""


@dataclass(frozen=True)
class _Bins:
    """The bins or cells of one section."""

    library_id: str
    rows: np.ndarray
    """Their rows in the AnnData (n,)."""
    frame: Frame
    on_tissue: np.ndarray
    """Which of them are said to lie on tissue (n,)."""
    um_per_px: float


@dataclass(frozen=True)
class _Pooled:
    """The places of one section."""

    bins: _Bins
    place_of: np.ndarray
    """Number of the place of each bin (n,)."""
    places: np.ndarray
    """Row and column of each place (n, 2), both from 0."""
    xy: np.ndarray
    """Centre of each place in full-resolution pixels (n, 2)."""
    tissue_share: np.ndarray | None
    """None for cells: how large they are is not known."""
    in_tissue: np.ndarray


def pool(
    adata: AnnData,
    *,
    um: float,
    lattice: LatticeKind = "square",
    mpp: float | Mapping[str, float] | None = None,
    layer: str | None = None,
    library_key: str | None = None,
    library_id: str | None = None,
    spatial_key: str = _keys.SPATIAL,
    key_added: str | None = "pool",
) -> AnnData:
    """Sum the counts of bins or cells on a lattice, so that Visium HD or Xenium can serve as a reference.

    `um` is the **pitch**: the distance between places. In :func:`~bleep_sc.pp.crops`, `um` is the width of the crops.
    For a reference pooled at 55 µm, cut crops of 55 µm or more.

    Parameters
    ----------
    adata
        Bins or cells with raw counts, and their centres in `obsm['spatial']`.
    um
        Distance between neighbouring places in µm. A multiple of the bins' side (56 for bins of 8 µm) gives every place
        the same number of bins.
    lattice
        ``"square"``, or ``"hexagonal"``: staggered rows as on a Visium slide.
    mpp
        µm per full-resolution pixel, one number or a mapping from library. ``None`` takes
        ``scalefactors['microns_per_pixel']``, else works it out from the lattice of Visium spots. If places are in µm,
        as in a Xenium table, pass ``mpp=1``.
    layer
        Layer with raw counts. ``None`` takes ``layers['counts']`` if it exists, else `X`.
    library_key
        Column of `obs` with each bin's section, if `adata` holds several. Every section gets its own lattice.
    library_id
        Library of ``uns['spatial']`` that all bins belong to.
    spatial_key
        Key of the centres in `obsm`.
    key_added
        Column of ``adata.obs`` to write: the place that each bin went to. ``None`` leaves `adata` unchanged.

    Returns
    -------
    A new AnnData with a row for each place that holds a bin or cell, the same `var`, and the following fields:

    `X`, `layers['counts']` : :class:`scipy.sparse.csr_matrix` (float32, (n_places, n_vars))
        Sums of counts. Normalise `X` next.
    `obs['n_pooled']` : int
        Number of bins or cells in the place.
    `obs['tissue_share']` : float
        Share of the place that is covered by bins on tissue, 0 to 1. It is left out for cells, since their area is not
        known.
    `obs['in_tissue']` : int
        1 if at least one of its bins or cells lies on tissue.
    `obs['array_row']`, `obs['array_col']` : int
        Row and column of the place, from 0. On a hexagonal lattice columns count half steps, as Space Ranger does.
    `obs` : other columns
        Columns with one value for all bins of a section, such as the patient.
    `obsm['spatial']` : :class:`numpy.ndarray` (float64, (n_places, 2))
        Centres of the places in the unit of `adata`, full-resolution pixels.
    `uns['spatial'][library_id]` : `dict`
        That of `adata`, with ``microns_per_pixel``, and a ``spot_diameter_fullres`` of `um`.

    Sets the following fields of `adata`:

    `adata.obs['pool' | key_added]` : :class:`pandas.Categorical`
        Name of the place that each bin went to. ``pooled[adata.obs['pool'].astype(str)]`` gives each bin the row of its
        place.

    Raises
    ------
    KeyError
        No coordinates, no such column or layer.
    ValueError
        - Values that are not raw counts.
        - A column `key_added` that exists and holds something else.
        - An unknown scale.
        - A pitch finer than the bins.
        - Several libraries and no `library_key`.
        - Bins that share a position, or a row and column of the array, because several sections are treated as one.
        - A view of an AnnData with `key_added`, which would write into it.

    Notes
    -----
    **The lattice begins at the outer corner of the first bin.** It follows the rows and columns of the bins, even if
    they are rotated on the image. So its borders coincide with borders of bins, if the pitch is a multiple of their
    side. A bin belongs to the nearest place and is never split. Rows and columns come from ``obs['array_row']`` and
    ``obs['array_col']`` if these exist, else from the positions. Cells do not lie in rows. Their lattice begins at the
    leftmost and the topmost cell, and follows the image.

    At the border of the tissue, a place holds fewer bins and so fewer counts. Leave such places out with
    ``pooled[pooled.obs['tissue_share'] > 0.5].copy()``.

    Counts are summed by one sparse product. The docs ("Bins and cells") give its time and memory.

    Examples
    --------
    Sixteen bins of 8 µm, at half a µm per pixel, become four places of 16 µm:

    >>> import numpy as np
    >>> from anndata import AnnData
    >>> import bleep_sc as bl
    >>> xy = np.stack(np.meshgrid(np.arange(4), np.arange(4)), axis=-1).reshape(-1, 2) * 16 + 8.0
    >>> bins = AnnData(np.ones((16, 3), dtype="float32"), obsm={"spatial": xy})
    >>> pooled = bl.pp.pool(bins, um=16, mpp=0.5)
    >>> pooled.X.toarray()[:, 0].tolist(), pooled.obsm["spatial"].round(3).tolist()
    ([4.0, 4.0, 4.0, 4.0], [[16.0, 16.0], [48.0, 16.0], [16.0, 48.0], [48.0, 48.0]])
    """
    if key_added is None:
        check_readable(adata)
    else:
        check_adata(adata)
        check_key_added("key_added", key_added)
        _check_no_column_of_the_user(adata, key_added)
    um = check_number("um", um, above=0)
    check_choice("lattice", lattice, get_args(LatticeKind))
    check_key("spatial_key", spatial_key)
    xy = spatial_coordinates(adata, spatial_key=spatial_key)
    spots = rows_by_library(adata, library_key, library_id)
    mpp = checked_mpp(mpp, spots)
    obs = with_frames(adata).obs
    sections = []
    for library, rows in spots.items():
        _check_one_section(library, obs.iloc[rows], xy[rows], adata.uns, library_key)
        scale = _scale(adata, library, obs.iloc[rows], xy[rows], mpp)
        frame = frame_of(obs.iloc[rows], xy[rows], scale.um_per_px)
        _check_not_finer(um, frame, library)
        bins = _Bins(library, rows, frame, said_on_tissue(obs.iloc[rows]), scale.um_per_px)
        sections.append(_pooled(bins, KINDS[lattice](um)))
    if layer is None and _keys.COUNTS in adata.layers:
        layer = _keys.COUNTS
    counts = count_values(adata, layer).astype(np.float32, copy=False)
    pooled = _assembled(adata, obs, sections, counts, um=um, library_key=library_key)
    logger.info("%d bins or cells were pooled into %d places of %g µm.", adata.n_obs, pooled.n_obs, um)
    if key_added is not None:
        with all_or_nothing(adata):
            adata.obs[key_added] = pd.Categorical.from_codes(_numbers(sections, adata.n_obs), list(pooled.obs_names))
    return pooled


def _check_no_column_of_the_user(adata: AnnData, key_added: str) -> None:
    """Refuse a column that holds something else than the places of an earlier call."""
    obs: pd.DataFrame = with_frames(adata).obs
    if key_added in obs and not obs[key_added].dropna().astype(str).str.fullmatch(_NAME_OF_PLACE).all():
        msg = (
            f"`key_added={key_added!r}`: `adata.obs` has a column of that name, which would be lost. Pass another name."
        )
        raise ValueError(msg)


def _scale(adata: AnnData, library: str, obs: pd.DataFrame, xy: np.ndarray, mpp: Any) -> Scale:
    """Find µm per pixel of a section; refuse a section of which nobody knows it."""
    factors, metadata = (library_part(adata.uns, library, part) for part in ("scalefactors", "metadata"))
    scale = scale_of_section(Evidence(library, mpp, factors, metadata, obs=obs, xy=xy, tag=None))
    if np.isnan(scale.um_per_px):
        msg = (
            f"the scale of {library!r} is unknown, so no pitch in µm can be laid over it. Pass `mpp=`, its µm per "
            "full-resolution pixel; `mpp=1` where the places are in µm, as in a Xenium table."
        )
        raise ValueError(msg)
    if (other := scale.contradicted_by) is not None:
        warn(
            f"{library!r}: {in_two_values(scale.witnesses[0], other)} The first one is used; if the second is right, "
            f"pass `mpp={other.um_per_px:.6g}`."
        )
    elif scale.doubt is not None:
        warn(f"{library!r}: {scale.doubt}")
    return scale


def _check_one_section(
    library: str, obs: pd.DataFrame, xy: np.ndarray, uns: Mapping[str, Any], library_key: str | None
) -> None:
    """Refuse bins of several sections: their sums would mix two tissues."""
    joined = joined_sections(obs, xy, uns)
    if joined is not None:
        msg = (
            f"{joined.n} of {len(xy)} bins or cells of {library!r} {joined.how}, so their sums would mix several "
            "sections that are taken for one (or places lost their digits, as in float16). "
            + joined.remedy(obs, given=library_key)
        )
        raise ValueError(msg)


def _check_not_finer(um: float, frame: Frame, library: str) -> None:
    if um < _NEARLY * frame.spacing:
        what = "cells" if frame.side is None else "bins"
        msg = (
            f"`um={um:g}`: the {what} of {library!r} are {frame.spacing:.4g} µm apart, and pooling cannot make them "
            f"finer. Pass a pitch above {frame.spacing:.4g} µm. Or is µm per pixel wrong? `mpp=` sets it."
        )
        raise ValueError(msg)


def _pooled(bins: _Bins, lattice: Lattice) -> _Pooled:
    """Find the place of each bin of a section."""
    frame = bins.frame
    places, place_of = np.unique(lattice.nearest(frame.um), axis=0, return_inverse=True)
    place_of = place_of.reshape(-1)
    n_in_tissue = np.bincount(place_of[bins.on_tissue], minlength=len(places))
    share = None if frame.side is None else n_in_tissue / _capacity(frame, lattice, places)
    xy = frame.pixels(lattice.centres(places))
    numbers = lattice.counted_from_zero(places)
    return _Pooled(bins, place_of, numbers, xy, share, n_in_tissue > 0)


def _capacity(frame: Frame, lattice: Lattice, places: np.ndarray) -> np.ndarray:
    """Count the bins that each place would hold in an array without borders."""
    n = np.empty(len(places), dtype=np.int64)
    centres = lattice.centres(places)
    for start in range(0, len(places), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        um, exists = frame.bins_around(centres[part], reach=lattice.pitch)  # no place reaches as far
        found = lattice.nearest(um.reshape(-1, 2)).reshape(um.shape)
        n[part] = ((found == places[part, None]).all(axis=2) & exists).sum(axis=1)
    return n


def _numbers(sections: Iterable[_Pooled], n_obs: int) -> np.ndarray:
    """Number the places of all sections on, and give that of each bin (n_obs,)."""
    numbers, start = np.empty(n_obs, dtype=np.int64), 0
    for section in sections:
        numbers[section.bins.rows] = section.place_of + start
        start += len(section.places)
    return numbers


def _assembled(
    adata: AnnData,
    obs: pd.DataFrame,
    sections: list[_Pooled],
    counts: sparse.csr_matrix,
    *,
    um: float,
    library_key: str | None,
) -> AnnData:
    n_places = sum(len(section.places) for section in sections)
    ones, numbers = np.ones(adata.n_obs, dtype=np.float32), _numbers(sections, adata.n_obs)
    members = sparse.csr_matrix((ones, (numbers, np.arange(adata.n_obs))), shape=(n_places, adata.n_obs))
    sums = sparse.csr_matrix(members @ counts)
    sums.sort_indices()
    obsm: dict[str, Any] = {_keys.SPATIAL: np.concatenate([section.xy for section in sections])}
    pooled = AnnData(sums, obs=_annotation(obs, sections, members, library_key), var=with_frames(adata).var.copy())
    pooled.layers[_keys.COUNTS] = sums.copy()
    pooled.obsm.update(obsm)
    pooled.uns[_keys.SPATIAL] = {section.bins.library_id: _library(adata.uns, section, um) for section in sections}
    return pooled


def _annotation(
    obs: pd.DataFrame, sections: list[_Pooled], members: sparse.csr_matrix, library_key: str | None
) -> pd.DataFrame:
    """Describe the places; what is alike for all bins of a section is carried over."""
    kept = [column for column in obs.columns if all(_is_constant(obs[column].iloc[s.bins.rows]) for s in sections)]
    of_bin = np.concatenate([np.full(len(section.places), section.bins.rows[0]) for section in sections])
    table = obs[kept].iloc[of_bin].reset_index(drop=True)
    places = np.concatenate([section.places for section in sections])
    table["array_row"], table["array_col"] = places.T
    table["in_tissue"] = np.concatenate([section.in_tissue for section in sections]).astype(np.int64)
    table["n_pooled"] = np.diff(members.indptr).astype(np.int64)
    shares = [np.full(len(s.places), np.nan) if s.tissue_share is None else s.tissue_share for s in sections]
    if not np.isnan(share := np.concatenate(shares)).all():
        table["tissue_share"] = share
    names = np.concatenate([np.full(len(s.places), s.bins.library_id, dtype=object) for s in sections])
    table.index = pd.Index([f"{name}_{row}_{col}" for name, (row, col) in zip(names, places.tolist(), strict=True)])
    return table


def _is_constant(column: pd.Series) -> bool:
    return bool((column == column.iloc[0]).all()) or bool(column.isna().all())


def _library(uns: Mapping[str, Any], section: _Pooled, um: float) -> dict[str, Any]:
    """Carry over what is known of a section's image, with the size that the places have now."""
    library = {key: copies.deepcopy(value) for key, value in libraries(uns).get(section.bins.library_id, {}).items()}
    factors = {name: value for name, value in library.get("scalefactors", {}).items() if name not in _OF_BINS}
    factors |= {"spot_diameter_fullres": um / section.bins.um_per_px, "microns_per_pixel": section.bins.um_per_px}
    return {"images": {}, "metadata": {}} | library | {"scalefactors": factors}
