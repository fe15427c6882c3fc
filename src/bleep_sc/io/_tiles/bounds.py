"""The most that is read of another program's file, decided by what the file says of its size, before any of it is."""

from typing import Any

import numpy as np

MOST_BYTES = 2**35
"""The largest array that is read: more than two million tiles of the widest encoder there is take."""
_MOST_CHUNK = 2**28
"""The largest part that a file may pack together: to read one value of it, all of it is unpacked."""


def check_bounds(shape: tuple[int, ...], dtype: np.dtype, chunks: tuple[int, ...] | None, *, path: str) -> None:
    """Refuse an array that is larger than any slide's, or whose parts are too large to be unpacked one by one."""
    n_bytes, of_chunk = (_n_bytes(shape, dtype), _n_bytes(chunks or (), dtype))
    if n_bytes > MOST_BYTES:
        msg = (
            f"{path} is said to be {shape} {dtype}, {n_bytes / 2**30:.3g} GiB; at most {MOST_BYTES / 2**30:.0f} GiB "
            "are read. The file is damaged, or holds several slides: write a file for each."
        )
        raise ValueError(msg)
    if of_chunk > max(_MOST_CHUNK, n_bytes):
        msg = (
            f"{path} is {shape}, and packed in parts of {chunks}, {of_chunk / 2**30:.3g} GiB each: that is no file of "
            "a slide. Write it again."
        )
        raise ValueError(msg)


def check_numbers(dtype: Any, *, path: str, expected: str) -> None:
    """Refuse values that are no real numbers: text, records, complex numbers, or references to anything else."""
    kind = getattr(dtype, "kind", "O")
    if kind not in "fiu" or dtype.itemsize > 8:
        msg = f"{path} must hold numbers, {expected}; found {'text' if kind in 'SU' else dtype}."
        raise ValueError(msg)


def _n_bytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    n_bytes = dtype.itemsize  # of Python's own integers, which never overflow
    for length in shape:
        n_bytes *= int(length)
    return n_bytes
