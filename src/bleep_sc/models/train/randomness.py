"""Lend torch's random state, which all threads of a process share, to one thread at a time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import RLock

import torch

_ONE_AT_A_TIME = RLock()


@contextmanager
def borrowed_random_state(devices: Sequence[torch.device] = ()) -> Iterator[None]:
    """A ``with`` block that may draw from torch's random state and leaves it as it was; other threads wait.

    Dropout and the initial weights of layers have no random generator of their own. If two threads drew at once,
    neither would draw what its seed says.
    """
    with _ONE_AT_A_TIME, torch.random.fork_rng(devices=list(devices)):
        yield
