"""What stands on disk, or is made on demand: rows of a dask array, in parts that fit into memory."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from bleep_sc._settings import settings


def is_lazy(values: Any) -> bool:
    """Whether an array is dask's, as `read_lazy` and ``pp.crops(lazy=True)`` make them."""
    return hasattr(values, "dask")


class LazyRows:
    """A dask array of which rows are read where they are asked for, in the thread that asks.

    A task that asked dask itself would hand the reading back to the cluster that waits for the task.

    Parameters
    ----------
    array
        Rows first.
    check
        What is done with all that is read, such as to refuse it.
    """

    def __init__(self, array: Any, *, check: Callable[[Any], Any] | None = None) -> None:
        _check_not_persisted(array)
        self._array = array
        self._check = check
        self.shape: tuple[int, ...] = array.shape
        self.dtype: np.dtype = array.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Any:
        found = self._array[rows].compute(scheduler="synchronous")
        found = sparse.csr_matrix(found) if sparse.issparse(found) else np.asarray(found)
        if self._check is not None:
            self._check(found)
        return found

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Single rows of a dense array, in the order asked for; parts in which none lies are not read."""
        out = np.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        for part in self.parts():
            here = (rows >= part.start) & (rows < part.stop)
            if here.any():
                out[here] = self[part][rows[here] - part.start]
        return out

    def parts(self, *, most: int | None = None) -> list[slice]:
        """Rows to read at a time: a quarter of the memory budget, and at most `most`; whole chunks where these fit.

        How much a chunk of a sparse array holds is not known before it is read, so that each of them is a part.
        """
        n, chunks = self.shape[0], self._array.chunks[0]
        if sparse.issparse(self._array._meta):
            stops = np.cumsum(chunks).tolist()
            return [slice(stop - size, stop) for stop, size in zip(stops, chunks, strict=True) if size]
        width = max(1, int(np.prod(self.shape[1:]))) * self.dtype.itemsize
        step = max(1, int(settings.memory * 2**20 / 4 / width))
        step = min(step, most or step)
        if step > chunks[0] > 0:
            step -= step % chunks[0]
        return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def _check_not_persisted(array: Any) -> None:
    """What a cluster holds as results cannot be computed in one of its own tasks."""
    distributed = sys.modules.get("distributed")
    if distributed is not None and distributed.futures_of(array):
        msg = (
            f"a dask array {array.shape} was persisted on a cluster, so it cannot be read part by part. Pass it as it "
            "was before `.persist()`, or in memory after `.compute()`."
        )
        raise ValueError(msg)


def rows_of(array: Any) -> Any:
    """An array of numbers in memory as float32; a lazy one to read from."""
    return LazyRows(array) if is_lazy(array) else np.asarray(array, dtype=np.float32)


def rows_at(values: Any, rows: np.ndarray) -> np.ndarray:
    """Single rows, in memory."""
    return values.take(rows) if isinstance(values, LazyRows) else values[rows]


def with_frames(adata: AnnData) -> AnnData:
    """An AnnData with `obs` and `var` in memory, where `read_lazy` left them on disk; all arrays are the same ones."""
    if isinstance(adata.obs, pd.DataFrame) and isinstance(adata.var, pd.DataFrame):
        return adata
    obs, var = (frame if isinstance(frame, pd.DataFrame) else frame.to_memory() for frame in (adata.obs, adata.var))
    layers = {name: values for name, values in adata.layers.items() if name is not None}
    return AnnData(adata.X, obs=obs, var=var, uns=dict(adata.uns), obsm=dict(adata.obsm), layers=layers)
