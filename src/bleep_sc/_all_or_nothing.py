"""Write results into the user's object all together or not at all, however a call ends."""

import warnings
from collections.abc import Mapping, MutableMapping
from contextlib import ExitStack
from typing import Any

import pandas as pd
from anndata import AnnData


class AllOrNothing(ExitStack):
    """A ``with`` block that takes back what was done in it if anything ends it early, Ctrl-C too.

    It is a class, not a generator. Ctrl-C can come between a generator's first half and its block. The second half
    would then run when the traceback is forgotten, in the midst of the user's later work.
    """

    def keep(self, adata: AnnData) -> None:
        """Put the fields of an object back as they are now, if the block ends early.

        Whole fields are put back, not values that are changed within an array.
        """
        for axis in ("obs", "var"):
            frame = getattr(adata, axis)
            if isinstance(frame, pd.DataFrame):
                self.callback(_put_back, adata, axis, frame.copy(deep=False))
        mappings: tuple[MutableMapping[Any, Any], ...] = (adata.obsm, adata.layers, adata.uns)
        for mapping in mappings:
            # newer versions of anndata keep `X` as the layer None
            self.callback(_restore, mapping, {key: mapping[key] for key in mapping if key is not None})

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> Any:
        if kind is None:
            self.pop_all()
        return super().__exit__(kind, error, traceback)


def all_or_nothing(adata: AnnData) -> AllOrNothing:
    """Return a ``with`` block in which several fields of an object are written all together or not at all."""
    undo = AllOrNothing()
    undo.keep(adata)
    return undo


def set_or_delete(fields: "MutableMapping[str, Any] | pd.DataFrame", values: Mapping[str, Any]) -> None:
    """Write each value that is not None; where it is None, delete an earlier result of that name: it would mislead."""
    for key, value in values.items():
        if value is not None:
            fields[key] = value
        elif key in fields:
            del fields[key]


def _put_back(adata: AnnData, axis: str, frame: pd.DataFrame) -> None:
    """Put another data frame in place: one that was interrupted while it took a column in is of no use any more."""
    with warnings.catch_warnings(action="ignore"):  # of names that are no text, which the user knows of
        setattr(adata, axis, frame)


def _restore(mapping: MutableMapping[Any, Any], before: dict[str, Any]) -> None:
    """Make a mapping hold what it held before; entries that did not change are not touched."""
    for key in [key for key in mapping if key is not None and key not in before]:
        del mapping[key]
    for key, value in before.items():
        if mapping.get(key) is not value:
            mapping[key] = value
