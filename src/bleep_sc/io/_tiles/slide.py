"""Make an AnnData of tiles: places, genes to impute, scale, features, and the record of what made these."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import as_numbers, check_reference
from bleep_sc._checks import MAX_VALUE, check_name, odd_characters
from bleep_sc._logging import warn
from bleep_sc._stats import rows_beyond
from bleep_sc.pp._images.section import SectionImage
from bleep_sc.pp._record import width_record
from bleep_sc.pp._slide import new_slide, pictures_of

_TILE = "tile"
"""Where the "spot diameter" comes from that such a slide is drawn with: it is no spot's, and tells no scale."""


@dataclass(frozen=True)
class Tiles:
    """Square tiles of one slide, all of one width."""

    library_id: str
    corners: np.ndarray
    """The upper left corner of each tile, x then y, in level-0 pixels (n, 2)."""
    side: float
    """Width of a tile in level-0 pixels."""
    pixels: int | None
    """Number of pixels to which it was brought for an encoder; None where nobody knows."""
    names: list[str]
    path: str
    """Where the places come from, for messages."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """What else is known of each tile, for `obs`."""

    @property
    def centres(self) -> np.ndarray:
        """The middle of each tile, in level-0 pixels (n, 2)."""
        return self.corners + self.side / 2


@dataclass(frozen=True)
class Features:
    """Features that another program made of the tiles."""

    encoder: str
    """What that program calls the encoder."""
    rows: np.ndarray
    """Features of each tile, float32 (n, n_features)."""


@dataclass(frozen=True)
class Pictures:
    """The pixels of the tiles, as the file of another program holds them."""

    rows: np.ndarray
    """uint8 (n, size, size, 3), RGB."""
    source: str
    """Name of the file."""


def check_slide(ref: Any, library_id: str | None, encoder: Any) -> None:
    """Refuse arguments that both readers have, before any file is opened."""
    if ref is not None:
        check_reference(ref)
    if library_id is not None:
        check_name("library_id", library_id)
    if encoder is not None:
        check_encoder(encoder)


def check_encoder(encoder: Any, *, path: str = "`encoder`") -> str:
    """Return the name of an encoder; refuse what cannot be one."""
    if not isinstance(encoder, str) or not encoder.strip() or odd_characters(encoder):
        msg = f"{path} must be the name of the encoder that made the features, such as 'uni'; found {encoder!r}."
        raise ValueError(msg)
    return encoder


def checked_corners(corners: Any, *, path: str) -> np.ndarray:
    """Return the corners of tiles as float64 (n, 2); refuse a slide without tiles, and places that are no numbers."""
    xy = np.asarray(corners, dtype=np.float64)
    if not len(xy):
        msg = f"{path} holds no tile: no tissue was found on the slide. Nothing can be predicted for it."
        raise ValueError(msg)
    bad = ~np.isfinite(xy).all(axis=1)
    if bad.any():
        msg = (
            f"{path} is NaN or infinite for {bad.sum()} of {len(xy)} tiles, the first in row "
            f"{int(np.flatnonzero(bad)[0])}. Lay the tiles again, or leave these out of the file."
        )
        raise ValueError(msg)
    return xy


def checked_features(values: Any, names: list[str], *, path: str) -> np.ndarray:
    """Return features as float32 (n, n_features); refuse NaN, and values beyond what can be learnt from."""
    rows = as_numbers(values, path=path, remedy="A dense array of numbers (n_tiles, n_features) is expected.")
    if rows.ndim != 2 or len(rows) != len(names) or not rows.shape[1]:
        msg = f"{path} must have the shape (n_tiles, n_features), for {len(names)} tiles; found {rows.shape}."
        raise ValueError(msg)
    bad = rows_beyond(rows, MAX_VALUE)
    if bad.any():
        msg = (
            f"{path} is NaN, infinite or above {MAX_VALUE:.0e} for {bad.sum()} of {len(rows)} tiles, such as "
            f"{names[int(np.flatnonzero(bad)[0])]!r}. Make the features again, or leave these tiles out."
        )
        raise ValueError(msg)
    return rows


def make_slide(
    tiles: Tiles,
    um_per_px: float,
    *,
    features: Features | None,
    pictures: Pictures | None = None,
    ref: AnnData | None,
    image: SectionImage | None,
) -> AnnData:
    """Make the AnnData; `image` is the slide's, where it is at hand."""
    if image is not None:
        _warn_of_tiles_outside(tiles, image)
    _warn_of_tiles_twice(tiles)
    slide = new_slide(
        pd.DataFrame(index=pd.Index([], dtype=str)) if ref is None else ref.var,
        tiles.centres,
        names=tiles.names,
        library_id=tiles.library_id,
        diameter=tiles.side,
        diameter_from=_TILE,
        small=pictures_of(image),
    )
    slide.uns[_keys.SPATIAL][tiles.library_id]["scalefactors"]["microns_per_pixel"] = um_per_px
    for name, values in tiles.columns.items():
        slide.obs[name] = values
    if features is not None:
        _add_features(slide, features, tiles, um_per_px)
    if pictures is not None:
        _add_pictures(slide, pictures, tiles, um_per_px)
    return slide


def _add_features(slide: AnnData, features: Features, tiles: Tiles, um_per_px: float) -> None:
    from bleep_sc.io._features import FeatureRecord
    from bleep_sc.methods.inputs import FEATURES, CropScale, EncoderRecord

    key = _keys.features([features.encoder])
    encoder = EncoderRecord(features.encoder, FEATURES, int(features.rows.shape[1]))
    scale = CropScale(tiles.pixels, size_um=float(tiles.side * um_per_px))
    slide.obsm[key] = features.rows
    slide.uns[key] = FeatureRecord((encoder,), scale).to_uns()


def _add_pictures(slide: AnnData, pictures: Pictures, tiles: Tiles, um_per_px: float) -> None:
    size = pictures.rows.shape[1]
    slide.obsm[_keys.CROPS] = pictures.rows
    slide.uns[_keys.CROPS] = {
        tiles.library_id: width_record(
            size,
            tiles.side,
            um_per_px=um_per_px,
            spot_diameter=np.nan,  # a tile is no spot
            level_scale=size / tiles.side,
            source=pictures.source,
        )
    }


def _warn_of_tiles_outside(tiles: Tiles, image: SectionImage) -> None:
    places, limit = image.centres(tiles.centres), image.width_height
    outside = ((places < 0) | (places >= limit)).any(axis=1)
    if outside.any():
        x, y = places.max(axis=0)
        warn(
            f"the centres of {outside.sum()} of {len(places)} tiles of {tiles.path} lie outside `image`, which has "
            f"{limit[0]} x {limit[1]} pixels; they reach to x {x:.0f} and y {y:.0f}. The tiles are of another slide, "
            "or `image` is not at full resolution: pass the image that the tiles were cut from."
        )


def _warn_of_tiles_twice(tiles: Tiles) -> None:
    twice = pd.DataFrame(tiles.corners).duplicated()
    if n := int(twice.sum()):
        warn(
            f"{n} of {len(twice)} tiles of {tiles.path} stand where an earlier one stands, such as "
            f"{tiles.names[int(np.flatnonzero(twice)[0])]!r}: the file was written twice, or holds several slides. "
            f"Keep one of each: `slide = slide[~pd.DataFrame(slide.obsm['spatial']).duplicated().to_numpy()].copy()`."
        )
