"""Search for the reference spots that lie nearest to a query."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bleep_sc._blocks import InThreads, budget, one_after_another, threads
from bleep_sc._side_effects import one_thread, parallel_numba, python_random_state_kept

Watch = Callable[[Iterable[int]], Iterable[int]]

_KEY_BLOCK = 8192
"""Number of keys that are read at a time on a CPU; a GPU reads eight times as many."""
_QUERY_BLOCK, _COMPARED = 320, 512
"""The most queries and keys that a thread compares at a time: with their similarities they fit into a core's cache."""
_FEW_QUERIES, _BLOCKS = 16, 8
"""Fewer queries at a time take as long as these; so that cores have work, they are split into so many blocks or more.

The number of blocks does not follow from that of threads: products of few queries may differ in the last digit.
"""

_SHORT = 1e-12

_SECONDS_A_PRODUCT, _SECONDS_A_KEY, _SECONDS_A_QUERY = 1.8e-11, 1.3e-4, 2.7e-4
"""Time of a product of the exact search, and of a key and a query of pynndescent (`benchmarks/speed_search.py`)."""


def nearest(
    query: np.ndarray,
    keys: Any,
    k: int,
    *,
    leave_out: np.ndarray | None = None,
    device: torch.device | None = None,
    watch: Watch = iter,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k keys of highest cosine similarity, exactly, without the whole similarity matrix in memory.

    Parameters
    ----------
    query, keys
        Embeddings (n, d) and (m, d). Keys may be a dask array, which is read block by block, once.
    k
        Number of neighbours, at most m. Of equally similar keys those of the lowest row are taken. The same key at two
        places may differ in the last digit of its similarity, since products are rounded otherwise at a block's end.
    leave_out
        The one key that each query must not retrieve; -1 for none.
    device
        Device that compares them.
    watch
        Function that wraps the loop over blocks of keys, as a progress bar does.

    Returns
    -------
    Rows of the keys int32 (n, k), best first, and float32 (n, k) distances 1 - cosine, ascending.
    """
    device = device or torch.device("cpu")
    n, m = len(query), keys.shape[0]
    best = torch.full((n, k), -torch.inf, device=device)
    rows = torch.full((n, k), -1, dtype=torch.int32, device=device)
    banned = None if leave_out is None else torch.from_numpy(leave_out).to(device)
    n_queries, n_keys = block_of(device, n)
    blocks = [slice(first, first + n_queries) for first in range(0, n, n_queries)]
    unit_query = _unit(query, device)
    on_cpu = device.type == "cpu"
    keep = _keep_best_compiled if on_cpu else _keep_best

    def compare(unit_keys: Tensor, first_key: int, blocks_left: Iterator[slice], _: slice) -> None:
        for queries in blocks_left:
            for start, block in _compared_at_once(unit_keys, first_key):
                similarity = unit_query[queries] @ block.T
                if banned is not None:
                    banned_column = banned[queries] - start
                    in_block = (banned_column >= 0) & (banned_column < len(block))
                    similarity[in_block.nonzero().squeeze(1), banned_column[in_block]] = -torch.inf
                keep(similarity, start, best[queries], rows[queries])

    with _on_cores() if on_cpu else nullcontext(one_after_another) as in_threads:
        for read in watch(range(0, m, n_keys)):
            unit_keys = _unit(keys[read : read + n_keys], device)
            # threads share the blocks: one that other processes hold up leaves them to the others
            in_threads(partial(compare, unit_keys, read, iter(blocks)), len(blocks))
    return rows.cpu().numpy(), (1 - best).clamp(min=0).cpu().numpy()


def block_of(device: torch.device, n: int) -> tuple[int, int]:
    """Choose how many of n queries are compared, and how many keys are read, at a time.

    The similarities between them, and a copy of these, stay within the memory budget.
    """
    n_keys = _KEY_BLOCK if device.type == "cpu" else 8 * _KEY_BLOCK
    fitting = budget(2 * 4 * n_keys, parts=1)
    if device.type != "cpu":
        return fitting, n_keys
    n_blocks = max(_BLOCKS, -(-n // _QUERY_BLOCK))
    return min(fitting, max(_FEW_QUERIES, -(-n // n_blocks))), n_keys


@contextmanager
def _on_cores() -> Iterator[InThreads]:
    """Lend threads, in each of which torch computes on one."""
    with threads() as in_threads, one_thread():
        yield in_threads


def _unit(embedding: Any, device: torch.device) -> Tensor:
    """Scale the rows of an embedding to length 1. A row of zeros stays zeros."""
    rows = torch.from_numpy(np.asarray(embedding, dtype=np.float32)).to(device)
    length = rows.norm(dim=1, keepdim=True)
    odd = ((length < _SHORT) | ~length.isfinite()).squeeze(1)
    if odd.any():  # squares of so small or large numbers do not fit single precision
        rows = rows.clone()
        rows[odd] /= rows[odd].abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)
        length = rows.norm(dim=1, keepdim=True)
    return rows / length.clamp(min=_SHORT)


def _compared_at_once(block: Tensor, start: int) -> Iterator[tuple[int, Tensor]]:
    """Split a block of keys that begins at key `start` into parts, each with the number of its first key."""
    step = _COMPARED if block.device.type == "cpu" else len(block)
    return ((start + first, block[first : first + step]) for first in range(0, len(block), step))


def _keep_best_compiled(similarity: Tensor, start: int, best: Tensor, rows: Tensor) -> None:
    """Keep the best keys as `_keep_best` does, in one pass over the similarities."""
    from bleep_sc.models.search.compiled import keep_best

    keep_best(similarity.numpy(), start, best.numpy(), rows.numpy())


def _keep_best(similarity: Tensor, start: int, best: Tensor, rows: Tensor) -> None:
    """Bring values among the k largest of each row into `best` and `rows` (n, k), which are sorted, largest first.

    Column j of `similarity` is key `start + j`. Of equal values that of the earlier key comes first.
    """
    k, width = best.shape[1], similarity.shape[1]
    highest, columns = similarity.topk(min(k + 1, width), dim=1)
    tied = (highest[:, 1:] == highest[:, :-1]).any(1)  # the one after the last may tie too
    highest, columns = highest[:, :k], columns[:, :k]
    if tied.any():
        highest[tied], columns[tied] = _in_order(similarity[tied], highest.shape[1])
    values, order = torch.cat([best, highest], dim=1).sort(dim=1, descending=True, stable=True)
    merged = torch.cat([rows, (columns + start).int()], dim=1).gather(1, order)
    best[:], rows[:] = values[:, :k], merged[:, :k]


def _in_order(similarity: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find values and columns of the k largest of each row, largest first; of equal ones the first column is first."""
    least = similarity.topk(k, dim=1).values[:, -1:]
    more, equal = similarity > least, similarity == least
    room = k - more.sum(1, keepdim=True)
    chosen = more | (equal & (equal.cumsum(1) <= room))
    columns = chosen.nonzero()[:, 1].view(-1, k)
    values, order = similarity.gather(1, columns).sort(dim=1, descending=True, stable=True)
    return values, columns.gather(1, order)


def quicker_search(n_queries: int, n_keys: int, dim: int, device: torch.device) -> str:
    """Choose a search: ``"pynndescent"``, which misses some keys, only where it should take less than half as long."""
    exact = _SECONDS_A_PRODUCT * n_queries * n_keys * dim
    approximate = _SECONDS_A_KEY * n_keys + _SECONDS_A_QUERY * n_queries
    return "pynndescent" if device.type == "cpu" and exact > 2 * approximate else "exact"


def nearest_approximately(
    query: np.ndarray, keys: np.ndarray, k: int, *, leave_out: np.ndarray | None = None, random_state: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Find most of the k nearest keys with pynndescent. Arguments and result are those of `nearest`."""
    with python_random_state_kept():
        from pynndescent import NNDescent

    extra = 0 if leave_out is None else 1
    with parallel_numba():
        index = NNDescent(keys, metric="cosine", n_neighbors=max(30, k + extra), random_state=random_state)
        rows, distances = index.query(query, k=k + extra)
    if leave_out is not None:
        keep = rows != leave_out[:, None]
        # where the banned key was not found, the farthest one goes instead
        keep[keep.all(axis=1), -1] = False
        rows, distances = rows[keep].reshape(-1, k), distances[keep].reshape(-1, k)
    return rows.astype(np.int32), np.maximum(distances, 0).astype(np.float32)
