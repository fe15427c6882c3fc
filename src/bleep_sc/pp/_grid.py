from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import check_reference, section_of_spots
from bleep_sc._checks import check_choice, check_key, check_name, check_number
from bleep_sc._library import SPOT_DIAMETER_FROM
from bleep_sc._logging import logger, warn
from bleep_sc.pp._images.open import check_series
from bleep_sc.pp._images.section import SectionImage
from bleep_sc.pp._images.thumbnails import pictures
from bleep_sc.pp._lattice.lattice import KINDS, LatticeKind
from bleep_sc.pp._lattice.reference import lattice_of_reference
from bleep_sc.pp._scale.witnesses import Evidence, in_two_values, scale_of_section
from bleep_sc.pp._slide import new_slide, recorded_source, whole_image, without_a_name
from bleep_sc.pp._tissue.find import said_tissue, tissue_on

if TYPE_CHECKING:
    from squidpy.im import ImageContainer
    from xarray import DataArray, DataTree

_FROM_LATTICE = "lattice"
"""Where the spot diameter comes from: it is the pitch, and tells no scale."""
_UNNAMED = "slide"
"""How an image in memory is called, which has no name."""
_MOST_PLACES = 5_000_000
"""Largest number of places that are laid over a slide: more come of a scale or a pitch that is wrong."""
_OTHERWISE: LatticeKind = "square"
"""The lattice where the reference stands on none."""


def grid(
    image: "ImageContainer | DataArray | DataTree | str | Path",
    ref: AnnData,
    *,
    um: float | None = None,
    lattice: LatticeKind | None = None,
    mask: Any = None,
    min_tissue: float = 0.5,
    mpp: float | None = None,
    library_id: str | None = None,
    image_layer: str | None = None,
    series: int | str | None = None,
    library_key: str | None = None,
) -> AnnData:
    """Place spots over the tissue of a slide that was never sequenced, on the lattice of the reference.

    Next, cut its crops with :func:`~bleep_sc.pp.crops`, and predict its expression with :func:`~bleep_sc.tl.impute`. If
    you know the places of the spots, use :func:`~bleep_sc.pp.blank` instead.

    `um` is the **pitch**: the distance between spots. In :func:`~bleep_sc.pp.crops`, `um` is the width of the crops.

    Parameters
    ----------
    image
        H&E image of the slide: a path, an :class:`squidpy.im.ImageContainer` or an image element of SpatialData. A
        slide of any size is read part by part, from its lower levels if it has any.
    ref
        The reference. The result gets its genes and its lattice.
    um
        Distance between neighbouring spots in µm. ``None`` takes the reference's distance, if its scale is known. A
        smaller distance gives a denser map, but no finer resolution. Each value still describes all the tissue that its
        crop shows, as in a moving window.
    lattice
        ``"hexagonal"`` or ``"square"``. ``None`` takes the lattice of the reference, or a square one if the reference
        has no lattice.
    mask
        Where the tissue is. ``None`` finds it by colour (Notes). You can pass an array (y, x) of the whole slide at any
        size that is True (or not 0) on tissue. You can pass polygons in full-resolution pixels, such as LazySlide's
        ``wsi.shapes['tissues']``. Or pass the path of a GeoJSON file, such as QuPath exports. Detections and cells of
        QuPath are ignored, and objects of classes whose names end in ``*`` are cut out.
    min_tissue
        Smallest share of tissue that a spot must have to be kept, from 0 to 1. With 0, all spots of the slide are kept.
    mpp
        µm per full-resolution pixel. ``None`` takes what the tags of the file say (OME, Aperio, NDPI, TIFF, OpenSlide).
    library_id
        Name of the slide. ``None`` takes the name of the file. For an image in a store, it joins the names of both. An
        image in memory has no name, so pass one if you will join slides.
    image_layer
        Layer of the ImageContainer; needed only where it has several.
    series
        Which image of a TIFF shows the section, where it holds several: its number (from 0) or its name.
    library_key
        Column of `ref.obs` with the section of each spot. ``None`` takes the column that its crops were cut with.

    Returns
    -------
    An AnnData with the reference's `var`, no `X`, and the following fields:

    `obsm['spatial']` : :class:`numpy.ndarray` (float64, (n_obs, 2))
        Spot centres in full-resolution pixels.
    `obs['tissue_share']` : float
        Share of tissue in a square of width `um` around each spot, 0 to 1.
    `obs['array_row']`, `obs['array_col']` : int
        Row and column of the lattice, from the upper left corner of the slide. On a hexagonal lattice columns count
        half steps, as Space Ranger does.
    `obs['in_tissue']` : int
        1 for a share of at least a half.
    `uns['spatial'][library_id]` : `dict`
        ``images`` (hires and lowres, uint8), ``scalefactors`` with ``microns_per_pixel``, and ``metadata``. The spot
        diameter is the pitch, so that spots touch when they are drawn. It is never used to work out the scale of the
        slide. ``metadata['source_image_path']`` is the path of the file (not with `series`). ``bl.pp.crops(slide)``
        cuts from it.

    Raises
    ------
    ValueError
        - No µm per pixel.
        - No `um`, and a reference without a known distance between spots.
        - No tissue.
        - A mask that has another shape, or lies outside the slide.
        - An image that is damaged or of a kind that cannot be read (the message says what to do).
    FileNotFoundError
        A path that does not exist.

    Notes
    -----
    **How tissue is found.** A small picture of the slide is smoothed. A pixel is tissue if two things hold. Its
    colourfulness (largest minus smallest channel) is above Otsu's threshold. And it is clearly darker than the glass in
    green, which excludes dye that ran onto the glass. Black edges are left out, and so is ink (pure colours, and blues
    and greens that H&E does not have). Specks below 2 % of all tissue are left out too. Small holes are filled. Look at
    the result with ``sc.pl.spatial(slide, color='tissue_share')``.

    The µm per pixel of a slide comes from `mpp`, else from the file. The log says from which. If both exist and differ
    by more than 5 %, a warning gives both values.

    Examples
    --------
    >>> import numpy as np
    >>> import squidpy as sq
    >>> import bleep_sc as bl
    >>> ref = bl.datasets.toy(n_patients=1, n_sections=1, n_spots=30, progress_bar=False)
    >>> pixels = np.full((1200, 1600, 3), 240, dtype=np.uint8)
    >>> pixels[400:800, 400:1200] = (180, 90, 160)
    >>> slide = bl.pp.grid(sq.im.ImageContainer(pixels), ref, um=100, mpp=0.5, library_id="new")
    >>> slide.n_obs, slide.obsm["spatial"].min(axis=0).tolist()
    (8, [500.0, 500.0])
    """
    check_reference(ref)
    wanted = _Wanted.checked(um=um, lattice=lattice, min_tissue=min_tissue, mpp=mpp, image=image, library_id=library_id)
    check_series(series)
    if library_key is not None:
        check_key("library_key", library_key)
        section_of_spots(ref, library_key, name="ref")  # which refuses a column that is not there
    wanted = wanted.completed(ref, library_key)
    opened = whole_image(image, library_id=wanted.library_id, image_layer=image_layer, series=series)
    um_per_px = _um_per_px(opened, wanted)
    pitch = wanted.um / um_per_px
    full = opened.width_height / opened.scale
    _check_number_of_places(full, pitch, wanted, um_per_px)
    tissue = None if mask is None else said_tissue(mask, full, pitch=pitch)
    small = pictures(opened, name="image")
    if tissue is None:
        tissue = tissue_on(small[0]["hires"], full, pitch=pitch)
    places_on = KINDS[wanted.lattice or _OTHERWISE](pitch)
    places = places_on.within(full)
    xy = places_on.centres(places)
    share = tissue.share(xy, pitch)
    kept = share >= wanted.min_tissue
    if not kept.any():
        highest = f"; the highest share is {share.max():.2g}" if len(share) else ""
        msg = (
            f"no spot of a lattice of {wanted.um:g} µm lies on tissue by a share of {wanted.min_tissue:g} or "
            f"more{highest}. Pass a lower `min_tissue`, a finer `um`, or say where tissue is by `mask=`."
        )
        raise ValueError(msg)
    names = [f"{wanted.library_id}_{i}" for i in range(int(kept.sum()))]
    slide = new_slide(
        ref.var,
        xy[kept],
        names=names,
        library_id=wanted.library_id,
        diameter=pitch,
        diameter_from=_FROM_LATTICE,
        small=small,
        source=recorded_source(image, series),
    )
    slide.obs = _annotation(slide.obs, places[kept], share[kept])
    slide.uns[_keys.SPATIAL][wanted.library_id]["scalefactors"]["microns_per_pixel"] = um_per_px
    if library_id is None and not isinstance(image, str | Path):
        warn(without_a_name(wanted.library_id))
    logger.info("%d spots, %g µm apart, were laid over the tissue of %r.", slide.n_obs, wanted.um, wanted.library_id)
    return slide


@dataclass(frozen=True)
class _Wanted:
    """The arguments of `grid` that say what is laid."""

    um: float
    """NaN where the reference is to tell it."""
    lattice: LatticeKind | None
    min_tissue: float
    mpp: float | None
    library_id: str

    @classmethod
    def checked(cls, *, um: Any, lattice: Any, min_tissue: Any, mpp: Any, image: Any, library_id: Any) -> "_Wanted":
        """Check the arguments alone."""
        if um is not None:
            um = check_number("um", um, above=0)
        if lattice is not None:
            check_choice("lattice", lattice, get_args(LatticeKind))
        if check_number("min_tissue", min_tissue, minimum=0) > 1:
            msg = f"`min_tissue` must be between 0 and 1, such as 0.5; found {min_tissue!r}."
            raise ValueError(msg)
        if mpp is not None:
            mpp = check_number("mpp", mpp, above=0)
        if library_id is None:
            library_id = _name_of(image)
        check_name("library_id", library_id)
        return cls(np.nan if um is None else um, lattice, float(min_tissue), mpp, library_id)

    def completed(self, ref: AnnData, library_key: str | None) -> "_Wanted":
        """Take from the reference what was not said."""
        if self.lattice is not None and np.isfinite(self.um):
            return self
        told = lattice_of_reference(ref, library_key)
        um = self.um if np.isfinite(self.um) else told.um
        if np.isnan(um):
            msg = (
                f"`um` is needed, the distance between spots in µm: {told.why}. "
                "Pass `um=`, such as 100 for a reference of Visium."
            )
            raise ValueError(msg)
        kind = self.lattice or told.kind or _OTHERWISE
        whose = "given" if self.lattice else "the reference's" if told.kind else "since the reference stands on none"
        logger.info("The lattice is %s (%s), its pitch %.4g µm.", kind, whose, um)
        return replace(self, um=um, lattice=kind)


def _name_of(image: Any) -> str:
    """Take the name of a file without its ending, ``.ome.tif`` as one; in a store that of the store goes before it."""
    if not isinstance(image, str | Path):
        return _UNNAMED
    path = Path(image)
    store = next((parent for parent in path.parents if parent.suffix == ".zarr"), None)
    within = [] if store is None else [part for part in path.relative_to(store).parts if part != "images"]
    return "_".join([(store or path).stem.removesuffix(".ome"), *within]) or _UNNAMED


def _um_per_px(image: SectionImage, wanted: _Wanted) -> float:
    """Take µm per pixel as given, else as the file says; name two that contradict each other."""
    metadata = {SPOT_DIAMETER_FROM: _FROM_LATTICE}  # no spot was measured here, so the file may be believed
    nothing = pd.DataFrame(), np.zeros((0, 2))
    evidence = Evidence(wanted.library_id, wanted.mpp, {}, metadata, obs=nothing[0], xy=nothing[1], tag=image.tag)
    scale = scale_of_section(evidence)
    if np.isnan(scale.um_per_px):
        odd = "".join(f" ({each.um_per_px:.4g} by {each.source}, which no microscope has)" for each in scale.witnesses)
        msg = (
            f"`image`: no tag of {image.source!r} says how many µm a pixel has{odd}, so no pitch in µm can be laid "
            "over it. Pass `mpp=`, its µm per full-resolution pixel (0.25 for most scans at 40×, 0.5 at 20×)."
        )
        raise ValueError(msg)
    if (other := scale.contradicted_by) is not None:
        warn(
            f"{in_two_values(scale.witnesses[0], other)} The first one is used: {wanted.um:g} µm are "
            f"{wanted.um / scale.um_per_px:.4g} pixels by it, and {wanted.um / other.um_per_px:.4g} by the other. If "
            "the second is right, leave `mpp` out."
        )
    return scale.um_per_px


def _check_number_of_places(full: np.ndarray, pitch: float, wanted: _Wanted, um_per_px: float) -> None:
    n = full.prod() / pitch**2
    size = f"the slide is {full[0] * um_per_px / 1000:.3g} x {full[1] * um_per_px / 1000:.3g} mm by {um_per_px:.4g} µm"
    if n > _MOST_PLACES or pitch < 1:
        msg = (
            f"`um={wanted.um:g}` would lay {n:.2g} spots, {pitch:.3g} pixels apart: {size} per pixel. Pass a larger "
            "`um`, or mend `mpp`."
        )
        raise ValueError(msg)
    if pitch > full.max():
        msg = f"`um={wanted.um:g}` is wider than the slide: {size} per pixel. Pass a smaller `um`, or mend `mpp`."
        raise ValueError(msg)


def _annotation(obs: pd.DataFrame, places: np.ndarray, share: np.ndarray) -> pd.DataFrame:
    table = obs.copy()
    table["in_tissue"] = (share >= 0.5).astype(np.int64)
    table["array_row"], table["array_col"] = places.T
    table["tissue_share"] = share
    return table
