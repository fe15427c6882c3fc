"""Writes a result too large for memory, chunk by chunk, into a zarr store that is there whole or not at all."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any
from uuid import uuid4

import anndata as ad
import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._all_or_nothing import AllOrNothing
from bleep_sc._blocks import LazyRows, budget, is_lazy, over_parts
from bleep_sc.methods.prediction import Imputation, Imputed

_GENES_OF_A_CHUNK = 256
"""The number of genes in a chunk on disk: a reader of one gene need not read all genes.

`evaluate` reads so many at a time, of all spots of a section.
"""

_INPUTS = "inputs"
"""The group of the store that holds the inputs while it is made: each worker reads its own chunk of them alone."""


def check_store(store: str | PathLike[str], *, measured: str | None = None) -> Path:
    """Check a path for a new store: nothing may be there yet, and its parent folder must exist.

    Measured spots cannot correct what goes into a store.
    """
    if measured is not None:
        msg = (
            f"`measured={measured!r}` corrects whole sections at once, and `store` writes the layer chunk by chunk. "
            "Leave one of the two out; sections can be imputed one after another."
        )
        raise ValueError(msg)
    if not isinstance(store, str | PathLike):
        msg = f"`store` must be a path such as 'imputed.zarr', found {type(store).__name__}."
        raise TypeError(msg)
    path = Path(store).absolute()  # workers may stand in another folder
    if path.exists():
        msg = f"`store={str(store)!r}`: there is something already, which is never overwritten. Name another path."
        raise FileExistsError(msg)
    if not path.parent.is_dir():
        msg = f"`store={str(store)!r}`: the folder {str(path.parent)!r} does not exist. Make it first."
        raise FileNotFoundError(msg)
    return path


def impute_to_store(
    path: Path, query: AnnData, imputation: Imputation, *, name: str, progress_bar: bool, undo: AllOrNothing
) -> Imputed:
    """Impute chunk by chunk into a new store, an AnnData with all that is known of the imputation.

    `undo` removes the store again, should the query not get its result.

    Returns
    -------
    The layer as a dask array on the store, and neighbours and distances in memory.
    """
    import dask.array as da
    import zarr

    slots = {"expression": _Slot(f"layers/{name}", query.n_vars, np.float32)}
    if imputation.k:
        slots["rows"] = _Slot(f"obsm/{_keys.neighbors(name)}", imputation.k, np.int32)
        slots["distances"] = _Slot(f"obsm/{_keys.distances(name)}", imputation.k, np.float32)
    chunks = _chunks(query, imputation)
    n = chunks[0].stop
    with _whole_or_not_at_all(path, undo) as folder:
        # which all versions of anndata read and write without a warning
        root = zarr.open_group(folder, mode="w-", zarr_format=2)
        ad.io.write_elem(root, "/", _frame(query, imputation, name))
        inputs = {argument: _on_disk(root, argument, rows, n) for argument, rows in imputation.inputs.items()}
        targets = {field: slot.make(root, query.n_obs, n) for field, slot in slots.items()}
        job = _Chunk(folder, imputation.quiet or imputation.impute, inputs, targets)
        over_parts(job, chunks, desc="Imputing", show=progress_bar)
        if _INPUTS in root:
            del root[_INPUTS]
        zarr.consolidate_metadata(root.store)
    stored: Any = zarr.open_group(path, mode="r")
    arrays = {field: stored[slot.place] for field, slot in slots.items()}
    return Imputed(da.from_zarr(arrays.pop("expression")), **{field: array[:] for field, array in arrays.items()})


@dataclass(frozen=True)
class _Slot:
    """The array of the store that a field of `Imputed` is written to."""

    place: str
    width: int
    dtype: type

    def make(self, root: Any, n_obs: int, n: int) -> Any:
        """Create the empty array, in chunks of n spots."""
        chunks = (n, min(self.width, _GENES_OF_A_CHUNK))
        array = root.create_array(self.place, shape=(n_obs, self.width), chunks=chunks, dtype=self.dtype)
        array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})  # as anndata marks its own
        return array


@dataclass(frozen=True)
class _Chunk:
    """A job that imputes a chunk of spots and writes it into the store."""

    folder: Path
    impute: Callable[..., Imputed]
    inputs: dict[str, Any]
    targets: dict[str, Any]
    """The arrays to write to, by field of `Imputed`."""

    def __call__(self, chunk: slice) -> None:
        imputed = self.impute(**{argument: rows[chunk] for argument, rows in self.inputs.items()})
        if not self.folder.exists():  # another chunk failed: do not bring back what was removed
            return
        for field, target in self.targets.items():
            target[chunk] = getattr(imputed, field)


@contextmanager
def _whole_or_not_at_all(path: Path, undo: AllOrNothing) -> Iterator[Path]:
    """Lend a folder beside `path`, which takes that name when all has gone well and is removed when not."""
    folder = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        yield folder
        undo.callback(_remove_if, path, folder.stat())
        folder.rename(path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _remove_if(path: Path, ours: os.stat_result) -> None:
    """Remove the store at a path, unless another one has taken the name since."""
    with suppress(FileNotFoundError):
        if os.path.samestat(path.stat(), ours):
            shutil.rmtree(path, ignore_errors=True)


def _frame(query: AnnData, imputation: Imputation, name: str) -> AnnData:
    """Make the AnnData of the store, without what is predicted."""
    obsm: dict[str, Any] = {key: np.asarray(query.obsm[key]) for key in (_keys.SPATIAL,) if key in query.obsm}
    if imputation.embedding is not None:
        obsm[_keys.image_embedding(name)] = imputation.embedding
    obs: pd.DataFrame = query.obs  # with_frames has seen to it
    obs = obs.drop(columns=_keys.reliability(name), errors="ignore")
    if imputation.reliability is not None:
        obs[_keys.reliability(name)] = imputation.reliability
    uns = {key: query.uns[key] for key in (_keys.SPATIAL,) if key in query.uns}
    return AnnData(obs=obs, var=query.var, obsm=obsm, uns=uns | {name: imputation.provenance})


def _chunks(query: AnnData, imputation: Imputation) -> list[slice]:
    """Divide the spots into chunks whose layer, or widest input, fills half of the memory budget."""
    of_a_spot = [4 * max(query.n_vars, imputation.n_genes)]
    of_a_spot += [int(np.prod(rows.shape[1:])) * rows.dtype.itemsize for rows in imputation.inputs.values()]
    step = budget(max(of_a_spot), parts=2)
    return [slice(start, min(start + step, query.n_obs)) for start in range(0, query.n_obs, step)]


def _on_disk(root: Any, argument: str, rows: Any, n: int) -> Any:
    if is_lazy(rows):
        return LazyRows(rows)
    chunks = (n, *(max(1, size) for size in rows.shape[1:]))  # a method that reads nothing has inputs of no width
    return root.require_group(_INPUTS).create_array(argument, data=rows, chunks=chunks)
