"""Check what is asked for, and read it once: after this nothing that a report draws is missing or of another model."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import check_readable, check_reference, recorded_library_key, with_frames
from bleep_sc._checks import check_in, check_key, check_listed, check_names
from bleep_sc._report.choice import choose_genes
from bleep_sc._report.plain import mapping, text
from bleep_sc._report.records import LOWER, MEASURED, PREDICTED, UPPER
from bleep_sc._stats import looks_like_counts
from bleep_sc.pl._figure import values_of
from bleep_sc.pl._summary import check_gene
from bleep_sc.pl._tissue import Section, sections_to_draw

MOST_GENES = 12
"""The largest number of genes that have maps: each takes up to four pictures a section."""
_ENDINGS = (".html", ".htm")


@dataclass(frozen=True)
class Asked:
    """What a report is made of, checked."""

    query: AnnData
    ref: AnnData | None
    key: str
    layer: str
    image_key: str
    library_key: str | None
    img_key: str | None
    genes: tuple[str, ...]
    why_genes: str
    spots: tuple[str, ...] | None
    sections: tuple[Section, ...]
    values: Mapping[str, np.ndarray]
    """Expression of the chosen genes by kind of map (n_obs, n_genes); a kind that is not there has no entry."""
    other_units: bool
    """Whether the measured expression is in other units than the prediction, so that it is left out."""
    truth: str | None

    @property
    def rows(self) -> np.ndarray:
        """Rows of the spots in the sections that are shown."""
        return np.concatenate([section.rows for section in self.sections])

    @property
    def is_slim(self) -> bool:
        """Whether the reference is a slim model, which holds no spots."""
        return self.ref is not None and self.ref.n_obs == 0

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What `tl.impute` has recorded of the layer; nothing where something else made it."""
        return mapping(self.query.uns.get(self.layer))


def read_asked(
    query: Any,
    ref: Any,
    *,
    genes: str | Sequence[str] | None,
    spots: str | Sequence[str] | None,
    key: Any,
    layer: Any,
    truth: Any,
    image_key: Any,
    library_key: str | None,
    library_id: str | Sequence[str] | None,
    img_key: str | None,
) -> Asked:
    """Check the objects and all names, and read the values of the chosen genes."""
    check_readable(query, name="query")
    if ref is not None:
        check_reference(ref)
    layer = key if layer is None else layer
    for name, value in (("key", key), ("layer", layer), ("image_key", image_key), ("truth", truth)):
        if value is not None:
            check_key(name, value)
    query, ref = _with_tables(query), None if ref is None else _with_tables(ref)
    check_in("query.layers", layer, query.layers.keys(), remedy="`bleep_sc.tl.impute(query, ref)` makes it.")
    if truth is not None:
        check_in("query.layers", truth, query.layers.keys(), remedy="`truth=None` takes `X`.")
    if spots is not None:
        spots = tuple(dict.fromkeys(check_names("spots", spots)))
        for spot in spots:
            check_listed("query.obs_names", spot, query.obs_names, argument="spots", noun="spot")
    if genes is not None:
        genes = _checked_genes(query, genes)
    library_key = library_key or recorded_library_key(query)
    sections = sections_to_draw(query, library_key=library_key, library_id=library_id, img_key=img_key, size=1.0)
    if ref is not None:
        check_same_model(query, ref, key=key, layer=layer)
    shown = np.concatenate([section.rows for section in sections])
    why = "These genes were asked for."
    if genes is None:
        genes, why = choose_genes(query, ref, key=key, layer=layer, rows=shown)
    values, other_units = _values(query, genes, layer=layer, truth=truth, rows=shown)
    return Asked(
        query,
        ref,
        key,
        layer,
        image_key,
        library_key,
        img_key,
        genes,
        why,
        spots,
        tuple(sections),
        values,
        other_units,
        truth,
    )


def check_path(path: str | PathLike[str]) -> Path:
    """Return where the file goes; refuse a folder, a folder that is not there, and a name that no browser opens."""
    if not isinstance(path, str | PathLike) or isinstance(path, bytes):
        msg = f"`path` must be the path of a file, such as 'report.html', found {path!r}."
        raise TypeError(msg)
    target = Path(path)
    if target.is_dir():
        msg = f"`path`: {str(target)!r} is a folder. Name the file in it, such as {str(target / 'report.html')!r}."
        raise IsADirectoryError(msg)
    if target.suffix.lower() not in _ENDINGS:
        msg = f"`path` must end in '.html', so that a browser opens it; found {str(target)!r}."
        raise ValueError(msg)
    if not target.parent.is_dir():
        msg = f"`path`: there is no folder {str(target.parent)!r}. Make it first, or name another one."
        raise FileNotFoundError(msg)
    if not os.access(target.parent, os.W_OK):
        msg = f"`path`: nothing may be written into the folder {str(target.parent)!r}. Name another one."
        raise PermissionError(msg)
    return target


def check_same_model(query: AnnData, ref: AnnData, *, key: str, layer: str) -> None:
    """Refuse a reference whose model did not make the layer."""
    from bleep_sc.io._stored import from_uns

    stored = from_uns(ref.uns, key)
    made_by = text(mapping(query.uns.get(layer)).get("model_sha256"))
    if not made_by:
        msg = (
            f"`query.layers[{layer!r}]` has no record of what imputed it (`query.uns[{layer!r}]`), so nobody can say "
            "whether `ref` belongs to it. Leave `ref` out, or impute again: `bleep_sc.tl.impute(query, ref)`."
        )
        raise ValueError(msg)
    if made_by != stored.sha256:
        msg = (
            f"`query.layers[{layer!r}]` was imputed by another model than `ref.uns[{key!r}]`. Pass the reference that "
            "it is of, or impute again: `bleep_sc.tl.impute(query, ref)`."
        )
        raise ValueError(msg)


def _with_tables(adata: AnnData) -> AnnData:
    """Return an AnnData with all tables in memory, where `read_lazy` left them on disk."""
    read = with_frames(adata)
    if read is not adata:
        for name, value in adata.uns.items():
            read.uns[name] = _in_memory(value)
    return read


def _in_memory(value: Any) -> Any:
    if hasattr(value, "to_memory"):
        return value.to_memory()
    if isinstance(value, Mapping):
        return {name: _in_memory(part) for name, part in value.items()}
    return value.compute() if hasattr(value, "compute") else value


def _checked_genes(query: AnnData, genes: str | Sequence[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(check_names("genes", genes)))
    if not 1 <= len(names) <= MOST_GENES:
        msg = f"`genes` must name 1 to {MOST_GENES} genes, found {len(names)}. `genes=None` chooses some."
        raise ValueError(msg)
    for gene in names:
        check_gene(query, gene, name="query")
    return names


def _values(
    query: AnnData, genes: tuple[str, ...], *, layer: str, truth: str | None, rows: np.ndarray
) -> tuple[dict[str, np.ndarray], bool]:
    """Read the chosen genes of each layer that is there; measured values only in the units of the prediction."""
    found = {PREDICTED.name: values_of(query, genes, layer=layer, name="query")}
    without = ~np.isfinite(found[PREDICTED.name][rows]).any(axis=0)
    if without.any():
        msg = (
            f"`query.layers[{layer!r}]` holds no value of {genes[int(without.argmax())]!r} in the sections that are "
            "shown: the reference may lack this gene. Leave it out of `genes`."
        )
        raise ValueError(msg)
    for kind in (LOWER, UPPER):
        bound = _keys.bound(layer, kind.name)
        if bound in query.layers:
            found[kind.name] = values_of(query, genes, layer=bound, name="query")
    other_units = False
    if truth is not None or query.X is not None:
        measured = values_of(query, genes, layer=truth, name="query")
        predicted = np.nan_to_num(found[PREDICTED.name])
        other_units = looks_like_counts(np.nan_to_num(measured)) and not looks_like_counts(predicted)
        if not other_units and np.isfinite(measured[rows]).any():
            found[MEASURED.name] = measured
    return found, other_units
