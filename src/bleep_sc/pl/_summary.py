"""The tables of scores that `tl` has written: which rows are drawn, and how metrics and numbers are called."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._checks import check_choice, check_in, check_names
from bleep_sc.pl._figure import reading

_NAMED = ["method", "panel", "metric"]
"""What one row of a table of scores is of."""


class Metric(NamedTuple):
    label: str
    best: float | None = None
    """The value nearest to which is best; None: the higher the better."""
    mark: float | None = 0.0
    """The value that an axis shows in any case, because it means something."""

    @property
    def title(self) -> str:
        if self.best is None:
            return self.label
        return f"{self.label} ({'lower is better' if self.best == 0 else f'best is {self.best:g}'})"

    def rank(self, values: pd.Series) -> pd.Series:
        """The higher, the better."""
        return values if self.best is None else -(values - self.best).abs()


METRICS = {
    "pearson": Metric("Pearson correlation"),
    "spearman": Metric("Spearman correlation"),
    "rmse": Metric("RMSE", best=0.0, mark=None),
    "mae": Metric("Mean absolute error", best=0.0, mark=None),
    "r2": Metric("R²"),
    "ccc": Metric("Concordance correlation"),
    "pearson_depth_free": Metric("Pearson correlation, depth regressed out"),
    "ssim": Metric("SSIM"),
    "moran_difference": Metric("Difference of Moran's I", best=0.0),
    "variance_ratio": Metric("Variance, predicted to measured", best=1.0, mark=1.0),
    "gene_gene": Metric("Agreement of gene–gene correlation"),
    "moran_agreement": Metric("Agreement of Moran's I over genes"),
}


def stored_summary(
    adata: AnnData, key: str, layers: str | Sequence[str] | None, *, numbers: Sequence[str] = ()
) -> pd.DataFrame:
    """The summary of a comparison, or those of several layers below one another, with these columns of numbers too."""
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
        with reading(f"adata.uns[{name!r}]", writer="cross_validate" if layers is None else "evaluate"):
            check_in(f"adata.uns[{name!r}]", "summary", dict(adata.uns[name]), remedy=writer)
            tables.append(_sound(adata.uns[name]["summary"], ["value", "low", "high", "n_genes", *numbers]))
    return pd.concat(tables, ignore_index=True)


def _sound(table: pd.DataFrame, numbers: Sequence[str]) -> pd.DataFrame:
    """The table with numbers where they are drawn; an error where something else stands, or one score twice."""
    if table[_NAMED].duplicated().any():
        msg = "a score stands there twice"
        raise ValueError(msg)
    return table.assign(**{name: pd.to_numeric(table[name]) for name in numbers})


def chosen(name: str, wanted: str | Sequence[str] | None, found: pd.Series) -> list[str]:
    """What is to be drawn, each once; all there is where nothing is named."""
    there = list(found.unique())
    if wanted is None:
        return there
    wanted = list(dict.fromkeys(check_names(name, wanted)))
    if not wanted:
        msg = f"`{name}` must name at least one of {', '.join(map(repr, there))}, found none."
        raise ValueError(msg)
    for one in wanted:
        check_choice(name, one, there)
    return wanted


def panel_names(adata: AnnData, layer: str) -> list[str]:
    """The gene panels that `tl.impute` has left with a layer."""
    return list(_panels(adata, layer))


def _panels(adata: AnnData, layer: str) -> dict[str, list[str]]:
    entry = adata.uns.get(layer)
    if not isinstance(entry, Mapping) or "panels" not in entry:
        return {}
    with reading(f"adata.uns[{layer!r}]['panels']", writer="impute"):
        return {name: list(map(str, genes)) for name, genes in entry["panels"].items()}


def named_genes(adata: AnnData, genes: str | Sequence[str], *, layer: str) -> list[str]:
    """A list of genes as it is, each once and all known; or of the panel of this name those that `adata` has."""
    if isinstance(genes, str):
        panels = _panels(adata, layer)
        check_in(f"adata.uns[{layer!r}]['panels']", genes, panels, remedy="Genes of your own go in as a list.")
        return [gene for gene in panels[genes] if gene in adata.var_names]
    names = list(dict.fromkeys(check_names("genes", genes)))
    for gene in names:
        check_gene(adata, gene)
    return names


def check_gene(adata: AnnData, gene: str, *, name: str = "adata") -> None:
    """A gene that is drawn must be there."""
    check_in(f"{name}.var_names", gene, adata.var_names, remedy="`genes` names some of them.")


def words_of(table: pd.DataFrame, column: str, *, join: str = " / ") -> str:
    """The words of a column that only some tables have."""
    words = table[column].dropna().unique() if column in table else []
    return join.join(word for word in map(str, words) if word)


def count_of(numbers: pd.Series, noun: str) -> str:
    """How many: one number where all are the same, else from the least to the most."""
    numbers = numbers.dropna().astype(int)
    least, most = (numbers.min(), numbers.max()) if len(numbers) else (0, 0)
    return (f"{most:,}" if least == most else f"{least:,}–{most:,}") + f" {noun}{'' if most == 1 else 's'}"


def number_text(value: float, *, decimals: int = 3) -> str:
    """A few decimals, fewer of a large number; a dash for what is not known."""
    if np.isnan(value):
        return "–"
    text = f"{value:.{decimals}f}" if abs(value) < 10 else f"{value:.3g}"
    return (text.removeprefix("-") if float(text) == 0 else text).replace("-", "−")
