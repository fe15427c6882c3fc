"""Make the AnnData of a slide on which nothing was measured: places, genes, and what draws them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._library import SOURCE_IMAGE_PATH, SPOT_DIAMETER_FROM
from bleep_sc._logging import warn
from bleep_sc.pp._images.open import open_image
from bleep_sc.pp._images.section import SectionImage
from bleep_sc.pp._images.thumbnails import pictures

Pictures = tuple[dict[str, np.ndarray], dict[str, float]]
"""Small pictures by name, and the scale factors that say how small they are."""


def whole_image(
    image: Any, *, library_id: str, image_layer: str | None = None, series: int | str | None = None
) -> SectionImage:
    """Open the image of a whole slide; what is odd about it is warned of.

    Raises
    ------
    ValueError
        The image is a crop of a larger one.
    """
    opened = open_image(image, library_id=library_id, image_layer=image_layer, series=series)
    for finding in opened.findings:
        warn(str(finding))
    if opened.offset.any():
        msg = (
            "`image` is a crop of a larger ImageContainer, so spots would be drawn beside their place. Pass the "
            "whole image."
        )
        raise ValueError(msg)
    return opened


def without_a_name(called: str) -> str:
    """Say that a slide has no name of its own, and what comes of that."""
    return (
        f"the slide has no name, so it is called {called!r}. Slides of one name are taken for one section once they "
        "are joined: pass `library_id=`, such as `library_id='A1'`."
    )


def recorded_source(image: Any, series: int | str | None) -> dict[str, str]:
    """Say where the file of a slide lies, so that crops are cut from it later.

    One of several images in a file is not recorded, since the path alone would lead to another of them.
    """
    if not isinstance(image, str | Path) or series is not None:
        return {}
    return {SOURCE_IMAGE_PATH: str(Path(image).expanduser().resolve())}


def pictures_of(image: SectionImage | None) -> Pictures:
    """Make the small pictures of a slide; none where it has no image."""
    return ({}, {}) if image is None else pictures(image, name="image")


def new_slide(
    var: pd.DataFrame,
    xy: np.ndarray,
    *,
    names: list[str],
    library_id: str,
    diameter: float,
    diameter_from: str,
    small: Pictures,
    source: Mapping[str, str] | None = None,
) -> AnnData:
    """Make the AnnData.

    Parameters
    ----------
    var
        The genes.
    xy
        Centres of the spots in full-resolution pixels (n, 2).
    names
        Names of the spots.
    library_id
        Name of the slide.
    diameter
        Diameter of a spot in full-resolution pixels.
    diameter_from
        Where it comes from: whether it tells a scale.
    small
        Small pictures of the slide, and their scale factors.
    source
        What `recorded_source` says of its file.
    """
    obsm: dict[str, Any] = {_keys.SPATIAL: xy}
    slide = AnnData(
        obs=pd.DataFrame({"in_tissue": np.ones(len(xy), dtype=np.int64)}, index=names),
        var=var.copy(),
        obsm=obsm,
    )
    images, factors = small
    scalefactors = {"spot_diameter_fullres": diameter, "fiducial_diameter_fullres": diameter, **factors}
    metadata = {SPOT_DIAMETER_FROM: diameter_from, **(source or {})}
    slide.uns[_keys.SPATIAL] = {library_id: {"images": images, "scalefactors": scalefactors, "metadata": metadata}}
    return slide
