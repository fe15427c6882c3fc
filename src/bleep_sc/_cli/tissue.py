"""Reads the files that a command is given."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import anndata as ad
import numpy as np
from anndata import AnnData

from bleep_sc._adata import section_of_spots
from bleep_sc._checks import meant
from bleep_sc._cli.refused import Refused
from bleep_sc._cli.terminal import one_line
from bleep_sc._library import libraries
from bleep_sc._logging import logger

T = TypeVar("T")
H5AD, ZARR = ".h5ad", ".zarr"
READERS: Mapping[str, Callable[[str], AnnData]] = {H5AD: ad.read_h5ad, ZARR: ad.read_zarr}
"""The reader of each ending that an AnnData can have."""
ENDINGS = tuple(READERS)


def check_there(text: str, *, what: str) -> None:
    """Refuse a path at which nothing is."""
    if not Path(text).exists():
        msg = f"{what} {text}: there is no such file. Look for a slip in its name; it is sought from {Path.cwd()}."
        raise Refused(msg)


def read_tissue(text: str, *, what: str) -> AnnData:
    """Read an AnnData."""
    reader = READERS.get(Path(text).suffix.lower())
    if reader is None:
        msg = f"{what} {text}: must be an AnnData, a file that ends in {' or '.join(ENDINGS)}."
        raise Refused(msg)
    check_there(text, what=what)
    logger.info("Reading %s ...", one_line(text))
    try:
        return reader(text)
    except Exception as err:  # h5py, zarr and anndata have errors of their own
        msg = (
            f"{what} {text}: cannot be read as an AnnData ({type(err).__name__}: {err}). Write it again with "
            "write_h5ad or write_zarr of anndata; `bleep_sc.io.from_spatialdata` reads a store of SpatialData."
        )
        raise Refused(msg) from err


def sections_of(adata: AnnData, library_key: str | None) -> list[str]:
    """List the names of sections: those of a column, else those that have pictures."""
    if library_key is None:
        return list(libraries(adata.uns))
    return sorted(set(np.asarray(section_of_spots(adata, library_key), dtype=str).tolist()))


def by_section(
    texts: Sequence[str], sections: Sequence[str], convert: Callable[[str], T], *, option: str
) -> T | dict[str, T]:
    """Read ``SECTION=VALUE``, once for each section, or one VALUE for all.

    Values and names may hold ``=`` themselves: what stands before it must be the name of a section.
    """
    found: dict[str, T] = {}
    for text in texts:
        # the longest name, where one is the beginning of another
        names = [name for name in sections if text.startswith(f"{name}=")]
        if names:
            name = max(names, key=len)
            if name in found:
                msg = f"{option} {text}: section {name!r} is named twice. Leave one of them out."
                raise Refused(msg)
            found[name] = convert(text.removeprefix(f"{name}="))
        elif len(texts) == 1:
            return convert(text)
        else:
            shown = ", ".join(map(repr, sections[:10])) + (", ..." if len(sections) > 10 else "")
            msg = (
                f"{option} {text}: must begin with SECTION=, where SECTION is one of {shown or 'none that are known'}. "
                "--library-key names the column of obs with the sections."
            )
            raise Refused(msg)
    return found


def check_genes(genes: Iterable[str], known: Iterable[str], *, option: str, where: str) -> list[str]:
    """Return names of genes, each once; refuse one that is not there."""
    names, there = list(dict.fromkeys(genes)), list(known)
    for gene in names:
        if gene not in set(there):
            msg = f"{option} {gene}: is not among the genes of {where}. {meant(gene, there, noun='gene')}"
            raise Refused(msg)
    return names


def check_there_in(adata: AnnData, slot: str, key: str, *, option: str, file: str) -> None:
    """Refuse a key that a slot of the AnnData does not have."""
    keys = [str(name) for name in getattr(adata, slot) if name is not None]
    if key not in keys:
        shown = ", ".join(keys[:10]) + (", ..." if len(keys) > 10 else "")
        msg = f"{option} {key}: {file} has no {slot}[{key!r}]; there is {shown or 'nothing'}."
        raise Refused(msg)
