"""The record, beside a model, of the reference that it was fitted on: by it a changed reference is noticed.

It stays with the reference. A model that is written to a folder goes without it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bleep_sc._untrusted import REMEDY
from bleep_sc.io._calibration import ENTRIES as OF_CALIBRATION
from bleep_sc.io._novelty import NOVELTY
from bleep_sc.io._out_of_fold import OUT_OF_FOLD
from bleep_sc.io._stored import mapping_from, names_from

PLACED = "placed"
_MEASURED = "measured"
ENTRIES = (PLACED, _MEASURED, OUT_OF_FOLD, NOVELTY, *OF_CALIBRATION)
"""The entries of `uns[key]` that are no part of the model."""
_MAX_REMEMBERED = 1_000


@dataclass(frozen=True)
class Measured:
    """Some of the values that a model was fitted on."""

    spots: np.ndarray
    """Names of spots (n_spots,)."""
    genes: np.ndarray
    """Names of genes (n_genes,)."""
    values: np.ndarray
    """Values float32 (n_spots, n_genes)."""


@dataclass(frozen=True)
class ReferenceRecord:
    """The record of a reference: which rows the model placed, and some of the values that it was fitted on."""

    placed: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Fingerprints of the rows that were placed together, by a name that follows from them.

    `anndata.concat` joins such mappings name by name, so that all parts of a joined reference keep theirs.
    """
    measured: Measured | None = None

    @property
    def fingerprints(self) -> np.ndarray:
        """The fingerprints of all rows, uint64."""
        return np.concatenate([np.empty(0, dtype=np.uint64), *self.placed.values()])

    def to_uns(self) -> dict[str, Any]:
        """Turn the record into the entries of `uns[key]`, of what AnnData can write."""
        entries: dict[str, Any] = {PLACED: dict(self.placed)} if self.placed else {}
        if self.measured is not None:
            entries[_MEASURED] = {
                "spots": self.measured.spots.astype(object),
                "genes": self.measured.genes.astype(object),
                "values": self.measured.values,
            }
        return entries

    @classmethod
    def from_uns(cls, entry: Mapping[str, Any], *, where: str) -> "ReferenceRecord":
        """Read the record from `uns[key]`, whatever array type a reader made of its parts.

        Raises
        ------
        ValueError
            A part is not what it must be. The message names it.
        """
        placed = mapping_from(entry.get(PLACED, {}), where=f"`{where}[{PLACED!r}]`")
        return cls(
            {name: _fingerprints(values, f"`{where}[{PLACED!r}][{name!r}]`") for name, values in placed.items()},
            _measured(mapping_from(entry.get(_MEASURED, {}), where=f"`{where}[{_MEASURED!r}]`"), where),
        )


def _fingerprints(values: Any, where: str) -> np.ndarray:
    # a list of lists would make NumPy raise
    found = np.empty((0, 0)) if isinstance(values, list) else np.asarray(values)
    if found.dtype != np.uint64 or found.ndim != 1:
        msg = (
            f"{where} must be a one-dimensional uint64 array, found {type(values).__name__} of {found.dtype}. {REMEDY}"
        )
        raise ValueError(msg)
    return found


def _measured(parts: Mapping[str, Any], where: str) -> Measured | None:
    """Read remembered values; None where a part is missing, as after a concat of objects with unlike ones."""
    if not {"spots", "genes", "values"} <= set(parts):
        return None
    path = f"{where}[{_MEASURED!r}]"
    spots, genes = (names_from(parts[name], where=f"`{path}[{name!r}]`") for name in ("spots", "genes"))
    values = np.empty(0) if isinstance(parts["values"], list) else np.asarray(parts["values"])
    if (
        values.dtype != np.float32
        or values.shape != (len(spots), len(genes))
        or values.size > _MAX_REMEMBERED
        or not np.isfinite(values).all()
    ):
        msg = (
            f"`{path}['values']` must be finite float32 values of {len(spots)} spots and {len(genes)} genes, found "
            f"{type(parts['values']).__name__} of {values.dtype} and the shape {values.shape}. {REMEDY}"
        )
        raise ValueError(msg)
    return Measured(spots, genes, values)
