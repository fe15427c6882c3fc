"""Choose the genes to show, where the user names none, and say why these."""

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc.pl._figure import errors_naming, values_of
from bleep_sc.pl._summary import named_genes, panel_names

_N_GENES = 3
_MOST_CANDIDATES = 400
_MOST_SPOTS = 2_000
_REASONS = {"HVG-50": "vary most", "HVG-200": "vary most", "HEG-50": "are highest"}
"""Panels that are looked through, each with what is special about its genes."""


def choose_genes(
    query: AnnData, ref: AnnData | None, *, key: str, layer: str, rows: np.ndarray
) -> tuple[tuple[str, ...], str]:
    """Choose a few genes that have a prediction, and give the reason; never by how well they do on the query."""
    for candidates, why in _candidates(query, ref, key=key, layer=layer):
        known = _with_values(query, candidates[:_MOST_CANDIDATES], layer=layer, rows=rows)
        if known:
            return tuple(known[:_N_GENES]), why
    values = values_of(
        query, list(query.var_names[:_MOST_CANDIDATES]), layer=layer, rows=rows[:_MOST_SPOTS], name="query"
    )
    if not np.isfinite(values).any():
        msg = (
            f"`query.layers[{layer!r}]` holds no values to show in the sections that are shown. "
            "`bleep_sc.tl.impute(query, ref)` makes them."
        )
        raise ValueError(msg)
    spread = np.nanstd(np.where(np.isfinite(values).any(axis=0), values, 0.0), axis=0)
    best = np.argsort(-spread, kind="stable")[:_N_GENES]
    return tuple(query.var_names[best]), "The predictions of these genes vary most over the slides."


def _candidates(query: AnnData, ref: AnnData | None, *, key: str, layer: str) -> list[tuple[list[str], str]]:
    """List genes worth showing, best list first."""
    lists = []
    if ref is not None and {*_keys.of_calibrated_genes(key)} <= {*ref.var.columns}:
        var: pd.DataFrame = ref.var
        with errors_naming("ref.var", writer="calibrate"):
            listed = var[_keys.predictable(key)].astype(bool)
            expected = pd.to_numeric(var.loc[listed, _keys.expected_pearson(key)])
        names = [gene for gene in expected.sort_values(ascending=False, kind="stable").index if gene in query.var_names]
        lists.append((list(map(str, names)), "These genes are expected to be predicted best."))
    panels = panel_names(query, layer)
    for panel in _REASONS:
        if panel in panels:
            why = f"These genes {_REASONS[panel]} in the reference."
            lists.append((named_genes(query, panel, layer=layer), why))
    return lists


def _with_values(query: AnnData, genes: list[str], *, layer: str, rows: np.ndarray) -> list[str]:
    """Leave out genes without any prediction."""
    if not genes:
        return []
    known = np.isfinite(values_of(query, genes, layer=layer, rows=rows[:_MOST_SPOTS], name="query")).any(axis=0)
    return [gene for gene, is_known in zip(genes, known, strict=True) if is_known]
