"""Find the spots and the image of each section of an AnnData."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from anndata import AnnData

from bleep_sc._adata import section_of_spots
from bleep_sc._checks import check_key, check_section_names
from bleep_sc._library import SOURCE_IMAGE_PATH, libraries, library_part, scale_factor
from bleep_sc._logging import logger, warn
from bleep_sc.pp._images.colors import check_rgb
from bleep_sc.pp._images.elements import is_element
from bleep_sc.pp._images.open import check_series, existing_path, open_image
from bleep_sc.pp._images.patches import check_parts
from bleep_sc.pp._images.section import HIRES, SectionImage, hires_image


def rows_by_library(adata: AnnData, library_key: str | None, library_id: str | None) -> dict[str, np.ndarray]:
    """Find the rows of each library."""
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


def checked_mpp(
    mpp: float | Mapping[str, float] | None, spots: Mapping[str, np.ndarray]
) -> float | dict[str, float] | None:
    """Refuse µm per pixel by library that name none of the libraries."""
    if not isinstance(mpp, Mapping):
        return mpp
    by_library = {str(library): value for library, value in mpp.items()}
    if not any(library in by_library for library in spots):
        msg = f"`mpp` has no entry for any of {list(spots)}; it has {list(by_library)}."
        raise ValueError(msg)
    return by_library


def images_by_library(
    adata: AnnData,
    image: Any,
    libraries: list[str],
    *,
    image_layer: str | None,
    series: Any,
    library_key: str | None,
) -> dict[str, SectionImage]:
    """Open the image of each library."""
    series = _series_by_library(series, libraries)
    by_library = isinstance(image, Mapping) and not is_element(image)
    if by_library:
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
        chosen = {library: _recorded_image(adata, library, series[library]) for library in libraries}
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
        name = f"image[{library!r}]" if by_library else "image"
        if isinstance(image_source, SectionImage):
            name = f"adata.uns['spatial'][{library!r}]['images']['hires']"
            if image_source.source != HIRES:
                name = f"adata.uns['spatial'][{library!r}]['metadata']['source_image_path']"
            opened[library] = image_source
        else:
            opened[library] = open_image(
                image_source, library_id=library, image_layer=image_layer, series=series[library], name=name
            )
        check_rgb(opened[library].array, name=name)
        check_parts(opened[library].array, name=name)
    return opened


def _series_by_library(series: Any, libraries: list[str]) -> dict[str, int | str | None]:
    """Read which image of its file each library has."""
    if not isinstance(series, Mapping):
        by_library = dict.fromkeys(libraries, series)
    else:
        given = {str(library): value for library, value in series.items()}
        if unknown := [library for library in given if library not in libraries]:
            msg = f"`series` names {unknown}, which are none of the sections {libraries}."
            raise ValueError(msg)
        by_library = {library: given.get(library) for library in libraries}
    for value in by_library.values():
        check_series(value)
    return by_library


def _recorded_image(adata: AnnData, library: str, series: int | str | None) -> SectionImage:
    """Open the file that `uns` names, else take the small hires image, with a warning."""
    recorded = library_part(adata.uns, library, "metadata").get(SOURCE_IMAGE_PATH)
    path, why = existing_path(recorded), ""
    if path is not None:
        try:
            opened = open_image(
                path,
                library_id=library,
                series=series,
                name=f"adata.uns['spatial'][{library!r}]['metadata']['source_image_path']",
            )
        except ValueError as err:
            hires = hires_image(adata.uns, library)
            if hires is None:
                raise
            why = f" ({err})"
        else:
            logger.info("The image of %r is read from %s, as `uns` says.", library, path.resolve())
            return opened
    elif recorded is not None:
        why = f" (there is no file {str(recorded)[:500]!r})"
    hires = hires_image(adata.uns, library)
    if hires is None:
        msg = (
            f"no `image` was given for {library!r}, and `adata.uns['spatial'][{library!r}]` has neither an existing "
            "`metadata['source_image_path']` nor a hires image. Pass `image=`, an ImageContainer, an "
            "image of SpatialData or a path."
        )
        raise ValueError(msg)
    factors = library_part(adata.uns, library, "scalefactors")
    diameter = scale_factor(factors, "spot_diameter_fullres", library_id=library)
    pixels = "an unknown number of" if np.isnan(diameter) else f"{diameter * hires.scale:.1f}"
    warn(
        f"no full-resolution image of {library!r}: the hires image of `uns` is used, on which a spot is {pixels} "
        f"pixels wide{why}. Pass `image=` to see cells."
    )
    return hires
