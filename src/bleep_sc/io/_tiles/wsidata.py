from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc._checks import check_key, check_number
from bleep_sc._logging import logger, warn
from bleep_sc.io._tiles.bounds import check_numbers
from bleep_sc.io._tiles.scale import believed_scale
from bleep_sc.io._tiles.slide import (
    Features,
    Tiles,
    check_slide,
    checked_corners,
    checked_features,
    make_slide,
)
from bleep_sc.io._tiles.store import Parts, Table, named, parts_of
from bleep_sc.models.nets.rules import MAX_SIDE
from bleep_sc.pp._scale.witness import Witness
from bleep_sc.pp._slide import whole_image, without_a_name

if TYPE_CHECKING:
    from squidpy.im import ImageContainer

_TILE_ID = "tile_id"


def from_wsidata(
    wsi: Any,
    ref: AnnData | None = None,
    *,
    features: str | None = None,
    tiles: str = "tiles",
    encoder: str | None = None,
    mpp: float | None = None,
    library_id: str | None = None,
    image: "ImageContainer | str | Path | None" = None,
) -> AnnData:
    """Take the tiles of a slide, and the features that LazySlide made of them, from a WSIData.

    Each tile becomes a spot at the tile's centre. With `ref` the result is ready for :func:`~bleep_sc.tl.impute`. A
    record of the encoder and of the width of a tile is stored beside the features. So a model can refuse features of
    another encoder or of wider tiles.

    Parameters
    ----------
    wsi
        A WSIData, or the path of its zarr store. From a store, only the tiles and one table are read. This does not
        need the package wsidata.
    ref
        The reference to impute from. The result gets its genes. ``None`` makes a slide without genes. You can use its
        features, but you cannot impute into it.
    features
        Name of the features: a table of `wsi`, or the encoder whose table is ``"{features}_{tiles}"``, as LazySlide
        names it. ``None`` takes only the places; cut crops there with :func:`~bleep_sc.pp.crops`.
    tiles
        Name of the tiles in ``wsi.shapes``.
    encoder
        Name of the encoder in the record. ``None`` is `features`, without ``"_{tiles}"`` at its end. Reference and
        query must use the same name.
    mpp
        µm per full-resolution (level-0) pixel. ``None`` takes ``wsi.attrs['slide_properties']['mpp']``, else the value
        in the tags of `image`.
    library_id
        Name of the slide. ``None`` takes the name of its file. If there is no file, it takes the name of the tiles,
        with a warning.
    image
        The slide's image: a path or an :class:`squidpy.im.ImageContainer`. Small copies are stored as a background for
        plots. ``None`` stores no image.

    Returns
    -------
    An AnnData with the reference's `var`, no `X`, and the following fields:

    `obsm['spatial']` : :class:`numpy.ndarray` (float64, (n_obs, 2))
        Centres of the tiles, x then y, in full-resolution pixels. WSIData itself holds their corners.
    `obsm['X_{encoder}']` : :class:`numpy.ndarray` (float32, (n_obs, n_features))
        Features, joined to the tiles by ``tile_id``.
    `uns['X_{encoder}']` : `dict`
        ``config``, JSON: the encoder's name, its number of features, and the width of a tile in µm and in the pixels
        that the encoder got. The encoder's weights are not known, so they are null.
    `uns['spatial'][library_id]` : `dict`
        ``scalefactors`` with ``microns_per_pixel``, and ``spot_diameter_fullres`` which is the width of a tile;
        ``images`` and ``metadata`` as :func:`~bleep_sc.pp.blank` makes them.
    `obs['tile_id']`, `obs['tissue_id']` : :class:`pandas.Series`
        The tile of the spot, and its piece of tissue.

    The names of spots are ``"{library_id}_{tile_id}"``.

    Raises
    ------
    KeyError
        No such tiles or features. The message lists those that exist.
    TypeError
        `wsi` is neither a WSIData nor a path.
    FileNotFoundError
        No such store.
    ValueError
        - Tiles without ``tile_id``, ``x`` and ``y``, that are not square, or whose width is not recorded.
        - Tiles without features, features of other tiles, NaN.
        - An unknown scale of the slide.
        - A damaged store.

    Notes
    -----
    The width of a tile at full resolution is ``int(width * base_downsample)`` of its specification, as wsidata
    computes it. Features are never matched by the order of rows.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from anndata import AnnData
    >>> from types import SimpleNamespace
    >>> import bleep_sc as bl
    >>> table = AnnData(np.array([[1.0, 2.0], [3.0, 4.0]]), obs=pd.DataFrame({"tile_id": [1, 0]}, index=["1", "0"]))
    >>> spec = {"width": 256, "height": 256, "base_downsample": 2.0}
    >>> wsi = SimpleNamespace(  # what a WSIData holds
    ...     shapes={"tiles": pd.DataFrame({"tile_id": [0, 1], "x": [0, 512], "y": [0, 0]})},
    ...     tables={"uni_tiles": table},
    ...     attrs={"tile_spec": {"tiles": spec}, "slide_properties": {"mpp": 0.25}},
    ... )
    >>> slide = bl.io.from_wsidata(wsi, features="uni", library_id="new")
    >>> slide.obsm["spatial"].tolist()
    [[256.0, 256.0], [768.0, 256.0]]
    >>> slide.obsm["X_uni"].tolist()
    [[3.0, 4.0], [1.0, 2.0]]
    """
    check_slide(ref, library_id, encoder)
    check_key("tiles", tiles)
    if features is not None:
        check_key("features", features)
    elif encoder is not None:
        msg = f"`encoder={encoder!r}` names what made the features: say which by `features=`, or leave `encoder` out."
        raise ValueError(msg)
    if mpp is not None:
        check_number("mpp", mpp, above=0)
    parts = parts_of(wsi)
    named_by = library_id or parts.name
    library_id = named_by or tiles
    frame = _checked_tiles(named(parts.shapes, tiles, slot="shapes", argument="tiles"), tiles)
    side, pixels = _sides(parts, tiles)
    opened = None if image is None else whole_image(image, library_id=library_id)
    um_per_px = _scale(mpp, parts, opened, library_id=library_id)
    path = f"`wsi.shapes[{tiles!r}]`"
    laid = Tiles(
        library_id,
        checked_corners(frame[["x", "y"]].to_numpy(), path=path),
        side,
        pixels,
        [f"{library_id}_{tile}" for tile in frame[_TILE_ID]],
        path,
        {name: frame[name].to_numpy() for name in (_TILE_ID, "tissue_id") if name in frame},
    )
    made = None
    if features is not None:
        key, table = _feature_table(parts, features, tiles)
        path = f"`wsi.tables[{key!r}]`"
        values = _joined(table, frame[_TILE_ID], path=path)
        made = Features(encoder or key.removesuffix(f"_{tiles}"), checked_features(values, laid.names, path=path))
    if named_by is None:
        warn(without_a_name(tiles))
    return make_slide(laid, um_per_px, features=made, ref=ref, image=opened)


def _checked_tiles(frame: pd.DataFrame, tiles: str) -> pd.DataFrame:
    path = f"`wsi.shapes[{tiles!r}]`"
    missing = [name for name in (_TILE_ID, "x", "y") if name not in frame]
    if missing:
        msg = (
            f"{path} lacks {', '.join(map(repr, missing))}, so it holds no tiles as `lazyslide.pp.tile_tissues` makes "
            "them. Name others by `tiles=`."
        )
        raise ValueError(msg)
    for axis in ("x", "y"):
        check_numbers(
            frame[axis].dtype,
            path=f"`wsi.shapes[{tiles!r}][{axis!r}]`",
            expected="level-0 pixels of the tiles' corners",
        )
    _check_unique(frame[_TILE_ID], path=path)
    return frame


def _check_unique(tile_ids: pd.Series, *, path: str) -> None:
    twice = tile_ids[tile_ids.duplicated()]
    if len(twice):
        msg = f"{path} has {len(twice)} rows with a `tile_id` that an earlier row has, such as {twice.iloc[0]}."
        raise ValueError(msg)


def _sides(parts: Parts, tiles: str) -> tuple[float, int]:
    """Width of a tile in level-0 pixels, and in those of the encoder."""
    specs = parts.attrs.get("tile_spec")
    spec = specs.get(tiles) if isinstance(specs, Mapping) else None
    path = f"wsi.attrs['tile_spec'][{tiles!r}]"
    if not isinstance(spec, Mapping):
        msg = (
            f"`{path}` is missing, so nobody knows how wide a tile is. Make the tiles with `lazyslide.pp.tile_tissues`."
        )
        raise ValueError(msg)
    width, height, downsample = (
        check_number(f"{path}[{name!r}]", spec.get(name), above=0) for name in ("width", "height", "base_downsample")
    )
    if width != height or not 1 <= width <= MAX_SIDE:
        msg = f"`{path}`: tiles must be squares of at most {MAX_SIDE} pixels; found {width:g} x {height:g}."
        raise ValueError(msg)
    return float(int(width * downsample)), int(width)


def _scale(mpp: float | None, parts: Parts, opened: Any, *, library_id: str) -> float:
    """µm per level-0 pixel."""
    properties = parts.attrs.get("slide_properties")
    stated = properties.get("mpp") if isinstance(properties, Mapping) else None
    path = "wsi.attrs['slide_properties']['mpp']"
    witnesses = [
        None if mpp is None else Witness("the argument `mpp`", float(mpp)),
        None if stated is None else Witness(f"`{path}`", check_number(path, stated, above=0)),
        None if opened is None else opened.tag,
    ]
    return believed_scale(witnesses, library_id=library_id, remedy="`wsi.set_mpp` records it in the WSIData.")


def _feature_table(parts: Parts, features: str, tiles: str) -> tuple[str, Table]:
    """Return the name of a table, by its own or by its encoder's, and what it holds."""
    of_encoder = f"{features}_{tiles}"
    key = of_encoder if features not in parts.tables and of_encoder in parts.tables else features
    table: Table = named(parts.tables, key, slot="tables", argument="features")
    path = f"`wsi.tables[{key!r}]`"
    if table.regions and tiles not in table.regions:
        of = ", ".join(map(repr, table.regions))
        msg = f"{path} holds features of {of}, not of {tiles!r}: name these by `tiles=`."
        raise ValueError(msg)
    if table.values is None or _TILE_ID not in table.obs:
        lacks = "no values" if table.values is None else "no column `tile_id` in `obs`"
        msg = f"{path} has {lacks}, so it holds no features of tiles."
        raise ValueError(msg)
    _check_unique(table.obs[_TILE_ID], path=path)
    return key, table


def _joined(table: Table, tile_ids: pd.Series, *, path: str) -> np.ndarray:
    """Return the values of each tile, whatever the order of the table's rows."""
    of_rows = table.obs[_TILE_ID]
    if of_rows.dtype.kind not in "iuf" or tile_ids.dtype.kind not in "iuf":  # stores turn numbers into text, or back
        of_rows, tile_ids = of_rows.astype(str), tile_ids.astype(str)
    rows = pd.Index(of_rows).get_indexer(pd.Index(tile_ids))
    missing = tile_ids[rows < 0]
    if len(missing):
        msg = (
            f"{path} has no features for {len(missing)} of {len(tile_ids)} tiles, such as `tile_id` "
            f"{missing.iloc[0]}: the tiles were laid again since. Make the features again."
        )
        raise ValueError(msg)
    if len(table.obs) > len(rows):
        logger.info("%d rows of %s belong to tiles that no longer exist.", len(table.obs) - len(rows), path)
    values = table.values[rows]
    values = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
    check_numbers(values.dtype, path=path, expected="(n_tiles, n_features)")
    return values
