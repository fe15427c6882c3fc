"""Reads a prediction that is to be scored: a layer in memory or in a store, or an AnnData made elsewhere."""

from typing import Any

import numpy as np
from anndata import AnnData
from scipy import sparse

from bleep_sc._adata import as_text, check_readable
from bleep_sc._blocks import is_lazy
from bleep_sc._checks import MissingKeyError

_FIRST_SPOTS = 512
"""The number of spots by which the units of a layer in a store are told."""


def aligned_prediction(prediction: AnnData, query: AnnData) -> np.ndarray:
    """Put a prediction made elsewhere into the query's order of spots and genes; NaN for genes that it lacks."""
    check_readable(prediction, name="prediction")
    rows = as_text(prediction.obs_names).get_indexer(as_text(query.obs_names))
    columns = as_text(prediction.var_names).get_indexer(as_text(query.var_names))
    if (rows < 0).any() or (columns < 0).all():
        what = f"lacks {(rows < 0).sum()} of the {query.n_obs} spots" if (rows < 0).any() else "shares no gene"
        msg = (
            f"`prediction` {what} of `query`. They are matched by name: `prediction.obs_names` are such as "
            f"{list(prediction.obs_names[:2])}, the query's {list(query.obs_names[:2])}; `prediction.var_names` "
            f"{list(prediction.var_names[:2])}, the query's {list(query.var_names[:2])}."
        )
        raise ValueError(msg)
    if prediction.X is None:
        msg = "`prediction.X` is empty: the predicted expression is expected there."
        raise MissingKeyError(msg)
    values = predicted_values(prediction.X, prediction.shape, path="prediction.X")
    values = np.asarray(values, dtype=np.float32)
    out = np.full(query.shape, np.nan, dtype=np.float32)
    out[:, columns >= 0] = values[np.ix_(rows, columns[columns >= 0])]
    return out


def known_values(predicted: Any) -> np.ndarray:
    """Take the genes that were predicted; of a layer in a store, of its first spots alone."""
    seen = predicted[:_FIRST_SPOTS].compute() if is_lazy(predicted) else predicted
    known: np.ndarray = seen[:, ~np.isnan(seen).any(axis=0)]
    return known


def predicted_values(values: Any, shape: tuple[int, ...], *, path: str) -> Any:
    """Return a matrix dense, or lazy where it is; lazy values are looked at as they are read."""
    if tuple(values.shape) != shape:
        msg = f"`{path}` must have the shape (n_obs, n_vars) = {shape}, found {tuple(values.shape)}."
        raise ValueError(msg)
    if is_lazy(values):
        if not sparse.issparse(values._meta) and values.dtype.kind in "fiub":
            return values
        values = values.compute()
    elif hasattr(values, "to_memory"):  # backed
        values = values.to_memory()
    values = np.asarray(values.toarray() if sparse.issparse(values) else values)
    check_predicted(values, path=path)
    return values


def check_predicted(values: np.ndarray, *, path: str) -> None:
    """Refuse what is no number, and infinite values."""
    if values.dtype.kind not in "fiub" or np.isinf(values).any():
        fault = "infinite values" if values.dtype.kind in "fiub" else f"{values.dtype}"
        msg = f"`{path}` must hold numbers, NaN for genes that were not predicted; found {fault}."
        raise ValueError(msg)
