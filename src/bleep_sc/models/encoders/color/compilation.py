"""How the loops of this package are compiled."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numba


def compiled(function: Callable[..., Any] | None = None, *, sums_in_any_order: bool = False) -> Any:
    """Compile a function by numba, to run without Python's lock, and keep the machine code for later processes.

    Without a folder that can be written to, as in a container that is read-only, each process compiles anew. A compiled
    function calls others of its own file at most: numba would not see that another file has changed.

    Parameters
    ----------
    sums_in_any_order
        Let a sum be added up in several parts at once, which is several times as quick. Its last bits may then differ
        from one kind of processor to another.
    """
    if function is None:
        return partial(compiled, sums_in_any_order=sums_in_any_order)
    options: dict[str, Any] = {"nogil": True, "fastmath": {"reassoc"} if sums_in_any_order else False}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no folder
        return numba.njit(**options)(function)
