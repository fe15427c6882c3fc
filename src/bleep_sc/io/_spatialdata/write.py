import re
import shutil
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import check_readable
from bleep_sc._checks import MissingKeyError, check_in, check_key
from bleep_sc._library import libraries, library_part, scale_factor
from bleep_sc._logging import logger
from bleep_sc._side_effects import python_random_state_kept
from bleep_sc.io._spatialdata.images import choose
from bleep_sc.io._spatialdata.keys import REGION, TableKeys
from bleep_sc.io._spatialdata.places import element_of, matched, some_names
from bleep_sc.io._spatialdata.store import KINDS, Source, open_source

if TYPE_CHECKING:
    from spatialdata import SpatialData

_NAME = re.compile(r"(?!__)[\w-][\w.-]*", re.ASCII)
"""Names that SpatialData takes, but for those that begin with a dot, which would be hidden files."""

_OF_POOLED = "n_pooled"
"""Column of `obs` that `pp.pool` alone makes."""
_EXPECTED = (
    "Key .* already exists",  # it was to be overwritten
    "The table is annotating",  # what was not read from a folder
    "SpatialData is not stored in",  # it stays in the format it has
    "zarr v3 autosharding",  # anndata, of its own future
)
"""How warnings begin that are no concern of the user."""


def to_spatialdata(
    sdata: "SpatialData | str | Path",
    adata: AnnData,
    *,
    layer: str | None = _keys.MODEL,
    table: str = _keys.MODEL,
    overwrite: bool = False,
) -> None:
    """Write a layer back into SpatialData, as a separate table that annotates the same spots, bins or cells.

    ``spatialdata_plot`` and ``napari_spatialdata`` can then draw imputed genes over the image.

    Parameters
    ----------
    sdata
        The SpatialData object that `adata` was taken from by :func:`~bleep_sc.io.from_spatialdata`, or the folder of
        one. An object in memory gets the table at once; ``sdata.write_element(table)`` then writes it to disk. In a
        folder, only the table is written, and nothing else is read.
    adata
        Spots with the layer. ``uns['spatialdata_attrs']``, and the columns of `obs` that it names, give the region and
        instance of each spot. :func:`~bleep_sc.io.from_spatialdata` keeps them.
    layer
        Layer whose values become `X` of the table. They are not copied. ``None`` takes `X`.
    table
        Name of the new table.
    overwrite
        Whether a table of that name may be replaced.

    Returns
    -------
    ``None``. Sets ``sdata.tables[table]``: an AnnData with the layer as `X`, `obs` and `var` of `adata`, and
    `obsm['spatial']` if it exists. If the table annotates labels, as Xenium's does, these places are converted back to
    the unit of the element, as the reader had them.

    Raises
    ------
    FileNotFoundError
        No such folder.
    KeyError
        No such layer, or no `X`.
    TypeError
        `sdata` is no SpatialData.
    ValueError
        - A table or another element of that name already exists.
        - `adata` does not say what it annotates.
        - A region or an instance does not exist in `sdata`, or two rows have the same instance.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from anndata import AnnData
    >>> from spatialdata import SpatialData
    >>> from spatialdata.models import ShapesModel, TableModel
    >>> import bleep_sc as bl
    >>> spots = ShapesModel.parse(np.array([[10.0, 20.0], [30.0, 40.0]]), geometry=0, radius=5)
    >>> obs = pd.DataFrame({"region": pd.Categorical(["spots", "spots"]), "spot": [0, 1]}, index=["a", "b"])
    >>> counts = AnnData(np.ones((2, 3), "float32"), obs=obs)
    >>> counts = TableModel.parse(counts, region="spots", region_key="region", instance_key="spot")
    >>> sdata = SpatialData(shapes={"spots": spots}, tables={"table": counts})
    >>> query = sdata["table"].copy()
    >>> query.layers["bleep"] = np.full((2, 3), 0.5, "float32")  # as bl.tl.impute makes it
    >>> bl.io.to_spatialdata(sdata, query)
    >>> float(sdata["bleep"].X[1, 2]), sdata["bleep"].uns["spatialdata_attrs"]["region"]
    (0.5, 'spots')
    """
    check_readable(adata)
    check_key("table", table)
    if layer is not None:
        check_in("adata.layers", layer, adata.layers.keys(), remedy="`bl.tl.impute` writes the layer 'bleep'.")
    elif adata.X is None:
        msg = "`layer=None` takes `adata.X`, and there is none. Name a layer."
        raise MissingKeyError(msg)
    source = open_source(sdata)
    _check_free(source, table, overwrite=overwrite)
    keys = TableKeys.of(adata, path="adata", remedy=_how_to_annotate(adata))
    rows = keys.rows_of(adata)
    instances = _instances(source, adata, keys, rows)
    made = _table(adata, adata.X if layer is None else adata.layers[layer], keys, list(rows), instances)
    made.obsm.update(_places(source, adata, rows))
    with warnings.catch_warnings():
        for expected in _EXPECTED:
            warnings.filterwarnings("ignore", message=expected, category=UserWarning)
        if source.folder is None:
            sdata.tables[table] = made  # type: ignore[union-attr]
        else:
            _write(source.folder, made, table)


def _how_to_annotate(adata: AnnData) -> str:
    """Say what makes an object annotate something: of pooled places as a line, since `sdata` has no shapes of them."""
    kept = "`bl.io.from_spatialdata` keeps what says so."
    names = list(libraries(adata.uns))
    if _OF_POOLED not in adata.obs or len(names) != 1:
        return (
            f"{kept} For a slide whose spots are not in `sdata`, and for places of `bl.pp.pool`, make shapes of them "
            "first, as the page on SpatialData in the documentation shows."
        )
    image = str(library_part(adata.uns, names[0], "metadata").get("image", "IMAGE"))
    factors = library_part(adata.uns, names[0], "scalefactors")
    radius = scale_factor(factors, "spot_diameter_fullres", library_id=names[0]) / 2
    return (
        f"{kept} These are places of `bl.pp.pool`, which `sdata` does not have. Make shapes of them first: "
        "`from spatialdata.models import ShapesModel; from spatialdata.transformations import get_transformation; "
        f"place = get_transformation(sdata[{image!r}], get_all=True); "
        f"sdata['places'] = ShapesModel.parse(adata.obsm['spatial'], geometry=0, radius={radius:.6g}, "
        "transformations=place); adata.obs['region'], adata.obs['place'] = 'places', range(adata.n_obs); "
        "adata.uns['spatialdata_attrs'] = {'region': 'places', 'region_key': 'region', 'instance_key': 'place'}`."
    )


def _check_free(source: Source, table: str, *, overwrite: bool) -> None:
    if not _NAME.fullmatch(table):
        msg = f"`table={table!r}` can be no name in SpatialData: it takes letters, digits, '_', '-' and '.'."
        raise ValueError(msg)
    for kind in KINDS:
        same = [name for name in source.names[kind] if name.lower() == table.lower()]
        if same and not (kind == "tables" and same == [table] and overwrite):
            hint = " `overwrite=True` replaces it." if kind == "tables" and same == [table] else ""
            msg = f"`table={table!r}`: `sdata.{kind}` has {same[0]!r} already. Name the new table otherwise.{hint}"
            raise ValueError(msg)


def _instances(source: Source, adata: AnnData, keys: TableKeys, rows: dict[str, np.ndarray]) -> np.ndarray:
    """Find the instance of each row, as the shapes call it: SpatialData joins 1 to 1, and not to "1"."""
    found = np.array(adata.obs[keys.instance_key], dtype=object)
    if sum(map(len, rows.values())) < adata.n_obs:
        msg = (
            f"`adata.obs[{keys.region_key!r}]` names other regions than `uns['spatialdata_attrs']` does "
            f"({list(keys.regions)}). Leave these rows out, or mend either."
        )
        raise ValueError(msg)
    for region, of_region in rows.items():
        element = next((kind for kind in ("shapes", "labels", "points") if region in source.names[kind]), None)
        if element is None:
            msg = (
                f"`adata` annotates {region!r}, and `sdata` has the shapes {list(source.names['shapes'])} and the "
                f"labels {list(source.names['labels'])}. Pass the object that `adata` was taken from."
            )
            raise ValueError(msg)
        if element != "shapes":  # the others would have to be read from end to end
            continue
        instances, index = adata.obs[keys.instance_key].iloc[of_region], source.shapes(region).index
        place = matched(instances, index, path=f"sdata.shapes[{region!r}]")
        missing = place < 0
        if missing.any():
            msg = (
                f"`adata.obs[{keys.instance_key!r}]`: {missing.sum()} of {len(missing)} rows name no instance of "
                f"`sdata.shapes[{region!r}]`, such as {some_names(instances[missing])}; those are called "
                f"{some_names(index)}. Pass the object that `adata` was taken from."
            )
            raise ValueError(msg)
        if (twice := pd.Series(place).duplicated().to_numpy()).any():
            msg = (
                f"`adata.obs[{keys.instance_key!r}]`: {twice.sum()} of {len(twice)} rows of {region!r} name an "
                f"instance that another row has named, such as {some_names(instances[twice])}. Several samples were "
                "joined: pass the rows of one, with the object that they were taken from."
            )
            raise ValueError(msg)
        found[of_region] = index.to_numpy(dtype=object)[place]
    whole = pd.api.types.infer_dtype(found, skipna=False) == "integer"
    return found.astype(np.int64) if whole else found.astype(str).astype(object)


def _places(source: Source, adata: AnnData, rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Write places as the tables of SpatialData have them: those of labels lie where the readers put them.

    Shapes know where they are, whatever a table says. Of a raster of labels the table alone says it, in the unit of the
    vendor.
    """
    if _keys.SPATIAL not in adata.obsm:
        return {}
    xy = np.array(adata.obsm[_keys.SPATIAL], dtype=np.float64)
    records = [library_part(adata.uns, library, "metadata") for library in libraries(adata.uns)]
    for region, of_region in rows.items():
        if region in source.names["shapes"]:
            continue
        record = next((each for each in records if each.get(REGION) == region), {})
        if record.get("image") not in source.names["images"]:
            logger.info(
                "%r gets no places: `adata.uns['spatial']` does not say on which image of `sdata` they were laid.",
                region,
            )
            return {}
        element = element_of(source, adata, region, path="adata")
        way = choose(source, element, record["image"], record.get("coordinate_system"), regions=[region]).way
        xy[of_region] = way.back(xy[of_region])
    return {_keys.SPATIAL: xy}


def _table(adata: AnnData, values: Any, keys: TableKeys, regions: Sequence[str], instances: np.ndarray) -> AnnData:
    with python_random_state_kept():
        from spatialdata.models import TableModel

    obs = adata.obs.copy()
    obs[keys.region_key] = obs[keys.region_key].astype(str).astype("category")
    obs[keys.instance_key] = instances
    made = AnnData(values, obs=obs, var=adata.var.copy())
    return TableModel.parse(made, **keys.described(regions))


def _write(folder: Path, made: AnnData, table: str) -> None:
    """Write a table beside its place and move it there, so that a write that fails leaves the earlier one.

    A process that is killed between the two moves leaves it under the name that ends in ``.old-`` and eight digits.
    """
    import zarr

    with python_random_state_kept():
        from spatialdata import read_zarr

    within = folder / "tables"
    beside, earlier = (f"{table}.{kind}-{uuid4().hex[:8]}" for kind in ("new", "old"))
    opened = read_zarr(folder, selection=("images",))  # the cheapest one: no pixel is read
    opened.tables[beside] = made
    try:
        opened.write_element(beside)
        if (within / table).exists():
            (within / table).rename(within / earlier)
        (within / beside).rename(within / table)
    except BaseException:
        with suppress(FileNotFoundError):
            (within / earlier).rename(within / table)
        raise
    finally:
        for name in (beside, earlier):
            shutil.rmtree(within / name, ignore_errors=True)
        with warnings.catch_warnings(action="ignore", category=zarr.errors.ZarrUserWarning):
            zarr.consolidate_metadata(str(folder))
