"""Undo what other packages do to a whole process: random numbers drawn by imports, threads set by numba."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

_ONE_AT_A_TIME = RLock()


@contextmanager
def python_random_state_kept() -> Iterator[None]:
    """A ``with`` block for imports that draw from Python's global random state; it puts the state back."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


@contextmanager
def parallel_numba() -> Iterator[None]:
    """A ``with`` block that one thread enters at a time, and that leaves torch's number of threads as it was.

    The first parallel loop of a process tells the OpenMP library how many threads to take from then on. Torch shares
    that library, and would no longer compute with as many as the user chose, nor the same last bits. Where numba has
    neither OpenMP nor TBB, two threads in its loops at once end the process.
    """
    with _ONE_AT_A_TIME:
        torch = sys.modules.get("torch")
        before = torch and torch.get_num_threads()
        try:
            yield
        finally:
            if torch and torch.get_num_threads() != before:
                torch.set_num_threads(before)
