from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import check_adata, section_of_spots, spatial_coordinates
from bleep_sc._all_or_nothing import all_or_nothing
from bleep_sc._checks import check_choice, check_int, check_key, check_key_added, check_number, check_section_names
from bleep_sc._library import libraries, library_part, scale_factor
from bleep_sc._logging import logger, warn
from bleep_sc._progress import progress
from bleep_sc.pp._cut import Border, fractional_corners, leave_image, native_corners, write_windows
from bleep_sc.pp._images import SectionImage, check_rgb, existing_path, hires_image, open_image
from bleep_sc.pp._patches import check_parts
from bleep_sc.pp._scale import microns_per_pixel

if TYPE_CHECKING:
    from typing import TypeAlias

    from squidpy.im import ImageContainer

    Image: TypeAlias = ImageContainer | str | Path

_LAZY_BLOCK = 128
_MOST_PIXELS = 2**14
"""Largest side of a window in pixels, before and after resampling."""


@dataclass(frozen=True)
class _Section:
    """The spots of one section and how their crops are cut from its image."""

    library_id: str
    rows: np.ndarray
    image: SectionImage
    centres: np.ndarray
    """Spot centres in pixels of the image (n, 2)."""
    size: int
    width: float | None
    """Width of the windows in pixels of the image, where they are resampled to `size`; else ``None``."""
    border: Border

    def write(self, out: np.ndarray, rows: np.ndarray, spots: Any = slice(None)) -> Iterator[int]:
        """Write the crops of some spots of the section into these rows of `out`; yield after each crop."""
        return write_windows(
            out,
            self.image.array,
            centres=self.centres[spots],
            rows=rows,
            width=self.width,
            border=self.border,
            name=f"image of {self.library_id!r}",
        )

    def n_padded(self) -> int:
        if self.width is None:
            leaving = leave_image(native_corners(self.centres, self.size), self.size, self.image.width_height)
        else:
            leaving = leave_image(fractional_corners(self.centres, self.width), self.width, self.image.width_height)
        return int(leaving.sum())


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
    border: Border = "white",
    lazy: bool = False,
    spatial_key: str = _keys.SPATIAL,
    key_added: str = _keys.CROPS,
    progress_bar: bool | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Cut one square image crop around each spot.

    Parameters
    ----------
    adata
        Spots with their centres in `obsm['spatial']`: x and y in full-resolution pixels.
    image
        The section's H&E image: an :class:`squidpy.im.ImageContainer` or a path; for several sections a mapping from
        library to either. From a TIFF given by its path only the tiles under spots are read, each about once. This is
        the way to cut from slides larger than memory. It also works for OME, SVS and other pyramids, whose largest
        image is taken. The container's scale, its offset in a larger image, its layer and its z plane are respected.
        ``None`` takes the file named by ``uns['spatial'][library]['metadata']['source_image_path']``, else the small
        hires image of `uns`, with a warning.
    size
        Side of the stored crops in pixels; 224 in the paper. Without `um` these are the image's own pixels, and crops
        begin ``size // 2`` pixels before the rounded centre.
    um
        Width of tissue in µm to cut instead, which is then resampled, antialiased, to `size` pixels. So crops of
        differently scanned slides come out alike.
    mpp
        µm per full-resolution pixel, one number or a mapping from library. ``None`` takes
        ``scalefactors['microns_per_pixel']``, else what a Visium lattice tells (its spots are 100 µm apart). Otherwise
        the scale is unknown: it is never guessed.
    library_key
        Column of `obs` with each spot's section, where `adata` holds several.
    library_id
        Library of ``uns['spatial']`` that all spots belong to. Needed where ``uns['spatial']`` holds several libraries
        and `adata` is one section.
    image_layer
        Layer of the ImageContainers; needed only where they have several.
    border
        What fills a crop beyond the edge of the image: ``"white"``, or ``"reflect"`` for the mirrored image.
    lazy
        Store a dask array that cuts on demand: no pixel is read now. Each block of 128 spots then reads the tiles that
        it touches. This works best with spots sorted by place, and with a tiled TIFF or a chunked image (zarr).
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
        of the crop in spot diameters) are NaN if unknown. ``padded`` is the number of crops that reach over the image's
        edge. The other entries are ``source``, ``border`` and ``library_key``.

    Raises
    ------
    KeyError
        No coordinates, no such column.
    ValueError
        Coordinates that are NaN or outside the image (the message says which scale would fit); several libraries and no
        `library_key`; a library without image; an image that is no RGB; `um` without a known scale; a view; a damaged
        file; an image of which more than 4 GiB must be read at one go (pass a tiled TIFF, or the image in memory).
    FileNotFoundError
        A path that does not exist.

    Notes
    -----
    A crop of 224 pixels takes 150 KB. Drop the crops with ``del adata.obsm['crops']`` before you share an object: a
    fitted model does not need them.

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
    size = check_int("size", size, maximum=_MOST_PIXELS)
    check_choice("border", border, get_args(Border))
    if um is not None:
        um = check_number("um", um, above=0)
    xy = spatial_coordinates(adata, spatial_key=spatial_key)
    spots = _rows_by_library(adata, library_key, library_id)
    if isinstance(mpp, Mapping):
        mpp = {str(library): value for library, value in mpp.items()}
        if not any(library in mpp for library in spots):
            msg = f"`mpp` has no entry for any of {list(spots)}; it has {list(mpp)}."
            raise ValueError(msg)
    images = _images_by_library(adata, image, list(spots), image_layer, library_key=library_key)
    sections, scales = [], []
    for library, rows in spots.items():
        factors = library_part(adata.uns, library, "scalefactors")
        microns = microns_per_pixel(library, mpp=mpp, scalefactors=factors, obs=adata.obs.iloc[rows], xy=xy[rows])
        diameter = scale_factor(factors, "spot_diameter_fullres", library_id=library)
        section = _section(library, rows, images[library], xy[rows], size=size, um=um, microns=microns, border=border)
        sections.append(section)
        scales.append((microns, diameter))
    _check_inside(adata, sections, spatial_key)
    records = {
        section.library_id: _record(section, *scale, library_key)
        for section, scale in zip(sections, scales, strict=True)
    }
    unknown = [library for library, record in records.items() if np.isnan(record["size_um"])]
    if unknown:
        shown = ", ".join(map(repr, unknown[:6])) + (", ..." if len(unknown) > 6 else "")
        warn(
            f"the scale of the image is unknown for {shown}, so `um=` cannot be used and crops of other slides can be "
            "compared only in spot diameters or pixels. Pass `mpp=` (µm per full-resolution pixel) if you know it."
        )
    if lazy:
        crops_of_spots = _lazy_crops(sections, adata.n_obs, size)
    else:
        crops_of_spots = _room(adata.n_obs, size)
        for section in sections:
            desc, total = f"Cutting crops of {section.library_id!r}", len(section.rows)
            for _ in progress(section.write(crops_of_spots, section.rows), desc=desc, total=total, show=progress_bar):
                pass
    adata = adata.copy() if copy else adata
    with all_or_nothing(adata):
        adata.obsm[key_added] = crops_of_spots
        adata.uns[key_added] = records
    return adata if copy else None


def _room(n_obs: int, size: int) -> np.ndarray:
    try:
        return np.empty((n_obs, size, size, 3), dtype=np.uint8)
    except MemoryError as err:
        msg = (
            f"{n_obs} crops of `size={size}` take {3 * n_obs * size**2 / 2**30:.1f} GiB, more than there is. Pass "
            "`lazy=True`, which cuts them on demand, or a smaller `size`."
        )
        raise MemoryError(msg) from err


def _rows_by_library(adata: AnnData, library_key: str | None, library_id: str | None) -> dict[str, np.ndarray]:
    if library_key is not None:
        if library_id is not None:
            msg = "pass `library_key` (several sections) or `library_id` (one), not both."
            raise ValueError(msg)
        check_key("library_key", library_key)
        sections = section_of_spots(adata, library_key)
        names = [str(name) for name in np.unique(np.asarray(sections, dtype=str))]
        check_section_names(f"adata.obs[{library_key!r}]", names)
        return {name: np.flatnonzero(sections == name) for name in names}
    if library_id is not None:
        check_key("library_id", library_id)
    known = list(libraries(adata.uns))
    if library_id is None and len(known) > 1:
        msg = (
            f"`adata.uns['spatial']` holds {len(known)} libraries ({', '.join(map(repr, known[:6]))}): pass "
            "`library_key`, the column of `obs` that says which spot belongs to which, or `library_id` if all spots "
            "belong to one."
        )
        raise ValueError(msg)
    if library_id is not None and known and library_id not in known:
        msg = f"`library_id={library_id!r}` is not in `adata.uns['spatial']`, which holds {known}."
        raise ValueError(msg)
    chosen = (known or ["library"])[0] if library_id is None else library_id
    check_section_names("library_id" if library_id is not None else "adata.uns['spatial']", [chosen])
    return {chosen: np.arange(adata.n_obs)}


def _images_by_library(
    adata: AnnData, image: Any, libraries: list[str], image_layer: str | None, *, library_key: str | None
) -> dict[str, SectionImage]:
    if isinstance(image, Mapping):
        image = {str(library): image_source for library, image_source in image.items()}
        missing = [library for library in libraries if library not in image]
        if missing:
            msg = f"`image` has no entry for {missing}; it has {list(image)}. " + (
                "Every section needs its image."
                if library_key is not None
                else "Pass `library_key`, the column of `obs` that says which spot belongs to which, or `library_id` "
                "if all spots belong to one."
            )
            raise ValueError(msg)
        if extra := [library for library in image if library not in libraries]:
            logger.info("Images of libraries that are not in `adata` are ignored: %s.", extra)
        chosen = {library: image[library] for library in libraries}
    elif image is None:
        chosen = {library: _source_image(adata, library) for library in libraries}
    else:
        planes = getattr(image, "library_ids", [])
        if len(libraries) > 1 and len(planes) < 2:
            msg = (
                f"one `image` for {len(libraries)} sections: pass a mapping from library to image, such as "
                f"{{{libraries[0]!r}: ..., {libraries[1]!r}: ...}}."
            )
            raise ValueError(msg)
        chosen = dict.fromkeys(libraries, image)
    opened = {}
    for library, image_source in chosen.items():
        name = f"image[{library!r}]" if isinstance(image, Mapping) else "image"
        if image is None:
            place = (
                "['images']['hires']" if isinstance(image_source, SectionImage) else "['metadata']['source_image_path']"
            )
            name = f"adata.uns['spatial'][{library!r}]{place}"
        opened[library] = (
            image_source
            if isinstance(image_source, SectionImage)
            else open_image(image_source, library_id=library, image_layer=image_layer, name=name)
        )
        check_rgb(opened[library].array, name=name)
        check_parts(opened[library].array, name=name)
    return opened


def _source_image(adata: AnnData, library: str) -> "SectionImage | str":
    path = library_part(adata.uns, library, "metadata").get("source_image_path")
    if existing_path(path) is not None:
        return str(path)
    hires = hires_image(adata.uns, library)
    if hires is None:
        msg = (
            f"no `image` was given for {library!r}, and `adata.uns['spatial'][{library!r}]` has neither an existing "
            "`metadata['source_image_path']` nor a hires image. Pass `image=`, an ImageContainer or a path."
        )
        raise ValueError(msg)
    factors = library_part(adata.uns, library, "scalefactors")
    diameter = scale_factor(factors, "spot_diameter_fullres", library_id=library)
    pixels = "an unknown number of" if np.isnan(diameter) else f"{diameter * hires.scale:.1f}"
    warn(
        f"no full-resolution image of {library!r}: the hires image of `uns` is used, on which a spot is {pixels} "
        f"pixels wide{'' if path is None else f' (there is no file {str(path)[:500]!r})'}. Pass `image=` to see cells."
    )
    return hires


def _section(
    library: str,
    rows: np.ndarray,
    image: SectionImage,
    xy: np.ndarray,
    *,
    size: int,
    um: float | None,
    microns: float,
    border: Border,
) -> _Section:
    width = None
    if um is not None:
        if np.isnan(microns):
            msg = (
                f"`um={um}`: the scale of {library!r} is unknown. Pass `mpp=`, its µm per full-resolution pixel, or "
                "leave `um` out to cut native pixels."
            )
            raise ValueError(msg)
        width = um / microns * image.scale
        if not 1 <= width <= _MOST_PIXELS:
            msg = (
                f"`um={um:g}` is {width:.3g} pixels wide on the image of {library!r}, of {microns / image.scale:.3g} "
                f"µm per pixel; 1 to {_MOST_PIXELS} are expected. Is either not in µm, or the scale of the image wrong?"
            )
            raise ValueError(msg)
    return _Section(library, rows, image, image.centres(xy), size, width, border)


def _record(section: _Section, microns: float, diameter: float, library_key: str | None) -> dict[str, Any]:
    full_resolution = (section.size if section.width is None else section.width) / section.image.scale
    return {
        "size": section.size,
        "size_um": float(full_resolution * microns),
        "um_per_px": float(full_resolution * microns / section.size),
        "spot_diameters": float(full_resolution / diameter),
        "source": section.image.source,
        "border": section.border,
        "padded": section.n_padded(),
        "library_key": library_key or "",
    }


def _check_inside(adata: AnnData, sections: list[_Section], spatial_key: str) -> None:
    faults = []
    for section in sections:
        limit = section.image.width_height
        rounded = np.rint(section.centres)
        outside = ((rounded < 0) | (rounded >= limit)).any(axis=1)
        if not outside.any():
            continue
        low, high = section.centres.min(axis=0), section.centres.max(axis=0)
        faults.append(
            f"{outside.sum()} of {len(outside)} spots of {section.library_id!r} (x from {_places(low[0], high[0])}, "
            f"y from {_places(low[1], high[1])}, on an image of {limit[0]} x {limit[1]} pixels). "
            + _fitting_scale(adata, section)
        )
    if faults:
        msg = f"`adata.obsm[{spatial_key!r}]` lies outside the image for " + " And for ".join(faults)
        raise ValueError(msg)


def _places(low: float, high: float) -> str:
    """Put a range of pixels in words, in powers of ten where the numbers are absurdly large."""
    return f"{low:.0f} to {high:.0f}" if max(-low, high) < 1e9 else f"{low:.3g} to {high:.3g}"


def _fitting_scale(adata: AnnData, section: _Section) -> str:
    """Say which scale would bring all spots into the image: the commonest mistake is an image that was shrunk."""
    image = section.image
    xy = (section.centres + image.offset) / image.scale
    factors = library_part(adata.uns, section.library_id, "scalefactors")
    largest = float(np.min((image.width_height + image.offset - 1) / np.maximum(xy.max(axis=0), 1)))
    for name in ("tissue_hires_scalef", "tissue_lowres_scalef"):
        try:
            factor = scale_factor(factors, name, library_id=section.library_id)
        except ValueError:  # no advice, but the error is another one
            continue
        # any factor fits that is small enough: one at which the spots fill half of the image is likely its own
        if factor >= largest / 2 and _fits(xy * factor - image.offset, image.width_height):
            return (
                f"The scale {factor:.6g} (`{name}`) would fit: pass "
                f"`squidpy.im.ImageContainer(..., scale={factor:.6g})`."
            )
    if largest > 0:  # rounded down to three digits: rounded up, it would not fit
        digit = 10.0 ** (np.floor(np.log10(largest)) - 2)
        largest = np.floor(largest / digit) * digit
    if largest > 0 and _fits(xy * largest - image.offset, image.width_height):
        return (
            f"A scale of {largest:.3g} or less would fit: if the image was shrunk, pass its factor by "
            "`squidpy.im.ImageContainer(..., scale=...)`."
        )
    return "No scale would fit: image and coordinates do not belong together."


def _fits(centres: np.ndarray, width_height: np.ndarray) -> bool:
    rounded = np.rint(centres)
    return bool(((rounded >= 0) & (rounded < width_height)).all())


def _lazy_crops(sections: list[_Section], n_obs: int, size: int) -> Any:
    """Make a dask array in blocks of spots. Each block is cut when it is asked for."""
    from uuid import uuid4

    import dask.array as da

    section_of = np.empty(n_obs, dtype=np.int64)
    place = np.empty(n_obs, dtype=np.int64)
    for number, section in enumerate(sections):
        section_of[section.rows] = number
        place[section.rows] = np.arange(len(section.rows))

    def cut_block(rows: np.ndarray) -> np.ndarray:
        out = np.empty((len(rows), size, size, 3), dtype=np.uint8)
        for number in np.unique(section_of[rows]):
            out_rows = np.flatnonzero(section_of[rows] == number)
            for _ in sections[number].write(out, out_rows, place[rows[out_rows]]):
                pass
        return out

    index = da.arange(n_obs, chunks=_LAZY_BLOCK)
    return da.map_blocks(
        cut_block,
        index,
        dtype=np.uint8,
        chunks=(index.chunks[0], (size,), (size,), (3,)),
        new_axis=[1, 2, 3],
        meta=np.empty((0, 0, 0, 0), dtype=np.uint8),
        name=f"crops-{uuid4().hex}",
    )
