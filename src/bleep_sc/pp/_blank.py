from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData

from bleep_sc._adata import check_reference
from bleep_sc._checks import check_name, check_number, odd_characters
from bleep_sc._library import OWN_DIAMETER, libraries, library_part, scale_factor
from bleep_sc._logging import logger
from bleep_sc.pp._images.open import check_series
from bleep_sc.pp._slide import new_slide, pictures_of, recorded_source, whole_image

if TYPE_CHECKING:
    from squidpy.im import ImageContainer
    from xarray import DataArray, DataTree


def blank(
    ref: AnnData,
    *,
    spatial: np.ndarray,
    library_id: str,
    image: "ImageContainer | DataArray | DataTree | str | Path | None" = None,
    image_layer: str | None = None,
    series: int | str | None = None,
    obs_names: list[str] | None = None,
    spot_diameter: float | None = None,
) -> AnnData:
    """Make an AnnData for a slide that was never sequenced. It has places and genes, but no expression.

    Next, cut its crops with :func:`~bleep_sc.pp.crops`, and predict its expression with :func:`~bleep_sc.tl.impute`.
    ``sc.pl.spatial`` and ``sq.pl.spatial_scatter`` can draw the result.

    Parameters
    ----------
    ref
        The reference. The result gets its genes.
    spatial
        Spot centres (n_obs, 2), x then y, in full-resolution pixels.
    library_id
        Name of the slide.
    image
        H&E image of the slide: an :class:`squidpy.im.ImageContainer`, an image element of SpatialData or a path. Small
        copies of it are stored as a background for plots. A TIFF of any size is read part by part. If you pass a path,
        it is recorded, and ``bl.pp.crops(slide)`` cuts from that file. ``None`` stores no image.
    image_layer
        Layer of the ImageContainer; needed only where it has several.
    series
        Which image of a TIFF shows the section, where it holds several: its number (from 0) or its name.
    obs_names
        Names of the spots. ``None`` names them ``"{library_id}_0"`` and so on.
    spot_diameter
        Diameter of the spots in full-resolution pixels. ``None`` takes that of the reference. This is right only if
        both slides were scanned at the same resolution.

    Returns
    -------
    An AnnData with the reference's `var`, no `X`, and the following fields:

    `obsm['spatial']` : :class:`numpy.ndarray` (float64, (n_obs, 2))
        Spot centres.
    `uns['spatial'][library_id]` : `dict`
        ``images`` (hires and lowres, uint8), ``scalefactors`` and ``metadata``, as ``squidpy.read.visium`` gives them.
        ``metadata['spot_diameter_from']`` is ``"reference"`` or ``"argument"`` and says where the spot diameter comes
        from. The reference's diameter is only used for drawing, never to work out the scale of the slide.
        ``source_image_path`` is the path of the image (not with `series`).

    Raises
    ------
    ValueError
        - Coordinates that are NaN or of another shape.
        - Names that are not unique.
        - No `spot_diameter`, neither here nor in `ref`.
        - A cropped ImageContainer.
        - An image that is damaged, is no brightfield image, or needs more than 4 GiB to be read at once.
        - A file with several images, if it is not clear which is meant.
    TypeError
        `obs_names` is not a list of names.
    """
    check_reference(ref)
    check_name("library_id", library_id)
    xy = _coordinates(spatial)
    names = [f"{library_id}_{i}" for i in range(len(xy))] if obs_names is None else _names(obs_names)
    if len(names) != len(xy):
        msg = f"`obs_names` has {len(names)} names for {len(xy)} spots."
        raise ValueError(msg)
    if len(set(names)) != len(names):
        msg = "`obs_names` are not unique: every spot needs a name of its own."
        raise ValueError(msg)
    check_series(series)
    if image is None and series is not None:
        msg = f"`series={series!r}` chooses one of the images in a TIFF, and there is no `image`: leave `series` out."
        raise ValueError(msg)
    opened = None
    if image is not None:
        opened = whole_image(image, library_id=library_id, image_layer=image_layer, series=series)
    return new_slide(
        ref.var,
        xy,
        names=names,
        library_id=library_id,
        diameter=_spot_diameter(ref, spot_diameter),
        diameter_from="reference" if spot_diameter is None else OWN_DIAMETER,
        small=pictures_of(opened),
        source=recorded_source(image, series),
    )


def _names(obs_names: Any) -> list[str]:
    if isinstance(obs_names, str | bytes) or not isinstance(obs_names, Iterable) or np.ndim(obs_names) != 1:  # type: ignore[arg-type]
        msg = f"`obs_names` must be a list with the name of each spot, found {obs_names!r}."
        raise TypeError(msg)
    names = [str(name) for name in obs_names]
    for name in names:
        if why := odd_characters(name):
            msg = f"`obs_names` holds {name!r}, {why}: give that spot another name."
            raise ValueError(msg)
    return names


def _coordinates(spatial: np.ndarray) -> np.ndarray:
    try:
        if np.iscomplexobj(spatial):
            msg = "complex numbers"
            raise TypeError(msg)
        xy = np.array(spatial, dtype=np.float64)
    except (TypeError, ValueError) as err:
        msg = f"`spatial` must hold numbers, found {type(spatial).__name__}: {err}"
        raise ValueError(msg) from err
    if xy.ndim != 2 or xy.shape[1] != 2 or len(xy) == 0:
        msg = f"`spatial` must have the shape (n_obs, 2), x then y, with at least one spot; found {xy.shape}."
        raise ValueError(msg)
    bad = ~np.isfinite(xy).all(axis=1)
    if bad.any():
        msg = (
            f"`spatial` is NaN or infinite for {bad.sum()} of {len(xy)} spots, the first in row "
            f"{int(np.flatnonzero(bad)[0])}. Leave them out: `spatial[np.isfinite(spatial).all(axis=1)]`."
        )
        raise ValueError(msg)
    return xy


def _spot_diameter(ref: AnnData, spot_diameter: float | None) -> float:
    if spot_diameter is not None:
        return check_number("spot_diameter", spot_diameter, above=0)
    diameters = np.array(
        [
            scale_factor(
                library_part(ref.uns, library, "scalefactors"), "spot_diameter_fullres", library_id=library, owner="ref"
            )
            for library in libraries(ref.uns)
        ]
    )
    if not np.isfinite(diameters).any():
        msg = (
            "`spot_diameter` is needed: `ref.uns['spatial']` holds no `spot_diameter_fullres` to take in its place. "
            "Pass the diameter of a spot in full-resolution pixels."
        )
        raise ValueError(msg)
    diameter = float(np.nanmedian(diameters))
    logger.info("Spot diameter taken from the reference: %.1f full-resolution pixels.", diameter)
    return diameter
