"""Remembers a few of the values that a model was fitted on, and notices where others stand in their place."""

from typing import Any

import numpy as np
from anndata import AnnData
from scipy import sparse

from bleep_sc._adata import as_text
from bleep_sc._blocks import LazyRows
from bleep_sc._expression import path_of
from bleep_sc._logging import warn
from bleep_sc._stats import Expression
from bleep_sc.io._reference_record import Measured
from bleep_sc.io._stored import fault_of_name

_SPOTS = 16
_SPOTS_OF_LAZY = 4
_GENES = 32
_MOST_CHANGED = 0.1
"""Share of a spot's values; above it, the spot is taken for changed."""
_RELATIVE, _ABSOLUTE = 2e-3, 1e-4
"""What float16 takes away of a value, and of the largest one."""


def remember(adata: AnnData, expression: Expression) -> Measured | None:
    """Keep values of some spots, spread over the data, and of the genes that vary most among them; None if none do."""
    names = as_text(adata.obs_names)
    rows = np.unique(np.linspace(0, adata.n_obs - 1, min(_SPOTS, adata.n_obs)).astype(int))
    rows = rows[[not fault_of_name(name) for name in names[rows]]]
    if not len(rows):
        return None
    values = _dense(expression.matrix[rows])
    spread = values.var(axis=0, dtype=np.float64)
    genes = np.sort(np.argsort(-spread, kind="stable")[:_GENES])
    genes = genes[spread[genes] > 0]
    if not len(genes):
        return None
    return Measured(names[rows].to_numpy().astype(str), expression.genes[genes], values[:, genes])


def warn_of_other_values(ref: AnnData, values: Any, measured: Measured, *, layer: str | None, key: str) -> bool:
    """Warn where the values to average are not those that the model was fitted on, and tell whether they are not.

    Spots and genes are found by name. Those that are not there, or were renamed, tell nothing.
    """
    rows = as_text(ref.obs_names).get_indexer(measured.spots)
    columns = as_text(ref.var_names).get_indexer(measured.genes)
    spots, genes = np.flatnonzero(rows >= 0), np.flatnonzero(columns >= 0)
    if isinstance(values, LazyRows):
        spots = spots[:: max(1, len(spots) // _SPOTS_OF_LAZY)][:_SPOTS_OF_LAZY]
    if not len(spots) or not len(genes):
        return False
    found, expected = _rows(values, rows[spots])[:, columns[genes]], measured.values[np.ix_(spots, genes)]
    allowed = _RELATIVE * np.abs(expected) + _ABSOLUTE * np.abs(expected).max()
    changed = (np.abs(found - expected) > allowed).mean(axis=1) > _MOST_CHANGED
    if changed.any():
        path = path_of("ref", layer)
        warn(
            f"`{path}` is not what the model {key!r} was fitted on: {changed.sum()} of {len(spots)} spots looked at "
            f"have other values, {found[changed].min():.4g} to {found[changed].max():.4g} where there were "
            f"{expected[changed].min():.4g} to {expected[changed].max():.4g}. It was scaled, replaced or put in "
            f"another order since. Restore `{path}`, or fit the model again."
        )
    return bool(changed.any())


def _rows(values: Any, rows: np.ndarray) -> np.ndarray:
    """Take single rows, dense; parts of a lazy array without any of them are not read."""
    if not isinstance(values, LazyRows):
        return _dense(values[rows])
    out = np.empty((len(rows), values.shape[1]), dtype=np.float32)
    for part in values.parts():
        in_part = (rows >= part.start) & (rows < part.stop)
        if in_part.any():
            out[in_part] = _dense(values[part][rows[in_part] - part.start])
    return out


def _dense(values: Any) -> np.ndarray:
    return np.asarray(values.toarray() if sparse.issparse(values) else values, dtype=np.float32)
