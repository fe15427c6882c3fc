"""Take rows in portions that fit into memory: from memory, from disk or made on demand; in threads or on a cluster."""

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import reduce
from typing import Any

import numpy as np
from scipy import sparse

from bleep_sc._progress import progress
from bleep_sc._settings import settings
from bleep_sc._side_effects import allowed

_AT_ONCE = 8

InThreads = Callable[[Callable[[slice], None], int], None]
"""Function that does work on n items in parts, and returns when all are done; `threads` lends one."""


def budget(item_bytes: float, *, parts: int = 4) -> int:
    """Number of items of so many bytes that fill one of `parts` equal parts of ``settings.memory``; at least one."""
    return max(1, int(settings.memory * 2**20 / parts / max(1, item_bytes)))


def row_blocks(values: Any) -> Iterator[slice]:
    """Split the rows of an array into parts, so that some float64 copies of a part stay within the memory budget."""
    n, width = values.shape[0], max(1, int(np.prod(values.shape[1:])))
    step = budget(8 * width)
    return (slice(start, start + step) for start in range(0, n, step))


def dense(values: Any) -> np.ndarray:
    """Return values in memory as a NumPy array, be they dense or sparse."""
    return np.asarray(values.toarray() if sparse.issparse(values) else values)


def one_after_another(work: Callable[[slice], None], n: int) -> None:
    """Do work on n items in this thread."""
    work(slice(0, n))


@contextmanager
def threads() -> Iterator[InThreads]:
    """Lend as many threads as torch has, the calling one among them, to code that releases Python's lock.

    Where torch is not loaded, they are as many as the cores that this process may use. The threads wait for the next
    work until the ``with`` block ends. To start one takes a millisecond, often as long as the work itself.
    """
    torch = sys.modules.get("torch")
    n_threads = torch.get_num_threads() if torch else allowed().number
    # by the look at it a new thread takes the number that was set last, as `one_thread` does
    look = torch.get_num_threads if torch else None
    with ThreadPoolExecutor(max(1, n_threads - 1), initializer=look) as pool:

        def in_threads(work: Callable[[slice], None], n: int) -> None:
            n_parts = max(1, min(n_threads, n))
            own_part, *parts = (slice(n * i // n_parts, n * (i + 1) // n_parts) for i in range(n_parts))
            started = [pool.submit(work, part) for part in parts]
            work(own_part)
            for task in started:
                task.result()

        yield in_threads


def is_lazy(values: Any) -> bool:
    """Whether an array is a dask array, as `read_lazy` and ``pp.crops(lazy=True)`` make them."""
    return hasattr(values, "dask")


class LazyColumns:
    """Some rows of a dask array whose columns are read where they are asked for: ``columns[:, part]``.

    Parameters
    ----------
    array
        A dask array (n, n_columns) of numbers.
    rows
        Rows that are wanted, in the order wanted. The chunks from the first to the last of them are read.
    check
        Function that is called with everything that is read, for example to refuse it.
    """

    def __init__(self, array: Any, rows: np.ndarray, *, check: Callable[[Any], Any]) -> None:
        self._start = int(rows.min())
        self._array = array[self._start : int(rows.max()) + 1]
        self._rows = rows - self._start
        self._check = check
        self.shape = (len(rows), array.shape[1])
        self.dtype: np.dtype = array.dtype

    def __getitem__(self, key: tuple[slice, Any]) -> np.ndarray:
        values = np.asarray(self._array[key].compute())[self._rows]
        self._check(values)
        return values

    def parts(self) -> list[slice]:
        """Split the columns into parts to read at a time: each as wide as a chunk."""
        stops = np.cumsum(self._array.chunks[1]).tolist()
        return [slice(start, stop) for start, stop in zip([0, *stops], stops, strict=False)]


class LazyRows:
    """A dask array whose rows are read where they are asked for, in the thread that asks.

    A task that asked dask itself would hand the reading back to the cluster that waits for the task.

    Parameters
    ----------
    array
        A dask array whose first axis is the rows.
    check
        Function that is called with everything that is read, for example to refuse it.
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
        values = self._array[rows].compute(scheduler="synchronous")
        values = sparse.csr_matrix(values) if sparse.issparse(values) else np.asarray(values)
        if self._check is not None:
            self._check(values)
        return values

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Read single rows of a dense array, in the order asked for; parts without any of them are not read."""
        out = np.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        for part in self.parts():
            in_part = (rows >= part.start) & (rows < part.stop)
            if in_part.any():
                out[in_part] = self[part][rows[in_part] - part.start]
        return out

    def parts(self, *, most: int | None = None) -> list[slice]:
        """Split the rows into parts to read at a time: a quarter of the memory budget, and at most `most` rows.

        Parts are whole chunks where these fit. How much a chunk of a sparse array holds is not known before it is read,
        so each of these is a part.
        """
        n, chunks = self.shape[0], self._array.chunks[0]
        if sparse.issparse(self._array._meta):
            stops = np.cumsum(chunks).tolist()
            return [slice(stop - size, stop) for stop, size in zip(stops, chunks, strict=True) if size]
        width = max(1, int(np.prod(self.shape[1:]))) * self.dtype.itemsize
        step = budget(width)
        step = min(step, most or step)
        if step > chunks[0] > 0:
            step -= step % chunks[0]
        return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def _check_not_persisted(array: Any) -> None:
    """Refuse an array that was persisted: results that a cluster holds cannot be read in one of its own tasks."""
    distributed = sys.modules.get("distributed")
    if distributed is not None and distributed.futures_of(array):
        msg = (
            f"a dask array {array.shape} was persisted on a cluster, so it cannot be read part by part. Pass it as it "
            "was before `.persist()`, or in memory after `.compute()`."
        )
        raise ValueError(msg)


def rows_of(array: Any) -> Any:
    """Return an array in memory as float32, and a lazy one as `LazyRows`."""
    return LazyRows(array) if is_lazy(array) else np.asarray(array, dtype=np.float32)


def rows_at(values: Any, rows: np.ndarray) -> np.ndarray:
    """Take single rows into memory."""
    return values.take(rows) if isinstance(values, LazyRows) else values[rows]


def has_scheduler() -> bool:
    """Whether the user has started a cluster, or set a scheduler in dask's configuration."""
    from dask.base import get_scheduler

    return get_scheduler() is not None


def over_parts(
    job: Callable[[Any], Any],
    parts: Sequence[Any],
    *,
    combine: Callable[[Any, Any], Any] | None = None,
    desc: str = "Parts",
    show: bool = False,
) -> list[Any]:
    """Do a job on each part, one after another where the user has started no scheduler.

    Parameters
    ----------
    job
        Function to call. It is sent to each worker of a cluster once, with all that it holds.
    parts
        Arguments that the job is called with, one after the other.
    combine
        Function that makes one result of two, on the workers. The list of results then holds that one.
    desc, show
        Text of a progress bar, and whether to show it. Only without a scheduler: those have bars and pages of their
        own.
    """
    if not has_scheduler():
        results = [job(part) for part in progress(parts, desc=desc, show=show and len(parts) > 1)]
        return results if combine is None else [reduce(combine, results)]

    import dask
    from dask.base import get_scheduler

    scheduler = get_scheduler()
    client = getattr(scheduler, "__self__", None)
    if client is None:
        shared = dask.delayed(job, pure=False, traverse=False)
    else:  # in the graph it would travel through the scheduler, and again with each task
        shared = client.scatter(job, broadcast=True, hash=False)
    run, merge = dask.delayed(_run_job, pure=False), dask.delayed(_combined, pure=False)
    tasks = [run(shared, part, settings.memory) for part in parts]
    while combine is not None and len(tasks) > 1:
        tasks = [merge(combine, tasks[i : i + _AT_ONCE]) for i in range(0, len(tasks), _AT_ONCE)]
    return list(dask.compute(*tasks, scheduler=scheduler))


def _run_job(job: Callable[[Any], Any], part: Any, memory: float) -> Any:
    with settings.override(memory=memory):  # a worker begins with the default
        return job(part)


def _combined(combine: Callable[[Any, Any], Any], results: list[Any]) -> Any:
    return reduce(combine, results)
