"""The tables of scores that `tl` has written: which rows are drawn, and how names and numbers are put in words."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._checks import check_choice, check_in, check_listed, check_names
from bleep_sc.metrics.registry import METRICS, PlottedMetric
from bleep_sc.pl._figure import errors_naming

_NAMED = ["method", "panel", "metric"]
"""Columns that tell the rows of a table of scores apart: no two rows have the same three."""


def record_of(metric: str) -> PlottedMetric:
    """Give the record of a metric. One that only a table knows goes by its name, and high values of it are good."""
    return METRICS.get(metric, PlottedMetric(metric, label=metric))


def stored_summary(
    adata: AnnData, key: str, layers: str | Sequence[str] | None, *, numbers: Sequence[str] = ()
) -> pd.DataFrame:
    """Read the summary of a comparison, or those of several layers below one another; `numbers` names more columns."""
    if layers is None:
        keys, writer = [key], "`bleep_sc.tl.cross_validate` compares methods and writes it."
    else:
        layers = list(dict.fromkeys(check_names("layers", layers)))
        keys, writer = [_keys.scores(layer) for layer in layers], "`bleep_sc.tl.evaluate` scores a layer and writes it."
        if not keys:
            msg = "`layers` must name at least one layer, found none."
            raise ValueError(msg)
    tables = []
    for name in keys:
        check_in("adata.uns", name, adata.uns.keys(), remedy=writer)
        with errors_naming(f"adata.uns[{name!r}]", writer="cross_validate" if layers is None else "evaluate"):
            check_in(f"adata.uns[{name!r}]", "summary", dict(adata.uns[name]), remedy=writer)
            tables.append(_sound(adata.uns[name]["summary"], ["value", "low", "high", "n_genes", *numbers]))
    return pd.concat(tables, ignore_index=True)


def _sound(table: pd.DataFrame, numbers: Sequence[str]) -> pd.DataFrame:
    """Return the table with numbers in these columns; an error where they hold none, or a score stands there twice."""
    if table[_NAMED].duplicated().any():
        msg = "a score stands there twice"
        raise ValueError(msg)
    return table.assign(**{name: pd.to_numeric(table[name]) for name in numbers})


def chosen(name: str, names: str | Sequence[str] | None, column: pd.Series) -> list[str]:
    """Return the names to be drawn, each once and checked; all that are there where `wanted` is None."""
    known = list(column.unique())
    if names is None:
        return known
    names = list(dict.fromkeys(check_names(name, names)))
    if not names:
        msg = f"`{name}` must name at least one of {', '.join(map(repr, known))}, found none."
        raise ValueError(msg)
    for label in names:
        check_choice(name, label, known)
    return names


def panel_names(adata: AnnData, layer: str) -> list[str]:
    """List the gene panels that `tl.impute` has left with a layer."""
    return list(_panels(adata, layer))


def _panels(adata: AnnData, layer: str) -> dict[str, list[str]]:
    """Read the genes of each panel that `tl.impute` has left with a layer; none where there are no panels."""
    entry = adata.uns.get(layer)
    if not isinstance(entry, Mapping) or "panels" not in entry:
        return {}
    with errors_naming(f"adata.uns[{layer!r}]['panels']", writer="impute"):
        return {name: list(map(str, genes)) for name, genes in entry["panels"].items()}


def named_genes(adata: AnnData, genes: str | Sequence[str], *, layer: str) -> list[str]:
    """Return the genes of a list, each once and all known; or those of the panel of this name that `adata` has."""
    if isinstance(genes, str):
        panels = _panels(adata, layer)
        check_in(f"adata.uns[{layer!r}]['panels']", genes, panels, remedy="Genes of your own go in as a list.")
        return [gene for gene in panels[genes] if gene in adata.var_names]
    names = list(dict.fromkeys(check_names("genes", genes)))
    for gene in names:
        check_gene(adata, gene)
    return names


def check_gene(adata: AnnData, gene: str, *, name: str = "adata") -> None:
    """Check that a gene that is to be drawn is there."""
    check_listed(f"{name}.var_names", gene, adata.var_names, argument="genes", noun="gene")


def words_of(table: pd.DataFrame, column: str, *, join: str = " / ") -> str:
    """Join the different words of a column; nothing where the table has no such column."""
    words = table[column].dropna().unique() if column in table else []
    return join.join(word for word in map(str, words) if word)


def count_of(numbers: pd.Series, noun: str) -> str:
    """Put a number of things in words: one number where all are the same, else the least and the most."""
    numbers = numbers.dropna().astype(int)
    least, most = (numbers.min(), numbers.max()) if len(numbers) else (0, 0)
    return (f"{most:,}" if least == most else f"{least:,}–{most:,}") + f" {noun}{'' if most == 1 else 's'}"


def number_text(value: float, *, decimals: int = 3) -> str:
    """Write a number with a few decimals, a large one with fewer; a dash for NaN."""
    if np.isnan(value):
        return "–"
    text = f"{value:.{decimals}f}" if abs(value) < 10 else f"{value:.3g}"
    return (text.removeprefix("-") if float(text) == 0 else text).replace("-", "−")
