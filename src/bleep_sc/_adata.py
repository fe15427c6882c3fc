"""Read names, places, sections and records of crops from an AnnData, and check them as they are read."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._checks import check_in


def check_adata(adata: Any, *, name: str = "adata", copy: bool = False) -> None:
    """Refuse all but an AnnData with at least one spot and unique names that is no view.

    Writing to a view would copy it silently. `copy` says that the user asked for a copy; an AnnData whose `X` stays on
    disk cannot be copied.
    """
    check_readable(adata, name=name)
    if copy and adata.isbacked:
        msg = (
            f"`copy=True`: `{name}` was opened with `backed=`, and its `X` on disk cannot be copied. Read it into "
            f"memory first, `{name} = {name}.to_memory()`, or leave `copy` out."
        )
        raise ValueError(msg)
    if adata.is_view:
        msg = (
            f"`{name}` is a view of another AnnData, so results would be written into a hidden copy. "
            f"Make it an object of its own first: `{name} = {name}.copy()`."
        )
        raise ValueError(msg)


def check_readable(adata: Any, *, name: str = "adata") -> None:
    """Refuse all but an AnnData with at least one spot and unique names."""
    if not isinstance(adata, AnnData):
        msg = f"`{name}` must be an AnnData, found {type(adata).__name__}."
        raise TypeError(msg)
    if adata.n_obs == 0:
        msg = f"`{name}` has no spots (n_obs = 0)."
        raise ValueError(msg)
    for axis, index in (("obs", as_text(adata.obs_names)), ("var", as_text(adata.var_names))):
        if not index.is_unique:
            twice = index[index.duplicated()].unique()
            msg = (
                f"`{name}.{axis}_names` are not unique: {len(twice)} names occur more than once, such as "
                f"{twice[0]!r}. Make them unique with `{name}.{axis}_names_make_unique()`"
                + (", or pass `index_unique='-'` to `anndata.concat`." if axis == "obs" else ".")
            )
            raise ValueError(msg)


def check_reference(ref: Any, *, name: str = "ref") -> None:
    """Refuse all but an AnnData with spots and unique names, or with a slim model, which has none."""
    if isinstance(ref, AnnData) and ref.n_obs == 0 and any(map(_is_slim, ref.uns.values())):
        return
    check_readable(ref, name=name)


def _is_slim(entry: Any) -> bool:
    """Tell whether an entry of `uns` is a model that needs no spots; whoever reads the model checks it."""
    return (
        isinstance(entry, Mapping)
        and "model" in entry
        and re.search(r'"slim":\s*true', str(entry.get("config"))) is not None
    )


def as_numbers(values: Any, *, path: str, remedy: str) -> np.ndarray:
    """Return an array of `obsm` as float32, whatever it was stored as.

    An array that is float32 already is returned itself, so do not change the result.
    """
    try:
        array = np.asarray(values)
        if array.dtype.kind == "c":
            msg = "complex numbers"
            raise TypeError(msg)
        with np.errstate(over="ignore"):
            return np.require(array, np.float32, "W")  # torch takes no read-only array without a warning
    except (TypeError, ValueError) as err:
        msg = f"`{path}` must hold numbers, found {type(values).__name__}: {str(err).rstrip('.')}. {remedy}"
        raise ValueError(msg) from err


def as_text(names: pd.Index) -> pd.Index:
    """Turn names into text, as files keep them: a table with numbers for names reads back with text."""
    return names if names.inferred_type == "string" else names.astype(str)


def spatial_coordinates(adata: AnnData, *, spatial_key: str = _keys.SPATIAL, name: str = "adata") -> np.ndarray:
    """Return spot centres, float64 (n_obs, 2): x then y, in full-resolution pixels; refuse NaN and infinity."""
    check_in(
        f"{name}.obsm",
        spatial_key,
        adata.obsm.keys(),
        remedy="It must hold the x and y of each spot centre in full-resolution pixels, as `squidpy.read.visium` does.",
    )
    stored: Any = x_then_y(adata.obsm[spatial_key])
    try:
        if np.iscomplexobj(stored):
            msg = "complex numbers"
            raise TypeError(msg)
        xy = np.asarray(stored, dtype=np.float64)
    except (TypeError, ValueError) as err:
        msg = f"`{name}.obsm[{spatial_key!r}]` must hold numbers, found {type(stored).__name__}: {err}"
        raise ValueError(msg) from err
    if xy.shape != (adata.n_obs, 2):
        msg = (
            f"`{name}.obsm[{spatial_key!r}]` must have the shape (n_obs, 2) = ({adata.n_obs}, 2), x then y; "
            f"found {xy.shape}."
        )
        raise ValueError(msg)
    bad = ~np.isfinite(xy).all(axis=1)
    if bad.any():
        msg = (
            f"`{name}.obsm[{spatial_key!r}]` is NaN or infinite for {bad.sum()} of {adata.n_obs} spots, such as "
            f"{adata.obs_names[bad][0]!r}. Leave them out: "
            f"`{name} = {name}[np.isfinite({name}.obsm[{spatial_key!r}]).all(axis=1)].copy()`."
        )
        raise ValueError(msg)
    return xy


_OF_X = frozenset({"x", "col", "cols", "column", "columns", "imagecol", "imgcol"})
_OF_Y = frozenset({"y", "row", "rows", "imagerow", "imgrow"})
"""Words by which tables of coordinates name x and y; R's tables often have the row, which is y, first."""


def _words(name: object) -> set[str]:
    """Split the name of a column, such as ``pxl_row_in_fullres``."""
    return set(re.split(r"[^a-z]+", str(name).lower()))


def x_then_y(places: Any) -> Any:
    """Put the columns of a table in order where their names say which is x and which is y."""
    if not isinstance(places, pd.DataFrame) or places.shape[1] != 2:
        return places
    first, second = (_words(name) for name in places.columns)
    y_first = first & _OF_Y and second & _OF_X and not (first & _OF_X or second & _OF_Y)
    return places.iloc[:, ::-1] if y_first else places


def crop_records(adata: AnnData, crops_key: str = _keys.CROPS) -> dict[str, Mapping[str, Any]]:
    """Return the record that `pp.crops` left for each library.

    There is none where nothing, or something else, stands at that key of `uns`.
    """
    stored = adata.uns.get(crops_key)
    records = dict(stored) if isinstance(stored, Mapping) else {}
    return {str(library): record for library, record in records.items() if isinstance(record, Mapping)}


def known_places(adata: AnnData, crops_key: str = _keys.CROPS) -> np.ndarray | None:
    """Return spot centres (n_obs, 2) to recognise spots by; None where they are no numbers. NaN equals no place.

    They are the places at which the crops were cut, where `obsm` holds several.
    """
    try:
        return np.asarray(x_then_y(adata.obsm[recorded_spatial_key(adata, crops_key)]), dtype=np.float64).reshape(
            adata.n_obs, 2
        )
    except (KeyError, TypeError, ValueError):
        return None


def recorded_library_key(adata: AnnData, crops_key: str = _keys.CROPS) -> str | None:
    """Return the name of the column of sections that `pp.crops` was told, if `obs` still has it."""
    only = _recorded_by_all(adata, crops_key, "library_key")
    return only if only in adata.obs else None


def recorded_spatial_key(adata: AnnData, crops_key: str = _keys.CROPS) -> str:
    """Return the key of the places that `pp.crops` was told, if `obsm` still has it; else that of all places.

    Of features, of which nothing is recorded, it is that of the crops.
    """
    only = _recorded_by_all(adata, crops_key, "spatial_key") or _recorded_by_all(adata, _keys.CROPS, "spatial_key")
    return only if only in adata.obsm else _keys.SPATIAL


def _recorded_by_all(adata: AnnData, crops_key: str, entry: str) -> str:
    """Return what all records of crops say alike; empty where they do not."""
    found = {str(record.get(entry, "")) for record in crop_records(adata, crops_key).values()}
    return found.pop() if len(found) == 1 else ""


def check_free(adata: AnnData, key_added: str, *, field: str, what: str) -> None:
    """Refuse a key of `uns` that holds something else than an earlier result, which has this field."""
    earlier = adata.uns.get(key_added, {field: None})
    if not isinstance(earlier, Mapping) or field not in earlier:
        msg = f"`adata.uns[{key_added!r}]` holds something else than {what}: choose another `key_added`."
        raise ValueError(msg)


def section_of_spots(adata: AnnData, library_key: str | None, *, name: str = "adata") -> np.ndarray | None:
    """Return the section of each spot as strings (n_obs,), from a column of `obs`; None where no column is named."""
    if library_key is None:
        return None
    check_in(f"{name}.obs", library_key, adata.obs.columns, remedy="Pass the name of a column of `obs`.")
    column = with_frames(adata).obs[library_key]
    if column.isna().any():
        msg = f"`{name}.obs[{library_key!r}]` is missing for {int(column.isna().sum())} of {adata.n_obs} spots."
        raise ValueError(msg)
    return column.astype(str).to_numpy().astype(object)


def with_frames(adata: AnnData) -> AnnData:
    """Return an AnnData with `obs` and `var` in memory, where `read_lazy` left them on disk; arrays are not copied."""
    if isinstance(adata.obs, pd.DataFrame) and isinstance(adata.var, pd.DataFrame):
        return adata
    obs, var = (frame if isinstance(frame, pd.DataFrame) else frame.to_memory() for frame in (adata.obs, adata.var))
    layers = {name: values for name, values in adata.layers.items() if name is not None}
    return AnnData(adata.X, obs=obs, var=var, uns=dict(adata.uns), obsm=dict(adata.obsm), layers=layers)
