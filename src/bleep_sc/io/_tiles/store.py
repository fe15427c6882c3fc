"""The parts of a WSIData, in memory or in its zarr store, of which only those that are asked for are read."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bleep_sc import _keys
from bleep_sc._checks import MissingKeyError
from bleep_sc._untrusted import ZARRAY, check_never_pickled
from bleep_sc.io._tiles.bounds import check_bounds, check_numbers
from bleep_sc.pp._images.open import existing_path

_COLUMNS = ("tile_id", "x", "y", "tissue_id")
"""Columns of a table of tiles that are read; it may have others, such as scores."""
_PARTS = ("shapes", "tables", "attrs")


@dataclass(frozen=True)
class Table:
    """The features of some tiles."""

    values: Any
    """(n_rows, n_features)."""
    obs: pd.DataFrame
    regions: tuple[str, ...]
    """Names of the tiles that they were made of; none where it does not say."""


@dataclass(frozen=True)
class Parts:
    """A WSIData: how each part is read, by name."""

    name: str | None
    """Name of the slide, where it has one."""
    attrs: Mapping[str, Any]
    shapes: Mapping[str, Callable[[], pd.DataFrame]]
    tables: Mapping[str, Callable[[], Table]]


def parts_of(wsi: Any) -> Parts:
    """List the parts of a WSIData, a SpatialData of the same elements, or the zarr store of either.

    Raises
    ------
    TypeError
        It is neither.
    FileNotFoundError, ValueError
        There is no such store, or it is damaged.
    """
    if isinstance(wsi, str | Path):
        return _of_store(wsi)
    if not all(isinstance(getattr(wsi, part, None), Mapping) for part in _PARTS):
        msg = (
            f"`wsi` must be a WSIData, with `shapes`, `tables` and `attrs`, or the path of its zarr store; found "
            f"{type(wsi).__name__}."
        )
        raise TypeError(msg)
    name = getattr(wsi, "name", None) or getattr(wsi, "path", None)
    return Parts(
        None if name is None else Path(str(name)).stem,
        wsi.attrs,
        {str(key): partial(_in_memory, wsi.shapes, key) for key in wsi.shapes},
        {str(key): partial(_table_in_memory, wsi.tables, key) for key in wsi.tables},
    )


def _in_memory(elements: Mapping[str, Any], key: str) -> pd.DataFrame:
    frame = elements[key]
    return pd.DataFrame({name: np.asarray(frame[name]) for name in _COLUMNS if name in getattr(frame, "columns", ())})


def _table_in_memory(tables: Mapping[str, Any], key: str) -> Table:
    table = tables[key]
    return Table(table.X, table.obs, _regions(table.uns.get(_keys.SPATIALDATA)))


def _regions(attrs: Any) -> tuple[str, ...]:
    region = attrs.get("region", ()) if isinstance(attrs, Mapping) else ()
    return (region,) if isinstance(region, str) else tuple(map(str, np.ravel(region)))


def _of_store(path: str | Path) -> Parts:
    import zarr

    folder = existing_path(path)
    if folder is None:
        msg = f"`wsi`: there is no zarr store {str(path)[:500]!r}."
        raise FileNotFoundError(msg)
    try:
        group = zarr.open_group(folder, mode="r") if folder.is_dir() else None
    except Exception as err:  # zarr has errors of its own
        msg = f"`wsi`: {str(path)!r} could not be opened as a zarr store ({err})."
        raise ValueError(msg) from err
    if group is None:
        msg = (
            f"`wsi`: {str(path)!r} is a file, and a zarr store is a folder. LazySlide keeps the store of `slide.svs` "
            "in `slide.zarr`; `wsi.write()` writes it."
        )
        raise ValueError(msg)
    return Parts(
        folder.stem,
        group.attrs.asdict(),
        {key: partial(_stored_shapes, folder / "shapes" / key) for key in _folders(folder / "shapes")},
        {key: partial(_stored_table, group, folder, key) for key in _folders(folder / "tables")},
    )


def _folders(folder: Path) -> Iterable[str]:
    return sorted(each.name for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else ()


def _stored_shapes(folder: Path) -> pd.DataFrame:
    """Read the columns that are needed, and no outlines."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    path = folder / "shapes.parquet"
    try:
        with ParquetFile(path) as file:
            return file.read([name for name in _COLUMNS if name in file.schema_arrow.names]).to_pandas()
    except (OSError, ArrowException) as err:
        msg = f"`wsi`: `shapes[{folder.name!r}]` could not be read ({err}): the store is damaged. Write it again."
        raise ValueError(msg) from err


def _stored_table(group: Any, folder: Path, key: str) -> Table:
    """Read values, `obs` and the link to the tiles; no layers, and nothing else of `uns`."""
    from anndata.io import read_elem

    where = f"`wsi`: `tables[{key!r}]`"
    check_never_pickled((folder / "tables" / key).rglob(ZARRAY), where=where)
    with _store_errors(where):
        table = group[f"tables/{key}"]
        values = table["X"]
    is_dense = hasattr(values, "shape")  # a sparse one is a group of arrays
    for array in [values] if is_dense else [part for _, part in values.arrays()]:
        check_bounds(array.shape, array.dtype, array.chunks, path=where)
    if is_dense:
        check_numbers(values.dtype, path=where, expected="(n_tiles, n_features)")
    with _store_errors(where):
        attrs = read_elem(table[link]) if (link := f"uns/{_keys.SPATIALDATA}") in table else None
        return Table(read_elem(values), read_elem(table["obs"]), _regions(attrs))


@contextmanager
def _store_errors(where: str) -> Iterator[None]:
    try:
        yield
    except Exception as err:  # of zarr, of its codecs and of anndata
        msg = f"{where} could not be read ({err}): the store is damaged, or no table of features. Write it again."
        raise ValueError(msg) from err


def named(parts: Mapping[str, Callable[[], Any]], key: str, *, slot: str, argument: str) -> Any:
    """Read the part of a name; the error lists those that there are."""
    if key not in parts:
        shown = ", ".join(map(repr, sorted(parts)[:12])) + (", ..." if len(parts) > 12 else "")
        msg = f"`{argument}={key!r}`: `wsi.{slot}` has no such entry; there is {shown or 'nothing'}."
        raise MissingKeyError(msg)
    return parts[key]()
