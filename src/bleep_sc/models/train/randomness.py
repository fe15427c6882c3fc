"""Torch's random state, which all threads of a process share, lent to one of them at a time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import RLock

import torch

_ONE_AT_A_TIME = RLock()


@contextmanager
def borrowed_random_state(devices: Sequence[torch.device] = ()) -> Iterator[None]:
    """Draw from it for the length of a ``with`` block, and leave it as it was; other threads wait for their turn.

    Dropout and the first weights of layers have no generator of their own: with two threads at it, neither would draw
    what its seed says.
    """
    with _ONE_AT_A_TIME, torch.random.fork_rng(devices=list(devices)):
        yield
