"""The record, in a query's `uns`, of the measured spots that corrected a layer, and who reads it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from anndata import AnnData

from bleep_sc._checks import MissingKeyError, check_in
from bleep_sc._logging import logger
from bleep_sc.tl._sections import Sections

MEASURED_SPOTS = "measured_spots"
"""The entry of a query's `uns[key]` with the table by section."""


def measured_mask(query: AnnData, column: Any) -> np.ndarray:
    """Read which spots were measured (n_obs,), from a boolean column of `obs`."""
    path = f"query.obs[{column!r}]"
    if not isinstance(column, str):
        msg = f"`measured` must be the name of a boolean column of `query.obs`, found {column!r}."
        raise TypeError(msg)
    check_in("query.obs", column, query.obs.columns, remedy="`measured` names a boolean column of `obs`.")
    values = query.obs[column]
    if values.isna().any() or not all(isinstance(value, bool | np.bool_) for value in values):
        found = "missing values" if values.isna().any() else str(values.dtype)
        msg = f"`{path}` must be boolean, True for spots that were measured; found {found}."
        raise ValueError(msg)
    return np.asarray(values, dtype=bool)


def column_of(query: AnnData, layer: str) -> str | None:
    """Return the column of the measured spots that corrected a layer; None where none did."""
    entry = query.uns.get(layer)
    params = entry.get("params") if isinstance(entry, Mapping) and MEASURED_SPOTS in entry else None
    column = params.get("measured") if isinstance(params, Mapping) else None
    return None if column is None else str(np.asarray(column).item())


def refuse_corrected(query: AnnData, layer: str) -> None:
    """Refuse bounds of a layer that measured spots corrected."""
    if column_of(query, layer) is not None:
        msg = (
            f"`query.layers[{layer!r}]` was corrected by measured spots of the query, and bounds were calibrated on "
            "predictions without them: they would not hold what they say. Impute another layer without `measured`, "
            f"`bleep_sc.tl.impute(query, ref, key_added='{layer}_uncorrected')`, and take its bounds, by `layer=`."
        )
        raise ValueError(msg)


def without_measured(query: AnnData, layer: str, sections: Sections) -> Sections:
    """Leave the measured spots that corrected a layer out of the rows of each section, since they tell of themselves.

    Raises
    ------
    KeyError
        The column that named them is gone.
    ValueError
        No spot is left.
    """
    column = column_of(query, layer)
    if column is None:
        return sections
    if column not in query.obs:
        msg = (
            f"`query.obs[{column!r}]` does not exist any more: it named the measured spots that corrected "
            f"`query.layers[{layer!r}]`, which must be left out of its scores. Put it back, or impute again."
        )
        raise MissingKeyError(msg)
    measured = measured_mask(query, column)
    left = [(name, rows[~measured[rows]]) for name, rows in sections]
    left = [(name, rows) for name, rows in left if len(rows)]
    if not left:
        msg = (
            f"all spots of `query` were measured (`query.obs[{column!r}]`), and the layer {layer!r} was corrected by "
            "them: none is left to score."
        )
        raise ValueError(msg)
    logger.info(
        "%d measured spots (`obs[%r]`) corrected the layer %r and are left out of its scores.",
        measured.sum(),
        column,
        layer,
    )
    return left
