from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._checks import check_name, check_section_names
from bleep_sc._library import SOURCE_IMAGE_PATH, library_part
from bleep_sc._logging import logger, warn
from bleep_sc.io._spatialdata.images import Chosen, by_region, check_image, choose
from bleep_sc.io._spatialdata.keys import REGION, TableKeys
from bleep_sc.io._spatialdata.places import Places, element_of, places_of
from bleep_sc.io._spatialdata.scale import lies_on_morphology, um_per_px
from bleep_sc.io._spatialdata.store import Source, open_source
from bleep_sc.io._spatialdata.vendors import are_of_any_xenium
from bleep_sc.pp._images.thumbnails import pictures

if TYPE_CHECKING:
    from spatialdata import SpatialData


def from_spatialdata(
    sdata: "SpatialData | str | Path",
    *,
    table: str | None = None,
    image: str | Mapping[str, str] | None = None,
    coordinate_system: str | Mapping[str, str] | None = None,
    library_id: str | Mapping[str, str] | None = None,
    library_key: str = "library_id",
) -> AnnData:
    """Take one table of SpatialData, with its places in pixels of an H&E image, ready for :func:`~bleep_sc.pp.crops`.

    It reads objects made by ``spatialdata_io.visium``, ``visium_hd`` and ``xenium``, and any other object whose table
    annotates shapes. It transforms places, never pixels. Cut the crops from the same image: ``bl.pp.crops(adata,
    sdata["NAME"])``. After ``from_spatialdata("sample.zarr", ...)``, ``bl.pp.crops(adata)`` finds the image by itself.

    Parameters
    ----------
    sdata
        A SpatialData object, or the folder of one (zarr, of format 2 or 3). From a folder, only this table and the
        shapes that it annotates are read. Images are opened, but their pixels are not read.
    table
        Name of the table, such as ``"square_008um"``. ``None`` takes the only table. If there are several, you must
        name one.
    image
        Name of the H&E image, or a mapping from region to name if the table annotates several regions. ``None`` takes
        the only full-resolution image that shares a coordinate system with the region. If there is none, it takes Space
        Ranger's small hires picture, with a warning.
    coordinate_system
        Coordinate system that places the spots on the image, or a mapping from region to one. Needed only if several
        systems place them differently.
    library_id
        Name of the library, or a mapping from region to one. ``None`` takes the name of the region. Samples that you
        will join need different names. All Xenium samples call their region ``cell_labels``.
    library_key
        Column of `obs` to write the name of each spot's library to. Each region is a library.

    Returns
    -------
    A new AnnData. It holds the rows of the table that have a place, with all their fields, and these fields:

    `obsm['spatial']` : :class:`numpy.ndarray` (float64, (n_obs, 2))
        Centres of spots, bins or cells, x then y, in pixels of the image at full resolution (``scale0``).
    `uns['spatial'][library_id]` : `dict`
        ``images`` (hires and lowres, uint8), ``scalefactors`` and ``metadata``, as ``squidpy.read.visium`` gives them.
        ``scalefactors['microns_per_pixel']`` is left out if it is unknown, with a line in the log.
        ``scalefactors['spot_diameter_fullres']`` is the width of a spot or bin. For a cell, it is the diameter of a
        circle of the cell's area. ``metadata`` names ``region``, ``table``, ``image`` and ``coordinate_system``. If
        `sdata` is a path, ``source_image_path`` is the path of the image.
    `obs['library_id' | library_key]` : :class:`pandas.Categorical`
        Library of each spot.
    `uns['spatialdata_attrs']` : `dict`
        What the rows annotate, as SpatialData stores it. :func:`~bleep_sc.io.to_spatialdata` needs it.

    Raises
    ------
    FileNotFoundError
        No such folder.
    KeyError
        The table names a column that does not exist.
    TypeError
        `sdata` is no SpatialData.
    ValueError
        - No such table or image, or several among which you must choose (the message lists them).
        - An image that is no H&E image.
        - A table that annotates nothing, or an element that is not there, or a raster of labels only.
        - No shared coordinate system, or several that differ.
        - A transformation that does more than shift, turn, mirror and scale.
        - Instances that match no shape.
        - A column `library_key` that exists and holds something else.
        - Two regions with the same `library_id`.

    Notes
    -----
    **µm per pixel.** The readers drop it, so it is worked out again. For Visium it comes from the lattice, whose spots
    are 100 µm apart. For Visium HD it comes from the side of a bin, which is in its name. For Xenium it comes from the
    transformations of the image and of the cells, whose coordinates are in µm. For the cells of Visium HD it cannot be
    worked out: pass ``mpp=`` to :func:`~bleep_sc.pp.crops`.

    **Turned and mirrored images.** A transformation may shift, turn, mirror and scale. Places are given on the image as
    it is stored, and crops are cut along its rows and columns.

    **Labels.** A raster of labels is not read. The table of Xenium holds places in µm; the transformation of
    ``cell_boundaries`` maps them into the image. A table of rasterised bins holds pixels.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from anndata import AnnData
    >>> from spatialdata import SpatialData
    >>> from spatialdata.models import Image2DModel, ShapesModel, TableModel
    >>> from spatialdata.transformations import Scale
    >>> import bleep_sc as bl
    >>> xy = np.array([[10.0, 20.0], [30.0, 40.0]])  # in µm; the image has 0.5 µm per pixel
    >>> in_um = {"global": Scale([2, 2], axes=("x", "y"))}
    >>> spots = ShapesModel.parse(xy, geometry=0, radius=5, transformations=in_um)
    >>> he = Image2DModel.parse(np.full((3, 120, 160), 200, dtype="uint8"), dims=("c", "y", "x"))
    >>> obs = pd.DataFrame({"region": pd.Categorical(["spots", "spots"]), "spot": [0, 1]}, index=["a", "b"])
    >>> table = TableModel.parse(
    ...     AnnData(np.ones((2, 3), "float32"), obs=obs), region="spots", region_key="region", instance_key="spot"
    ... )
    >>> sdata = SpatialData(images={"he": he}, shapes={"spots": spots}, tables={"table": table})
    >>> adata = bl.io.from_spatialdata(sdata, table="table", image="he")
    >>> adata.obsm["spatial"].tolist()
    [[20.0, 40.0], [60.0, 80.0]]
    >>> bl.pp.crops(adata, sdata["he"], size=16, mpp=0.5)
    """
    check_name("library_key", library_key)
    source = open_source(sdata)
    name = _named_table(source, table)
    for each in [image] if isinstance(image, str) else list(image.values()) if isinstance(image, Mapping) else []:
        check_image(source, each)
    path = f"sdata.tables[{name!r}]"
    found = source.table(name)
    keys = TableKeys.of(
        found, path=path, remedy="Say what it annotates by `sdata.set_table_annotates_spatialelement`, or name another."
    )
    rows = keys.rows_of(found)
    _check_regions(found, keys, rows, path=path)
    if library_id is None and are_of_any_xenium(rows):
        logger.info("Every sample of Xenium has this region: pass `library_id=` before you join several.")
    libraries = _names_of_libraries(library_id, list(rows))
    images = by_region(image, list(rows), name="image")
    systems = by_region(coordinate_system, list(rows), name="coordinate_system")
    elements = {region: element_of(source, found, region, path=path) for region in rows}
    chosen = {
        region: choose(source, elements[region], images[region], systems[region], regions=list(rows)) for region in rows
    }
    places = [
        places_of(source, found, rows[region], keys=keys, region=region, element=elements[region], path=path)
        for region in rows
    ]
    adata = _rows_with_places(found, places, chosen, (library_key, libraries), is_ours=source.folder is not None)
    adata.uns[_keys.SPATIALDATA] = keys.described(list(rows))
    adata.uns[_keys.SPATIAL] = {
        libraries[each.region]: _library(found, each, chosen[each.region], table_name=name, folder=source.folder)
        for each in places
    }
    return adata


def _named_table(source: Source, table: str | None) -> str:
    names = list(source.names["tables"])
    if table is None and len(names) == 1:
        return names[0]
    if table is None or table not in names:
        begin = f"`table={table!r}`: there is no such table." if table is not None else "Say which table to take."
        msg = f"{begin} The tables are {names}." if names else "`sdata` holds no table, so there are no spots to take."
        raise ValueError(msg)
    return table


def _check_regions(table: AnnData, keys: TableKeys, rows: Mapping[str, np.ndarray], *, path: str) -> None:
    n_rows = sum(map(len, rows.values()))
    if not rows:
        msg = f"`{path}` has no row of the regions that it annotates, {list(keys.regions)}."
        raise ValueError(msg)
    check_section_names(f"{path}.uns[{_keys.SPATIALDATA!r}]['region']", rows)
    if n_rows < table.n_obs:
        warn(
            f"{table.n_obs - n_rows} of {table.n_obs} rows of `{path}` are of no region that it annotates "
            f"({list(keys.regions)}): they are left out."
        )


def _names_of_libraries(library_id: str | Mapping[str, str] | None, regions: list[str]) -> dict[str, str]:
    """Name the library of each region."""
    given = by_region(library_id, regions, name="library_id")
    names = {region: region if name is None else name for region, name in given.items()}
    check_section_names("library_id", names.values())
    if len(set(names.values())) < len(names):
        msg = (
            f"`library_id={library_id!r}` gives one name to several of the regions {regions}, and each has an image of "
            "its own. Pass a mapping from region to a name."
        )
        raise ValueError(msg)
    return names


def _rows_with_places(
    table: AnnData,
    places: list[Places],
    chosen: Mapping[str, Chosen],
    column: tuple[str, Mapping[str, str]],
    *,
    is_ours: bool,
) -> AnnData:
    """Take the rows that have a place, in the order of the table, into an object of its own.

    `column` is the name of the column of libraries, and the library of each region.
    """
    library_key, names = column
    xy = np.full((table.n_obs, 2), np.nan)
    libraries = np.full(table.n_obs, None, dtype=object)
    for each in places:
        xy[each.rows] = chosen[each.region].way.places(each.xy)
        libraries[each.rows] = names[each.region]
    kept = np.isfinite(xy).all(axis=1)
    if library_key in table.obs and (table.obs[library_key].astype(object)[kept] != libraries[kept]).any():
        msg = (
            f"`library_key={library_key!r}`: the table has a column of that name, which holds something else. Name "
            "another."
        )
        raise ValueError(msg)
    adata = table if is_ours and kept.all() else table[kept].copy()
    adata.obsm[_keys.SPATIAL] = xy[kept]
    adata.obs[library_key] = pd.Categorical(libraries[kept], categories=[names[each.region] for each in places])
    return adata


def _library(table: AnnData, places: Places, chosen: Chosen, *, table_name: str, folder: Path | None) -> dict[str, Any]:
    """Make the entry of `uns["spatial"]` of a region."""
    way = chosen.way
    small, scalefactors = pictures(chosen.image, name=f"sdata.images[{chosen.name!r}]")
    scale = um_per_px(places, way, table.obs.iloc[places.rows])
    known = {"spot_diameter_fullres": places.diameter * way.scale, "microns_per_pixel": scale}
    scalefactors |= {factor: float(value) for factor, value in known.items() if np.isfinite(value)}
    metadata = {
        **library_part(table.uns, places.region, "metadata"),
        REGION: places.region,
        "table": table_name,
        "image": chosen.name,
        "coordinate_system": way.coordinate_system,
    }
    if folder is not None:
        metadata[SOURCE_IMAGE_PATH] = str(folder / "images" / chosen.name)
    if chosen.is_small:
        width = places.diameter * way.scale
        warn(
            f"the small picture {chosen.name!r} is taken as the image of {places.region!r}: a spot is "
            f"{'an unknown number of' if np.isnan(width) else f'{width:.1f}'} pixels wide on it. Read the image of the "
            "microscope too to see cells, such as by `fullres_image_file=` of the readers of spatialdata_io."
        )
    if lies_on_morphology(places, way, table.obs.iloc[places.rows]):
        warn(
            f"{chosen.name!r} has no alignment, so it is taken to lie pixel for pixel on Xenium's morphology image: "
            f"{scale:.4g} µm per pixel. If it does not, export its alignment from Xenium Explorer and read the image "
            "again by `spatialdata_io.xenium_aligned_image(image, alignment_file)`."
        )
    scale_in_words = f", {scale:.4g} µm per pixel" if np.isfinite(scale) else ""
    logger.info("%r: %d places on %r%s.", places.region, len(places.rows), chosen.name, scale_in_words)
    return {"images": small, "scalefactors": scalefactors, "metadata": metadata}
