"""Read a stranger's HDF5 file: arrays of numbers and names at its root, within bounds; no link is followed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bleep_sc._blocks import budget
from bleep_sc._checks import MissingKeyError
from bleep_sc._progress import progress
from bleep_sc.io._tiles.bounds import check_bounds, check_numbers
from bleep_sc.pp._images.open import existing_path

if TYPE_CHECKING:
    import h5py

_LONGEST = 200
"""Characters of a text that is read from an attribute; what is longer is no name."""
_SHOWN = 12
_ROWS_AT_ONCE = 20_000
"""All these programs store each row apart, and so many take a second or two, however short they are."""
_MOST_PACKED = 1100
"""No file is packed further than that: deflate makes at most 1,032 bytes of one."""


@contextmanager
def open_hdf5(path: Any) -> Iterator["HDF5"]:
    """Open a file to read; whatever its bytes make the library raise becomes one error that names it.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is no HDF5 file, or a damaged one.
    """
    import h5py

    found = existing_path(path)
    if found is None or found.is_dir():
        folder = "" if found is None else " It is a folder: pass one of the files in it, for each slide its own."
        msg = f"`path`: there is no file {str(path)[:500]!r}.{folder}"
        raise FileNotFoundError(msg)
    try:
        if not h5py.is_hdf5(found):
            msg = "it does not begin as one"
            raise OSError(msg)
        file = h5py.File(found, "r")
    except OSError as err:
        msg = (
            f"`path`: {str(path)!r} could not be opened as an HDF5 file ({err}). It is another kind of file, or was "
            "cut short when it was copied: copy it again, or write it again."
        )
        raise ValueError(msg) from err
    with file:
        yield HDF5(file, found)


@dataclass(frozen=True)
class Numbers:
    """An array of numbers that may be read."""

    name: str
    array: "h5py.Dataset"
    shape: tuple[int, ...]
    """Its shape, without an axis of length 1 that comes first."""
    dtype: np.dtype


@dataclass(frozen=True)
class HDF5:
    """An open file."""

    file: "h5py.File"
    path: Path

    def named(self, name: str) -> str:
        """Name an array for messages."""
        return f"`{name}` in {self.path.name!r}"

    def __contains__(self, name: str) -> bool:
        """Tell whether something stands at a name; a link is not followed."""
        with self._reading(name):
            return self.file.get(name, getlink=True) is not None

    def array(self, name: str) -> "h5py.Dataset":
        """Return an array that lies in this very file; nothing of it is read yet."""
        import h5py

        if name not in self:
            with self._reading(name):
                held = sorted(map(str, self.file))
            shown = ", ".join(map(repr, held[:_SHOWN])) + (", ..." if len(held) > _SHOWN else "")
            msg = f"{self.path.name!r} has no `{name}`; it holds {shown or 'nothing'}."
            raise MissingKeyError(msg)
        with self._reading(name):
            found: Any = self.file[name] if isinstance(self.file.get(name, getlink=True), h5py.HardLink) else None
            is_array = isinstance(found, h5py.Dataset)
            elsewhere = is_array and bool(found.is_virtual or found.external)
        if not is_array:
            kind = "a link to somewhere else" if found is None else "no array"
            msg = f"{self.named(name)} is {kind}: an array that lies in the file itself is expected."
            raise ValueError(msg)
        if elsewhere:
            msg = f"{self.named(name)} keeps its values in another file. Write them into this one."
            raise ValueError(msg)
        return found

    def numbers(self, name: str, *, ndim: int, expected: str) -> "Numbers":
        """Find an array of numbers that is small enough to be read. One more axis, of length 1, may come first."""
        array = self.array(name)
        with self._reading(name):
            shape, dtype, chunks, n_written = array.shape, array.dtype, array.chunks, array.id.get_storage_size()
        check_numbers(dtype, path=self.named(name), expected=expected)
        if shape is None or len(shape) not in (ndim, ndim + 1) or (len(shape) > ndim and shape[0] != 1):
            msg = f"{self.named(name)} must have the shape {expected}; found {shape}."
            raise ValueError(msg)
        check_bounds(shape, dtype, chunks, path=self.named(name))
        if np.prod(shape, dtype=float) * dtype.itemsize > _MOST_PACKED * n_written:
            msg = (
                f"{self.named(name)} is said to be {shape}, and takes only {n_written} bytes of the file: most of it "
                "was never written. Write it again."
            )
            raise ValueError(msg)
        return Numbers(name, array, shape[-ndim:], dtype)

    def names(self, name: str) -> list[str]:
        """Read an array of texts, (n,) or (n, 1)."""
        import h5py

        array = self.array(name)
        with self._reading(name):
            shape, dtype, chunks = array.shape, array.dtype, array.chunks
            is_text = dtype.kind == "S" or h5py.check_string_dtype(dtype) is not None
        if not is_text or shape is None or len(shape) not in (1, 2) or shape[1:] not in ((), (1,)):
            msg = f"{self.named(name)} must hold names, (n,) or (n, 1); found {dtype} {shape}."
            raise ValueError(msg)
        check_bounds(shape, dtype, chunks, path=self.named(name))
        with self._reading(name):
            values = array[()].ravel().tolist()
            return [value.decode() if isinstance(value, bytes) else str(value) for value in values]

    def read(self, numbers: "Numbers", dtype: Any, *, show: bool | None) -> np.ndarray:
        """Read checked numbers, portion by portion."""
        shape, lead = numbers.shape, (0,) * (numbers.array.ndim - len(numbers.shape))
        out = np.empty(shape, dtype=dtype)
        step = min(_ROWS_AT_ONCE, budget(numbers.dtype.itemsize * max(1, int(np.prod(shape[1:])))))
        starts = range(0, shape[0], step)
        shown = show if len(starts) > 1 else False
        with self._reading(numbers.name), np.errstate(over="ignore"):
            for start in progress(starts, desc=f"Reading {numbers.name}", total=len(starts), show=shown):
                out[start : start + step] = numbers.array[(*lead, slice(start, start + step))]
        return out

    def attributes(self, *names: str) -> dict[str, float | str]:
        """Read the single numbers and short texts that stand beside arrays; an earlier array's go first."""
        found: dict[str, float | str] = {}
        for name in names:
            if name in self:
                array = self.array(name)
                with self._reading(name):
                    values = {str(key): _attribute(array.attrs, key) for key in array.attrs}
                found = {key: value for key, value in values.items() if value is not None} | found
        return found

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as err:
            msg = f"{self.named(name)} could not be read ({err}): the file is damaged. Copy or write it again."
            raise ValueError(msg) from err


def _attribute(attributes: "h5py.AttributeManager", key: str) -> float | str | None:
    """Read a single number, one of x and y each where both say the same, or a short text; None for all else."""
    import h5py

    entry = attributes.get_id(key)
    is_text = entry.dtype.kind in "SU" or h5py.check_string_dtype(entry.dtype) is not None
    if entry.shape not in ((), (1,), *(() if is_text else ((2,),))) or not (is_text or entry.dtype.kind in "fiu"):
        return None
    values = np.asarray(attributes[key]).reshape(-1)
    if not is_text:
        return float(values[0]) if np.allclose(values, values[0], rtol=0.01) else None
    value: Any = values[0]
    text = value.decode() if isinstance(value, bytes) else str(value)
    return text if len(text) <= _LONGEST else None
