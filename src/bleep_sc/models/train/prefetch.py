"""Make the next batch ready on the CPU while a GPU computes on the one before."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import torch


class Pinnable(Protocol):
    """A tensor, or a batch of them."""

    def pin_memory(self: "P") -> "P":
        """Return the same in memory that a GPU copies from by itself, while the CPU goes on."""


T = TypeVar("T")
P = TypeVar("P", bound=Pinnable)


def feed(items: Iterable[P], n: int, device: torch.device) -> Iterator[P]:
    """Yield n items in order: for a GPU pinned, and made one ahead by a thread; for a CPU as they come."""
    return prefetch((item.pin_memory() for item in items), n) if device.type == "cuda" else iter(items)


def prefetch(items: Iterable[T], n: int) -> Iterator[T]:
    """Yield the first n items in order, each made by a background thread while the one before is in use.

    An error in making an item is raised where the item would have been yielded. The thread has ended by the time the
    last item is out, or the iterator is closed.
    """
    source = iter(items)
    if n == 0:
        return
    with ThreadPoolExecutor(1, thread_name_prefix="bleep_sc-prefetch") as thread:
        coming = thread.submit(next, source)
        for _ in range(n - 1):
            item = coming.result()
            coming = thread.submit(next, source)
            yield item
        item = coming.result()
    yield item
