"""Random numbers of torch's, whose state all threads of a process share."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import Any

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


def own_generator(device: torch.device) -> torch.Generator:
    """Make a generator that draws what torch's random state would draw next on a device."""
    generator = torch.Generator(device)
    generator.set_state(shared_state(device.type).get_rng_state())
    return generator


def shared_state(device_type: str) -> Any:
    """Return the module of torch that has the random state of a type of device."""
    return torch if device_type == "cpu" else getattr(torch, device_type)
