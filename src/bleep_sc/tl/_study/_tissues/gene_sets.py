"""Reads sets of genes: from a GMT file, from decoupler's table, or as they are given."""

from collections.abc import Iterable, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import pandas as pd

_KINDS = "the path of a GMT file, a table with the columns 'source' and 'target' (decoupler's), or genes by set"
_LARGEST = 200_000_000
"""Bytes of a file above which it is no list of gene sets: MSigDB's largest has 30 million."""


def read_gene_sets(gene_sets: Any) -> dict[str, list[str]]:
    """Return the genes of each set, each gene once.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        A file that is no GMT file, or a table or mapping of another kind.
    """
    if isinstance(gene_sets, str | PathLike):
        return _from_gmt(Path(fspath(gene_sets)))
    if isinstance(gene_sets, pd.DataFrame):
        return _from_table(gene_sets)
    if not isinstance(gene_sets, Mapping) or not gene_sets:
        msg = f"`gene_sets` must be {_KINDS}; found {type(gene_sets).__name__}."
        raise ValueError(msg)
    sets = {}
    for name, genes in gene_sets.items():
        if isinstance(genes, str) or not isinstance(genes, Iterable):
            msg = f"`gene_sets[{name!r}]` must be a list of genes, found {genes!r}."
            raise ValueError(msg)
        if str(name) in sets:
            msg = f"`gene_sets` names {str(name)!r} twice, once as {type(name).__name__}: rename one."
            raise ValueError(msg)
        sets[str(name)] = list(dict.fromkeys(map(str, genes)))
    return sets


def _from_table(table: pd.DataFrame) -> dict[str, list[str]]:
    if not {"source", "target"} <= set(table):
        msg = (
            f"`gene_sets` lacks the columns 'source' (the set) and 'target' (a gene of it); it has {list(table)[:10]}."
        )
        raise ValueError(msg)
    pairs = table[["source", "target"]].dropna().astype(str)
    if pairs.empty:
        msg = "`gene_sets` is a table without rows: no set is named."
        raise ValueError(msg)
    return {str(name): list(dict.fromkeys(genes)) for name, genes in pairs.groupby("source", sort=False)["target"]}


def _from_gmt(path: Path) -> dict[str, list[str]]:
    """Read a GMT file: on each line the set's name, a description and its genes, parted by tabs."""
    if not path.is_file():
        msg = f"`gene_sets`: there is no file {str(path)!r}."
        raise FileNotFoundError(msg)
    if path.stat().st_size > _LARGEST:
        raise ValueError(_no_gmt(path, f"it has {path.stat().st_size / 1e6:,.0f} MB"))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as err:
        raise ValueError(_no_gmt(path, "it is no text")) from err
    sets: dict[str, list[str]] = {}
    for number, line in enumerate(text.split("\n"), start=1):  # a description may hold breaks of other kinds
        if not line.strip():
            continue
        name, *rest = (part.strip() for part in line.split("\t"))
        genes = list(dict.fromkeys(gene for gene in rest[1:] if gene))
        if not name or not genes:
            raise ValueError(_no_gmt(path, f"line {number} has no name, or no genes: {line[:40]!r}"))
        if name in sets:
            raise ValueError(_no_gmt(path, f"line {number} names {name!r} a second time"))
        sets[name] = genes
    if not sets:
        raise ValueError(_no_gmt(path, "it is empty"))
    return sets


def _no_gmt(path: Path, found: str) -> str:
    return (
        f"`gene_sets`: {path.name!r} is no GMT file: {found}. On each line stand the set's name, a description and its "
        "genes, parted by tabs, as MSigDB gives them."
    )
