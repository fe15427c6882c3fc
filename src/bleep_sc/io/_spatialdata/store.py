"""Open SpatialData, in memory or in a folder: of a folder nothing but what is asked for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bleep_sc import _keys
from bleep_sc._side_effects import python_random_state_kept
from bleep_sc._untrusted import ZARRAY, check_never_pickled
from bleep_sc.io._spatialdata.transforms import Element, matrices_of, stored_matrices
from bleep_sc.pp._images.elements import group_attributes, names_within
from bleep_sc.pp._images.open import existing_path

KINDS = ("images", "labels", "points", "shapes", "tables")


@dataclass(frozen=True)
class Source:
    """A SpatialData object, wherever it lies."""

    names: Mapping[str, Sequence[str]]
    """Names of its elements, by kind."""
    table: Callable[[str], Any]
    """Read a table, an AnnData."""
    shapes: Callable[[str], Any]
    """Read shapes, a GeoDataFrame."""
    image: Callable[[str], Any]
    """Give an image as `pp.crops` takes it: an element, or the folder that it lies in."""
    matrices: Callable[[str, str], dict[str, np.ndarray]]
    """Matrices of the transformations of an element, by its kind and name."""
    folder: Path | None = None
    """Where it lies, if it was given as a path."""

    def element(self, name: str, kinds: Sequence[str]) -> Element | None:
        """Find an element by its name; None where there is none."""
        for kind in kinds:
            if name in self.names[kind]:
                return Element(kind, name, self.matrices(kind, name))
        return None


def open_source(sdata: Any) -> Source:
    """Open a SpatialData object or the folder of one.

    Raises
    ------
    TypeError
        It is neither.
    FileNotFoundError
        There is no such folder.
    ValueError
        The folder is no SpatialData store.
    """
    if isinstance(sdata, str | Path):
        return _of_folder(sdata)
    with python_random_state_kept():
        from spatialdata import SpatialData

    if not isinstance(sdata, SpatialData):
        msg = f"`sdata` must be a SpatialData object or the path of a SpatialData store, found {type(sdata).__name__}."
        raise TypeError(msg)
    with python_random_state_kept():
        from spatialdata.transformations import get_transformation

    def matrices(kind: str, name: str) -> dict[str, np.ndarray]:
        transformations: Any = get_transformation(getattr(sdata, kind)[name], get_all=True)
        return matrices_of(transformations)

    return Source(
        names={kind: list(getattr(sdata, kind)) for kind in KINDS},
        table=lambda name: sdata.tables[name],
        shapes=lambda name: sdata.shapes[name],
        image=lambda name: sdata.images[name],
        matrices=matrices,
    )


def _of_folder(given: str | Path) -> Source:
    folder = existing_path(given)
    if folder is None or not folder.is_dir():
        msg = (
            f"`sdata`: there is no folder {str(given)[:500]!r}. Unpack a store that is zipped. One on a server is "
            "opened by `spatialdata.read_zarr`: pass what that returns."
        )
        raise FileNotFoundError(msg)
    names = {kind: names_within(folder / kind) for kind in KINDS}
    if not any((folder / file).is_file() for file in ("zarr.json", ".zgroup")) or not any(names.values()):
        msg = (
            f"`sdata`: {folder.name!r} is no SpatialData store, which is a zarr folder with `tables`, `shapes` and "
            "`images`. Read a folder of a vendor by `spatialdata_io` first, and pass what that returns."
        )
        raise ValueError(msg)

    def matrices(kind: str, name: str) -> dict[str, np.ndarray]:
        attributes = group_attributes(folder / kind / name)
        described = attributes.get("ome", attributes).get("multiscales", [attributes])[0]
        try:
            return stored_matrices(described["coordinateTransformations"])
        except Exception as err:  # what is not as SpatialData writes it may fail anywhere
            msg = f"`sdata.{kind}[{name!r}]`: its transformations in {folder.name!r} could not be read ({err!r})."
            raise ValueError(msg) from err

    return Source(
        names=names,
        table=lambda name: _table(folder / "tables" / name),
        shapes=lambda name: _shapes(folder / "shapes" / name),
        image=lambda name: folder / "images" / name,
        matrices=matrices,
        folder=folder.resolve(),
    )


def _table(path: Path) -> Any:
    from anndata import read_zarr

    check_never_pickled(path.rglob(ZARRAY), where=f"`sdata.tables[{path.name!r}]`")
    try:
        return read_zarr(path)
    except Exception as err:  # each part of a table may be damaged in its own way
        msg = f"`sdata.tables[{path.name!r}]` could not be read from its store ({err})."
        raise ValueError(msg) from err


def _shapes(path: Path) -> Any:
    """Read shapes from their parquet file, or from the arrays that stores of 2023 have in its place."""
    from geopandas import GeoDataFrame, read_parquet

    check_never_pickled(path.rglob(ZARRAY), where=f"`sdata.shapes[{path.name!r}]`")
    try:
        if (path / "shapes.parquet").is_file():
            return read_parquet(path / "shapes.parquet")
        import zarr
        from shapely import GeometryType, from_ragged_array

        group: Any = zarr.open_group(path, mode="r")
        kind = GeometryType[group.attrs[_keys.SPATIALDATA]["geos"]["name"]]
        offsets = tuple(np.asarray(group[name]).ravel() for name in sorted(group) if name.startswith("offset"))
        columns = {"geometry": from_ragged_array(kind, np.asarray(group["coords"]), offsets or None)}
        if "radius" in group:
            columns["radius"] = np.asarray(group["radius"])
        return GeoDataFrame(columns, index=np.asarray(group["Index"]))
    except Exception as err:  # each format has errors of its own
        msg = f"`sdata.shapes[{path.name!r}]` could not be read from its store ({err})."
        raise ValueError(msg) from err
