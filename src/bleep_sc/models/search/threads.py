from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

InThreads = Callable[[Callable[[slice], None], int], None]
"""Function that does work on n rows in parts, each in a thread, and returns when all parts are done."""


@contextmanager
def threads() -> Iterator[InThreads]:
    """Lend as many threads as torch has, the calling one among them, to code that releases Python's lock.

    The threads wait for the next work until the ``with`` block ends. To start one takes a millisecond, often as long as
    the work itself.
    """
    n_threads = torch.get_num_threads()
    # by the look at it a new thread takes the number that was set last, as `one_thread` does
    with ThreadPoolExecutor(max(1, n_threads - 1), initializer=torch.get_num_threads) as pool:

        def in_threads(work: Callable[[slice], None], n: int) -> None:
            n_parts = max(1, min(n_threads, n))
            own_part, *parts = (slice(n * i // n_parts, n * (i + 1) // n_parts) for i in range(n_parts))
            started = [pool.submit(work, part) for part in parts]
            work(own_part)
            for task in started:
                task.result()

        yield in_threads
