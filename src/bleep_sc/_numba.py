"""What numba does to torch, which is to be undone."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def torch_threads_kept() -> Iterator[None]:
    """For calls, in a ``with`` block, of what numba may run in parallel.

    The first such loop of a process tells the OpenMP library how many threads to take from now on; torch shares that
    library, so it would no longer compute with the number that the user chose, nor the same last bits.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)
