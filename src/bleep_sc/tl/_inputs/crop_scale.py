"""The width of tissue that a crop or tile shows, read from one object and compared between reference and query."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from anndata import AnnData

from bleep_sc._adata import crop_records, recorded_library_key
from bleep_sc._logging import logger, warn
from bleep_sc.methods.inputs import CropScale

TOLERANCE = 0.1


def crop_scale(adata: AnnData, image_key: str, *, name: str) -> CropScale:
    """Read the one scale of an object's crops from the records that `pp.crops` wrote.

    Raises
    ------
    ValueError
        Its libraries were cut at scales more than 10 % apart, or the records hold something else.
    """
    size = int(np.shape(adata.obsm[image_key])[1])
    records, path = crop_records(adata, image_key), f"{name}.uns[{image_key!r}]"
    if not isinstance(stored := adata.uns.get(image_key), Mapping | None):
        msg = (
            f"`{path}` must hold the records that `bleep_sc.pp.crops` wrote, by library; found "
            f"{type(stored).__name__}. Cut the crops again, or `del {path}` if the scale is unknown."
        )
        raise ValueError(msg)
    if not records:
        warn(
            f"`{path}` does not say at which scale the crops were cut, so it cannot be checked "
            "that reference and query show the same width of tissue. `bleep_sc.pp.crops` records it."
        )
        return CropScale(size)
    if library_key := recorded_library_key(adata, image_key):
        present_libraries = set(adata.obs[library_key].astype(str))
        records = {library: record for library, record in records.items() if library in present_libraries} or records
    scales = {
        library: CropScale(
            size, *(_known(record, unit, path=f"{path}[{library!r}]") for unit in ("size_um", "spot_diameters"))
        )
        for library, record in records.items()
    }
    (first_library, first), *others = scales.items()
    for library, scale in others:
        if (difference := _difference(first, scale)) is not None:
            msg = (
                f"`{name}.obsm[{image_key!r}]` mixes scales: the crops of {first_library!r} and {library!r} are "
                f"{difference}. Cut them alike, with `bleep_sc.pp.crops({name}, ..., um=...)`."
            )
            raise ValueError(msg)
    # a scale that only some libraries know is not the scale of all
    return CropScale(
        size,
        first.size_um if all(s.size_um is not None for s in scales.values()) else None,
        first.spot_diameters if all(s.spot_diameters is not None for s in scales.values()) else None,
    )


def compare_scales(reference: CropScale, query: CropScale) -> None:
    """Refuse a query whose crops show another width of tissue than those the model was trained on."""
    if reference.size != query.size:
        msg = (
            f"the query's crops are {query.size} px wide, the model was trained on {reference.size} px. Cut them again "
            f"with `bleep_sc.pp.crops(query, ..., size={reference.size}"
            + (f", um={reference.size_um:.6g})`." if reference.size_um is not None else ")`.")
        )
        raise ValueError(msg)
    difference = _difference(reference, query)
    if difference is not None:
        remedy = (
            f"`bleep_sc.pp.crops(query, ..., size={reference.size}, um={reference.size_um:.6g}"
            + (")`" if query.size_um is not None else ", mpp=...)`, with the query's own µm per pixel")
            if reference.size_um is not None
            else f"`bleep_sc.pp.crops(query, ..., size={reference.size}, um=..., mpp=...)`, and the reference's too"
        )
        msg = f"the crops of reference and query show different widths of tissue: {difference}. Cut them by {remedy}."
        raise ValueError(msg)
    unit = "µm" if _both(reference, query, "size_um") else "spot diameters"
    if not _both(reference, query, "size_um") and not _both(reference, query, "spot_diameters"):
        unit = "pixels, since no other scale is known"
    logger.info("Crop widths of reference and query agree, compared in %s.", unit)


def compare_tiles(reference: CropScale, query: CropScale, *, path: str) -> None:
    """Refuse features that another program made of tiles of another width of tissue than those of the reference.

    The pixels of a tile are compared too, but mostly the encoder brought all tiles to one size: that only warns.
    """
    difference = _difference(replace(reference, size=None), replace(query, size=None))
    if difference is not None:
        msg = (
            f"the tiles of reference and query show different widths of tissue: {difference}. Make the features of "
            f"`{path}` again, of tiles that are {_width(reference)} wide."
        )
        raise ValueError(msg)
    if _both(reference, query, "size") and reference.size != query.size:
        warn(
            f"the encoder read tiles of {query.size} px for `{path}`, and of {reference.size} px for the reference. "
            "That is right if it brings every tile to its own size before it reads it. If it cuts out the centre "
            "instead, make the features again, of tiles of the same number of pixels."
        )


def _width(scale: CropScale) -> str:
    return f"{scale.size_um:.6g} µm" if scale.size_um is not None else f"{scale.spot_diameters:.6g} spot diameters"


def _known(record: Mapping[str, Any], name: str, *, path: str) -> float | None:
    recorded = record.get(name)
    if recorded is None:
        return None
    try:
        value = float(np.asarray(recorded).item())
    except (TypeError, ValueError):
        value = -1.0
    if value <= 0:
        msg = (
            f"`{path}[{name!r}]` must be a number above 0, or NaN where unknown; found {recorded!r}. Cut the crops "
            "again with `bleep_sc.pp.crops`, which records it."
        )
        raise ValueError(msg)
    return value if np.isfinite(value) else None


def _both(a: CropScale, b: CropScale, unit: str) -> bool:
    return getattr(a, unit) is not None and getattr(b, unit) is not None


def _difference(a: CropScale, b: CropScale) -> str | None:
    """Describe two widths that are more than 10 % apart, in the best unit that both know; None if they are alike."""
    for unit, text in (("size_um", "µm"), ("spot_diameters", "spot diameters"), ("size", "px")):
        if _both(a, b, unit):
            width, other = getattr(a, unit), getattr(b, unit)
            apart = abs(width - other) > TOLERANCE * width
            return f"{width:.4g} and {other:.4g} {text} wide" if apart else None
    return None
