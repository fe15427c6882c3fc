"""Keeps what computes with torch to the cores that this process may use."""

from collections.abc import Iterator
from contextlib import contextmanager

from bleep_sc import _side_effects


@contextmanager
def on_allowed_cores() -> Iterator[None]:
    """A ``with`` block, or a decorator, like that of the ground floor, for functions that import torch when called."""
    if _side_effects.allowed().why:
        import torch  # noqa: F401 - its number of threads is set from here on
    with _side_effects.on_allowed_cores():
        yield
