"""Finds the genes that query and model share, and how their names could be spelt alike where these are few."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc._adata import as_text
from bleep_sc._logging import logger, warn

_FEW = 0.5
"""Share of the shorter list of genes; below it, too few are shared."""
_CLEARLY_MORE = 0.25
"""Share of the shorter list by which another spelling must find more genes to be named."""
_AS_GOOD = 0.95
"""Share of the most genes that any spelling finds, at which a simpler one is named."""
_MOST_COLUMNS = 4
_VERSION = r"(?<=\d{11})\.\d+$"
"""Pattern of the version of an Ensembl id, whose number has 11 digits; in ``RP11-34P13.7`` the 7 is no version."""


@dataclass(frozen=True)
class Available:
    """The genes that can be filled in."""

    names: pd.Index
    of: str
    """Whose genes they are, as messages call it."""
    code: str
    """The names, as the user would write them."""
    var: pd.DataFrame
    """Table of genes of the reference, in whose columns other names of the same genes may stand."""


@dataclass(frozen=True)
class _Spelling:
    """A way to spell names, so that more of them are alike."""

    words: str
    code: str
    """Python that spells the name in braces so."""
    spell: Callable[[pd.Series], pd.Series]


def _without_version(names: pd.Series) -> pd.Series:
    return names.str.replace(_VERSION, "", regex=True)


_SPELLINGS = (
    _Spelling("", "{}", lambda names: names),
    _Spelling("in upper case", "{}.upper()", lambda names: names.str.upper()),
    _Spelling("without version suffix", f"re.sub(r'{_VERSION}', '', {{}})", _without_version),
    _Spelling(
        "in upper case and without version suffix",
        f"re.sub(r'{_VERSION}', '', {{}}).upper()",
        lambda names: _without_version(names).str.upper(),
    ),
)
"""The simplest first."""


@dataclass(frozen=True)
class _Hint:
    """A way to name the query's genes as the model does."""

    spelling: _Spelling
    ours: str
    """Python that gives the names of the query's genes."""
    theirs: str
    """Python that gives those of the reference's."""
    n_shared: int


def shared_genes(query: AnnData, available: Available) -> np.ndarray:
    """Find the position of each gene of the query among the available ones (n_vars,); -1 where it is not there."""
    names, of = available.names, available.of
    columns: np.ndarray = as_text(names).get_indexer(as_text(query.var_names))
    shared, most = int((columns >= 0).sum()), min(query.n_vars, len(names))
    if not query.n_vars:
        msg = (
            "`query` has no genes, so there is no column to fill. Make it with the reference's: pass `ref` to the "
            "function that makes the slide, as in `bleep_sc.pp.blank(ref, ...)` or `bleep_sc.io.from_patches(path, "
            "ref)`."
        )
        raise ValueError(msg)
    if shared == 0:
        msg = (
            f"`query` and `ref` share no gene: `query.var_names` are such as {list(query.var_names[:3])}, "
            f"those of {of} such as {list(names[:3])}. "
            + (
                _advice(query, available, 0)
                or "Name genes alike in both (symbols or Ensembl ids), or make the query with "
                "`bleep_sc.pp.blank(ref, ...)`."
            )
        )
        raise ValueError(msg)
    if shared < _FEW * most:
        warn(
            f"`query` and `ref` share few genes: {shared} of the query's {query.n_vars} are among the {len(names)} of "
            f"{of}, and the layer is NaN for all others. `query.var_names` are such as {list(query.var_names[:3])}, "
            f"those of {of} such as {list(names[:3])}. {_advice(query, available, shared)}".strip()
        )
    if shared < len(names):
        logger.info(
            "%d of the %d genes of %s are not in `query` and are left out; a query made with "
            "`bleep_sc.pp.blank(ref, ...)` has them all.",
            len(names) - shared,
            len(names),
            of,
        )
    if shared < query.n_vars:
        logger.info(
            "%d of the query's %d genes are not among those of %s: NaN.", query.n_vars - shared, query.n_vars, of
        )
    return columns


def _advice(query: AnnData, available: Available, shared: int) -> str:
    """Say how many genes would be shared under another spelling, and how to get it; empty where none helps."""
    ours = _names_of(query.var, query.var_names, "query.var_names", "query.var")
    known, table = as_text(available.names), as_text(available.var.index)
    theirs = _names_of(available.var, table, "ref.var_names", "ref.var")
    theirs = {code: names[names.index.isin(known)] for code, names in theirs.items() if code != "ref.var_names"}
    theirs = {available.code: pd.Series(known, index=known), **theirs}
    hints = _hints(ours, theirs)
    most = max(hint.n_shared for hint in hints)
    if most < max(1, shared + _CLEARLY_MORE * min(query.n_vars, len(known))):
        return ""
    best = next(hint for hint in hints if hint.n_shared >= _AS_GOOD * most)
    columns = [f"by `{code}`" for code in (best.ours, best.theirs) if ".var[" in code]
    words = " and ".join(filter(None, [best.spelling.words, *columns]))
    code = _code(best, ours[best.ours], theirs[best.theirs], available.code)
    return f"{best.n_shared} would be shared {words}: {code}."


def _hints(ours: Mapping[str, pd.Series], theirs: Mapping[str, pd.Series]) -> list[_Hint]:
    """Count the shared genes by all names that both sides have for them, in all spellings; the simplest first."""
    hints = []
    for spelling in _SPELLINGS:
        spelt, meant = ({code: set(spelling.spell(names)) for code, names in side.items()} for side in (ours, theirs))
        hints += [_Hint(spelling, our, their, len(spelt[our] & meant[their])) for our in spelt for their in meant]
    return hints


def _names_of(var: pd.DataFrame, names: pd.Index, code: str, table: str) -> dict[str, pd.Series]:
    """Return all names of genes by the code that reads them: those of the table, and columns of text."""
    index = pd.Index(names.astype(str))
    found = {code: pd.Series(index, index=index)}
    single = var.columns[~var.columns.duplicated(keep=False)]
    for column in [name for name in single if _holds_names(var[name])][:_MOST_COLUMNS]:
        found[f"{table}[{column!r}].astype(str)"] = pd.Series(var[column].astype(str).to_numpy(), index=index)
    return found


def _holds_names(column: pd.Series) -> bool:
    """Tell whether a column holds a text for each gene, most of them different."""
    texts = column.dropna().astype(object)
    return pd.api.types.infer_dtype(texts) == "string" and texts.nunique() > len(column) / 2


def _code(hint: _Hint, ours: pd.Series, theirs: pd.Series, available: str) -> str:
    """Write the lines that name the query's genes as the model does."""
    spelling, spell = hint.spelling, partial(hint.spelling.code.replace, "{}")
    lines = ["`import re`"] if "re.sub" in spelling.code else []
    if hint.theirs == available:
        lines.append(f"`names = {{{spell('g')}: g for g in {available}}}`")
    else:
        lines.append(f"`names = {{{spell('n')}: g for n, g in zip({hint.theirs}, ref.var_names)}}`")
    if hint.ours == "query.var_names":
        lines.append(f"`query.var_names = [names.get({spell('g')}, g) for g in query.var_names]`")
    else:
        lines.append(f"`query.var_names = [names.get({spell('n')}, g) for n, g in zip({hint.ours}, query.var_names)]`")
    names = dict(zip(spelling.spell(theirs), theirs.index, strict=True))
    renamed = [names.get(name, gene) for name, gene in zip(spelling.spell(ours), ours.index, strict=True)]
    if len(set(renamed)) < len(renamed):
        lines.append("`query.var_names_make_unique()`")
    return ", then ".join(lines)
