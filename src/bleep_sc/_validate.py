"""Checks that every public function makes before it works: each names what was found, expected, and the remedy."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._errors import MissingKeyError


def check_choice(name: str, value: Any, options: Iterable[Any]) -> None:
    """One of several fixed words."""
    options = tuple(options)
    if not any(isinstance(value, type(option)) and value == option for option in options):
        msg = f"`{name}` must be one of {', '.join(map(repr, options))}, found {value!r}."
        raise ValueError(msg)


def check_int(name: str, value: Any, *, minimum: int = 1, maximum: int | None = None) -> int:
    """An integer, NumPy's included, within bounds."""
    fine = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not fine or value < minimum or (maximum is not None and value > maximum):
        most = "" if maximum is None else f" and at most {maximum}"
        msg = f"`{name}` must be an integer of at least {minimum}{most}, found {value!r}."
        raise ValueError(msg)
    return int(value)


MAX_SEED = 2**31 - 1
"""Of seeds that go to libraries which keep them in 32 bits."""


def check_number(name: str, value: Any, *, above: float | None = None, minimum: float | None = None) -> float:
    """A finite number, above or at least a bound."""
    bound = f" above {above}" if above is not None else f" of at least {minimum}" if minimum is not None else ""
    fine = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    try:
        finite = fine and np.isfinite(float(value))
    except OverflowError:  # of an integer
        finite = False
    if not finite or (above is not None and value <= above) or (minimum is not None and value < minimum):
        msg = f"`{name}` must be a finite number{bound}, found {value!r}."
        raise ValueError(msg)
    return float(value)


def check_name(name: str, value: Any) -> None:
    """A name that h5ad can write."""
    if not isinstance(value, str) or not value or "/" in value or odd_characters(value):
        msg = f"`{name}` must be a name without '/' that a file can hold, found {value!r}."
        raise ValueError(msg)


def odd_characters(text: str) -> str:
    """Why no file keeps a text as it is; empty if one does."""
    if "\0" in text:
        return "with a zero character, which ends a name early"
    return "with half a character, which no file holds" if _HALVES.search(text) else ""


def check_key(name: str, value: Any) -> None:
    """A key to look up."""
    if not isinstance(value, str):
        msg = f"`{name}` must be a name, found {value!r}."
        raise TypeError(msg)


def check_names(name: str, value: Any) -> tuple[str, ...]:
    """Names, or a single one."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Iterable):
        msg = f"`{name}` must be a list of names, found {value!r}."
        raise TypeError(msg)
    return tuple(value)


def check_key_added(name: str, value: Any, *, own: str | None = None) -> None:
    """A name for results: one that h5ad can write, and none under which input or other results stand.

    `own` is the one of these names that the function may have.
    """
    check_name(name, value)
    taken = [key for key in _keys.RESERVED if key != own]
    if value in taken:
        msg = f"`{name}={value!r}`: under that name something else is kept ({', '.join(taken)} are taken)."
        raise ValueError(msg)


_HALVES = re.compile(r"[\ud800-\udfff]")
"""Of surrogate pairs."""

MAX_VALUE = 1e12
"""Of numbers that are learned from, expression and features: their squares are summed in float32."""


def check_adata(adata: Any, *, name: str = "adata", copy: bool = False) -> None:
    """An AnnData with at least one spot, unique names, and not a view: writing to a view would copy it silently.

    `copy` says that a copy is asked for, of which an AnnData whose `X` stays on disk has none.
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
    """An AnnData with at least one spot and unique names."""
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


def as_numbers(values: Any, *, path: str, remedy: str) -> np.ndarray:
    """An array of `obsm` as float32, whatever it was stored as; itself where it is that: do not change it."""
    try:
        found = np.asarray(values)
        if found.dtype.kind == "c":
            msg = "complex numbers"
            raise TypeError(msg)
        with np.errstate(over="ignore"):
            return np.require(found, np.float32, "W")  # torch takes no read-only array without a warning
    except (TypeError, ValueError) as err:
        msg = f"`{path}` must hold numbers, found {type(values).__name__}: {str(err).rstrip('.')}. {remedy}"
        raise ValueError(msg) from err


def as_text(names: pd.Index) -> pd.Index:
    """Names as files keep them: a table with numbers for names reads back with text."""
    return names if names.inferred_type == "string" else names.astype(str)


def check_sections(path: str, names: Iterable[Any]) -> None:
    """Names of sections, under which records are kept: such as h5ad can write."""
    for name in map(str, names):
        if not name or "/" in name or odd_characters(name):
            msg = (
                f"`{path}` holds {name!r}: records are kept under the name of a section, and no file can hold one that "
                "is empty or has '/' or a zero character. Rename it, such as with '_'."
            )
            raise ValueError(msg)


def check_in(name: str, key: str, keys: Sequence[str] | Iterable[str], *, remedy: str = "") -> None:
    """A key that must exist; `name` is the full path of the mapping, such as ``adata.obs``."""
    keys = [each for each in keys if each is not None]  # newer anndata lists `X` among the layers, as None
    if key not in keys:
        shown = ", ".join(map(repr, keys[:10])) + (", ..." if len(keys) > 10 else "")
        msg = f"`{name}[{key!r}]` does not exist; there is {shown or 'nothing'}." + (f" {remedy}" if remedy else "")
        raise MissingKeyError(msg)


def spatial_coordinates(adata: AnnData, *, spatial_key: str = _keys.SPATIAL, name: str = "adata") -> np.ndarray:
    """Spot centres, float64 (n_obs, 2): x then y, in full-resolution pixels; finite."""
    check_in(
        f"{name}.obsm",
        spatial_key,
        adata.obsm.keys(),
        remedy="It must hold the x and y of each spot centre in full-resolution pixels, as `squidpy.read.visium` does.",
    )
    found = adata.obsm[spatial_key]
    try:
        if np.iscomplexobj(found):
            msg = "complex numbers"
            raise TypeError(msg)
        xy = np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError) as err:
        msg = f"`{name}.obsm[{spatial_key!r}]` must hold numbers, found {type(found).__name__}: {err}"
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


def crop_records(adata: AnnData, crops_key: str = _keys.CROPS) -> dict[str, Mapping[str, Any]]:
    """What `pp.crops` noted of each library; empty where something else, or nothing, stands at that key of `uns`."""
    found = adata.uns.get(crops_key)
    records = dict(found) if isinstance(found, Mapping) else {}
    return {str(library): record for library, record in records.items() if isinstance(record, Mapping)}


def known_places(adata: AnnData) -> np.ndarray | None:
    """Spot centres (n_obs, 2) to recognise spots by, where they are such as can be compared; NaN is like none."""
    try:
        return np.asarray(adata.obsm[_keys.SPATIAL], dtype=np.float64).reshape(adata.n_obs, 2)
    except (KeyError, TypeError, ValueError):
        return None


def recorded_library_key(adata: AnnData, crops_key: str = _keys.CROPS) -> str | None:
    """The column of `obs` with each spot's section that `pp.crops` was told, if it is still there."""
    keys = {str(record.get("library_key", "")) for record in crop_records(adata, crops_key).values()}
    only = keys.pop() if len(keys) == 1 else ""
    return only if only in adata.obs else None


def section_of_spots(adata: AnnData, library_key: str | None, *, name: str = "adata") -> np.ndarray | None:
    """The section of each spot as strings (n_obs,), from a column of `obs`; None where no column is named."""
    if library_key is None:
        return None
    check_in(f"{name}.obs", library_key, adata.obs.columns, remedy="Pass the name of a column of `obs`.")
    column = adata.obs[library_key]
    if column.isna().any():
        msg = f"`{name}.obs[{library_key!r}]` is missing for {int(column.isna().sum())} of {adata.n_obs} spots."
        raise ValueError(msg)
    return column.astype(str).to_numpy().astype(object)
