"""Other packages' first import, which is to leave nothing behind."""

import random
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def python_random_state_kept() -> Iterator[None]:
    """For the import, in a ``with`` block, of what draws from Python's global random state when it is imported."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)
