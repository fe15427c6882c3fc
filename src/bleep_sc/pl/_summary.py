"""The tables of scores that `tl` has written: which rows are drawn, and how metrics and numbers are called."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._validate import check_choice, check_in


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


def stored_summary(adata: AnnData, key: str, layers: str | Sequence[str] | None) -> pd.DataFrame:
    """The summary of a comparison, or those of several layers below one another."""
    if layers is None:
        keys, writer = [key], "`bleep_sc.tl.cross_validate` compares methods and writes it."
    else:
        layers = [layers] if isinstance(layers, str) else list(dict.fromkeys(layers))
        keys, writer = [_keys.scores(layer) for layer in layers], "`bleep_sc.tl.evaluate` scores a layer and writes it."
        if not keys:
            msg = "`layers` must name at least one layer, found none."
            raise ValueError(msg)
    tables = []
    for name in keys:
        check_in("adata.uns", name, adata.uns.keys(), remedy=writer)
        check_in(f"adata.uns[{name!r}]", "summary", adata.uns[name], remedy=writer)
        tables.append(adata.uns[name]["summary"])
    return pd.concat(tables, ignore_index=True)


def chosen(name: str, wanted: str | Sequence[str] | None, found: pd.Series) -> list[str]:
    """What is to be drawn, each once; all there is where nothing is named."""
    there = list(found.unique())
    if wanted is None:
        return there
    wanted = [wanted] if isinstance(wanted, str) else list(dict.fromkeys(wanted))
    if not wanted:
        msg = f"`{name}` must name at least one of {', '.join(map(repr, there))}, found none."
        raise ValueError(msg)
    for one in wanted:
        check_choice(name, one, there)
    return wanted


def panel_names(adata: AnnData, layer: str) -> list[str]:
    """The gene panels that `tl.impute` has left with a layer."""
    entry = adata.uns.get(layer)
    return list(entry.get("panels", {})) if isinstance(entry, Mapping) else []


def named_genes(adata: AnnData, genes: str | Sequence[str], *, layer: str) -> list[str]:
    """A list of genes as it is, each once and all known; or of the panel of this name those that `adata` has."""
    if isinstance(genes, str):
        panels = panel_names(adata, layer)
        check_in(f"adata.uns[{layer!r}]['panels']", genes, panels, remedy="Genes of your own go in as a list.")
        return [gene for gene in map(str, adata.uns[layer]["panels"][genes]) if gene in adata.var_names]
    names = list(dict.fromkeys(genes))
    for gene in names:
        check_in("adata.var_names", gene, adata.var_names)
    return names


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
