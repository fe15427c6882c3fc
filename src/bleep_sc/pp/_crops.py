from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import check_adata, spatial_coordinates, with_frames
from bleep_sc._all_or_nothing import all_or_nothing
from bleep_sc._checks import check_choice, check_int, check_key, check_key_added, check_number
from bleep_sc._library import library_part
from bleep_sc._logging import logger, warn
from bleep_sc._progress import progress
from bleep_sc.pp._cut import Border
from bleep_sc.pp._finding import Finding, in_words
from bleep_sc.pp._inside import check_inside
from bleep_sc.pp._places_code import PlacesCode
from bleep_sc.pp._record import crop_record
from bleep_sc.pp._scale.witnesses import Evidence, scale_of_section
from bleep_sc.pp._section_crops import MOST_PIXELS, SectionCrops, lazy_crops, section_crops
from bleep_sc.pp._section_images import checked_mpp, images_by_library, rows_by_library
from bleep_sc.pp._signs.in_words import scale_in_words
from bleep_sc.pp._signs.registry import found_after, found_before
from bleep_sc.pp._signs.section import SectionToCheck

if TYPE_CHECKING:
    from typing import TypeAlias

    from squidpy.im import ImageContainer
    from xarray import DataArray, DataTree

    Image: TypeAlias = ImageContainer | DataArray | DataTree | str | Path

Check = Literal["warn", "raise", "off"]


def crops(
    adata: AnnData,
    image: "Image | Mapping[str, Image] | None" = None,
    *,
    size: int = 224,
    um: float | None = None,
    mpp: float | Mapping[str, float] | None = None,
    library_key: str | None = None,
    library_id: str | None = None,
    image_layer: str | None = None,
    series: "int | str | Mapping[str, int | str] | None" = None,
    border: Border = "white",
    lazy: bool = False,
    check: Check = "warn",
    spatial_key: str = _keys.SPATIAL,
    key_added: str = _keys.CROPS,
    progress_bar: bool | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Cut one square image crop around each spot, and check that image, scale and spots fit together.

    Parameters
    ----------
    adata
        Spots with their centres in `obsm['spatial']`: x and y in full-resolution pixels.
    image
        The section's H&E image: an :class:`squidpy.im.ImageContainer`, an image element of SpatialData or a path. For
        several sections, pass a mapping from library to image.

        Pass the path of a TIFF to cut from a slide larger than memory. Only the tiles under spots are then read, each
        about once. This also works for OME, SVS and other pyramids, and for image elements (``sdata["NAME"]``, or the
        path ``sample.zarr/images/NAME``). With `um`, the lowest level with enough pixels is read. A container's scale,
        offset in a larger image, layer and z plane are respected. A file with an orientation tag is turned upright.

        ``None`` takes the file named by ``uns['spatial'][library]['metadata']['source_image_path']``. If there is none,
        it takes the small hires image of `uns`, with a warning.
    size
        Side of the stored crops in pixels; 224 in the paper. Without `um` these are the image's own pixels, and crops
        begin ``size // 2`` pixels before the rounded centre.
    um
        Width of the crops in µm of tissue. Crops are then resampled to `size` pixels, with antialiasing. So crops of
        slides that were scanned at different resolutions show the same width of tissue.
    mpp
        µm per full-resolution pixel, one number or a mapping from library. ``None`` takes
        ``scalefactors['microns_per_pixel']``, else works it out from a Visium lattice, whose spots are 100 µm apart.
        For a slide without measured spots (:func:`~bleep_sc.pp.blank`), it then tries the tags of the file. Otherwise
        the scale is unknown. It is never guessed.
    library_key
        Column of `obs` with each spot's section, where `adata` holds several.
    library_id
        Library of ``uns['spatial']`` that all spots belong to. Needed where ``uns['spatial']`` holds several libraries
        and `adata` is one section.
    image_layer
        Layer of the ImageContainers; needed only where they have several.
    series
        Which image of a TIFF shows the section, if it holds several: its number (from 0) or its name, or a mapping from
        library to either. ``None`` takes the largest colour image. It ignores pictures of the slide's label and other
        thumbnails. If two images are about the same size, it refuses, and the message lists all images.
    border
        What fills a crop beyond the edge of the image: ``"white"``, or ``"reflect"`` for the mirrored image.
    lazy
        Store a dask array that cuts crops when they are needed; no pixel is read now. Each block of 128 spots then
        reads the tiles that it touches. This works best with spots sorted by place, and with a tiled TIFF or a chunked
        image (zarr).
    check
        What to do if image, scale and spots seem not to fit together (Notes). ``"warn"`` warns. ``"raise"`` raises a
        ValueError before anything is stored. ``"off"`` checks nothing.
    spatial_key
        Key of the centres in `obsm`.
    key_added
        Key of the crops in `obsm`, and of their records in `uns`.
    progress_bar
        Overrides the value of the same name in :attr:`bleep_sc.settings` for this call.
    copy
        Return a changed copy instead of changing `adata`.

    Returns
    -------
    ``None``, or the changed copy if ``copy=True``. Sets the following fields:

    `adata.obsm['crops' | key_added]` : :class:`numpy.ndarray` (uint8, (n_obs, size, size, 3))
        RGB crops; a :class:`dask.array.Array` if `lazy`.
    `adata.uns['crops' | key_added][library_id]` : `dict`
        Record of the section's crops. ``size`` is in pixels. ``size_um``, ``um_per_px`` and ``spot_diameters`` (width
        of the crop in spot diameters) are NaN if unknown. ``padded`` is the number of crops that reach beyond the
        image's edge. ``missing_tiles`` is the number of tiles under crops that the scanner left out; they are white,
        like glass. ``level_scale`` is the scale of the level that was read, in pixels per full-resolution pixel.
        ``findings`` is a :class:`pandas.DataFrame` of what seemed wrong: ``sign`` (name of the check), ``found`` and
        ``remedy``. The other entries are ``source``, ``border``, ``library_key`` and ``spatial_key``.

    Raises
    ------
    KeyError
        No coordinates, no such column.
    ValueError
        - Coordinates that are NaN or outside the image (the message says what would fit).
        - Several libraries and no `library_key`.
        - A library without an image.
        - An image that is no brightfield image, or whose colour model cannot be read (the message names it).
        - A file with several images, if it is not clear which is meant.
        - `um` without a known scale.
        - A view of an AnnData (pass a copy).
        - A damaged file.
        - An image that needs more than 4 GiB to be read at once (pass a tiled TIFF, or the image in memory).
        - Anything found with ``check="raise"``.
    FileNotFoundError
        A path that does not exist.

    Notes
    -----
    A crop of 224 pixels takes 150 KB. Drop the crops with ``del adata.obsm['crops']`` before you share an object: a
    fitted model does not need them.

    **What is checked before cutting.** Each finding names its evidence and the line of code that corrects it.

    - Sources of µm per pixel agree to within 5 % (`mpp`, `scalefactors`, a Visium lattice, the tags of the file).
    - A crop of 20 µm or more has at least 8 pixels of the image along its side. Spots of an array are 20 to 600 µm
      apart. Bins, cells and places of a grid may lie as they like.
    - No two spots share a place, a row and column of the array, or an instance of SpatialData. They do if sections were
      joined.
    - Places are not stored in half precision.
    - The image has the size that the hires picture of `uns` implies.
    - Spots lie on tissue. They are not turned, mirrored, swapped or scaled.
    - Places are in pixels. Places in µm would fill a corner of the image.

    **After cutting**, crops should look like the hires picture at the same places, and should not be dark. With `lazy`,
    these checks are left out, since they read crops.

    **Lower levels** of a pyramid are read only if `um` needs fewer pixels than the level has. Their crops differ from
    full-resolution crops by 2 to 3 grey levels of 255 on average (on HER2ST).

    Examples
    --------
    >>> import numpy as np
    >>> import squidpy as sq
    >>> from anndata import AnnData
    >>> import bleep_sc as bl
    >>> adata = AnnData(np.ones((2, 3), dtype="float32"), obsm={"spatial": np.array([[50.0, 40.0], [10.0, 90.0]])})
    >>> slide = sq.im.ImageContainer(np.full((100, 120, 3), 200, dtype=np.uint8))
    >>> bl.pp.crops(adata, slide, size=32, mpp=0.5)
    >>> adata.obsm["crops"].shape, adata.uns["crops"]["library"]["size_um"]
    ((2, 32, 32, 3), 16.0)
    """
    check_adata(adata, copy=copy)
    check_key("spatial_key", spatial_key)
    check_key_added("key_added", key_added, allowed=_keys.CROPS)
    if key_added == spatial_key:
        msg = f"`key_added={key_added!r}` is `spatial_key`: crops would replace the places of the spots. Name another."
        raise ValueError(msg)
    size = check_int("size", size, maximum=MOST_PIXELS)
    check_choice("border", border, get_args(Border))
    check_choice("check", check, get_args(Check))
    if um is not None:
        um = check_number("um", um, above=0)
    xy = spatial_coordinates(adata, spatial_key=spatial_key)
    obs = with_frames(adata).obs
    spots = rows_by_library(adata, library_key, library_id)
    mpp = checked_mpp(mpp, spots)
    images = images_by_library(
        adata, image, list(spots), image_layer=image_layer, series=series, library_key=library_key
    )
    to_cut: list[tuple[SectionCrops, SectionToCheck]] = []
    for library, rows in spots.items():
        evidence = Evidence(
            library,
            mpp,
            library_part(adata.uns, library, "scalefactors"),
            library_part(adata.uns, library, "metadata"),
            obs=obs.iloc[rows],
            xy=xy[rows],
            tag=images[library].tag,
        )
        scale = scale_of_section(evidence)
        section = section_crops(
            library, rows, images[library], evidence.xy, size=size, um=um, um_per_px=scale.um_per_px, border=border
        )
        to_check = SectionToCheck(
            library_id=library,
            obs=evidence.obs,
            xy=evidence.xy,
            stored_dtype=np.asarray(adata.obsm[spatial_key]).dtype,
            image=images[library],
            scale=scale,
            uns=adata.uns,
            code=PlacesCode.of(adata.obsm[spatial_key], spatial_key, library, library_key),
            full_width=section.full_width,
            um=um,
        )
        to_cut.append((section, to_check))
    check_inside(to_check for _, to_check in to_cut)
    logger.info("%s", scale_in_words([to_check for _, to_check in to_cut]))
    findings: dict[str, list[Finding]] = {section.library_id: [] for section, _ in to_cut}
    if check != "off":
        for section, to_check in to_cut:
            findings[section.library_id] = found_before(to_check, size=size, um=um)
    _raise_if(check, findings)
    _warn_of_unknown_scales({section.library_id: to_check for section, to_check in to_cut})
    if lazy:
        crops_of_spots = lazy_crops([section for section, _ in to_cut], adata.n_obs, size)
    else:
        crops_of_spots = _room(adata.n_obs, size)
        for section, to_check in to_cut:
            read = section.in_memory()
            _cut(read, crops_of_spots, progress_bar=progress_bar)
            if check != "off":
                known = findings[section.library_id]
                known += found_after(to_check, read.image, crops_of_spots, section.rows, known)
    _raise_if(check, findings)
    records = {
        section.library_id: crop_record(
            section,
            um_per_px=to_check.scale.um_per_px,
            spot_diameter=to_check.scale.spot_diameter,
            library_key=library_key,
            spatial_key=spatial_key,
            findings=findings[section.library_id],
        )
        for section, to_check in to_cut
    }
    adata = adata.copy() if copy else adata
    with all_or_nothing(adata):
        adata.obsm[key_added] = crops_of_spots
        adata.uns[key_added] = records
    if check == "warn":
        _warn_of(findings)
    return adata if copy else None


def _cut(section: SectionCrops, out: np.ndarray, *, progress_bar: bool | None) -> None:
    desc, total = f"Cutting crops of {section.library_id!r}", len(section.rows)
    for _ in progress(section.write(out, section.rows), desc=desc, total=total, show=progress_bar):
        pass


def _raise_if(check: Check, findings: Mapping[str, list[Finding]]) -> None:
    if check == "raise" and any(findings.values()):
        raise ValueError(in_words(findings))


def _warn_of(findings: Mapping[str, list[Finding]]) -> None:
    if any(findings.values()):
        warn(f"{in_words(findings)}\nIf all is as it should be, `check='off'` leaves these checks out.")


def _warn_of_unknown_scales(sections: Mapping[str, SectionToCheck]) -> None:
    unknown = [library for library, section in sections.items() if np.isnan(section.scale.um_per_px)]
    if not unknown:
        return
    shown = ", ".join(map(repr, unknown[:6])) + (", ..." if len(unknown) > 6 else "")
    tags = {library: sections[library].image.tag for library in unknown}
    of_files = [
        f" By {tag.source} it is {tag.um_per_px:.6g} for {library!r}."
        for library, tag in tags.items()
        if tag is not None and tag.believed
    ]
    warn(
        f"the scale of the image is unknown for {shown}, so `um=` cannot be used and crops of other slides can be "
        "compared only in spot diameters or pixels. Pass `mpp=` (µm per full-resolution pixel) if you know it."
        + "".join(of_files[:6])
    )


def _room(n_obs: int, size: int) -> np.ndarray:
    try:
        return np.empty((n_obs, size, size, 3), dtype=np.uint8)
    except MemoryError as err:
        msg = (
            f"{n_obs} crops of `size={size}` take {3 * n_obs * size**2 / 2**30:.1f} GiB, more than there is. Pass "
            "`lazy=True`, which cuts them on demand, or a smaller `size`."
        )
        raise MemoryError(msg) from err
