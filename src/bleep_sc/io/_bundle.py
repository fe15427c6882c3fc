"""Arrays with a record, as the bytes of one safetensors file: what is learned beside a model is stored so.

One array of bytes goes through AnnData, zarr and files unchanged, and is checked at one place when it is read.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bleep_sc._untrusted import REMEDY, parse_json, tensors_in

_RECORD = "record"
_MAX_RECORD = 2**20
_TYPES = {"float16": "F16", "float32": "F32", "float64": "F64", "int32": "I32", "int64": "I64", "uint8": "U8"}


@dataclass(frozen=True)
class Part:
    """What an array of a bundle must be."""

    dtype: str
    """Type of its values, as NumPy names it."""
    shape: tuple[str | int, ...]
    """Size of each axis: a number, or a name that stands for the same size wherever it occurs in the bundle."""
    finite: bool = True
    """Whether infinity is refused; NaN always is."""


def pack(arrays: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> np.ndarray:
    """Write arrays and a record of plain types as uint8 (n_bytes,)."""
    from safetensors.numpy import save

    text = np.frombuffer(json.dumps(record, allow_nan=False).encode(), dtype=np.uint8)
    tensors = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    return np.frombuffer(save({**tensors, _RECORD: text}), dtype=np.uint8).copy()


def unpack(stored: Any, parts: Mapping[str, Part], *, where: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read the arrays of a bundle, and its record.

    `stored` may come from a stranger. Memory is taken only once all arrays are known to be what `parts` says.

    Raises
    ------
    ValueError
        The bytes are no bundle, or hold other arrays. The message names `where` they stand, and the array.
    """
    from safetensors.numpy import load

    # a list of lists would make NumPy raise
    values = np.empty((0, 0)) if isinstance(stored, list) else np.asarray(stored)
    if values.dtype != np.uint8 or values.ndim != 1:
        msg = f"{where} must be bytes, a one-dimensional uint8 array; found {type(stored).__name__}. {REMEDY}"
        raise ValueError(msg)
    data = values.tobytes()
    found = tensors_in(data, where=where)
    sizes: dict[str, int] = {}
    for name, part in {**parts, _RECORD: Part("uint8", ("characters",))}.items():
        facts = found.get(name)
        fits = facts is not None and facts.dtype == _TYPES[part.dtype] and len(facts.shape) == len(part.shape)
        if fits and facts is not None:
            fits = all(
                size == (sizes.setdefault(axis, size) if isinstance(axis, str) else axis)
                for size, axis in zip(facts.shape, part.shape, strict=True)
            )
        if not fits:
            expected = f"{part.dtype} ({', '.join(map(str, part.shape))})"
            msg = f"{where}: `{name}` must be {expected}, found {facts}, so it is damaged. {REMEDY}"
            raise ValueError(msg)
    if unknown := set(found) - set(parts) - {_RECORD}:
        msg = f"{where} holds the unknown array {min(unknown)[:50]!r}, so it is damaged. {REMEDY}"
        raise ValueError(msg)
    arrays = load(data)
    record = _record(arrays.pop(_RECORD).tobytes(), where)
    for name, part in parts.items():
        if np.isnan(arrays[name]).any() or (part.finite and not np.isfinite(arrays[name]).all()):
            msg = f"{where}: `{name}` holds NaN or infinite values, so it is damaged. {REMEDY}"
            raise ValueError(msg)
    return arrays, record


def names_to_bytes(names: Iterable[str]) -> np.ndarray:
    """Write names as uint8, each ended by a zero, which no name holds."""
    return np.frombuffer("".join(f"{name}\0" for name in names).encode(), dtype=np.uint8)


def names_from_bytes(stored: np.ndarray, *, where: str) -> np.ndarray:
    """Read names (n,) that `names_to_bytes` wrote."""
    try:
        text = stored.tobytes().decode()
    except UnicodeDecodeError:
        text = "damaged"
    if text and not text.endswith("\0"):
        msg = f"{where} must be names, each ended by a zero, so it is damaged. {REMEDY}"
        raise ValueError(msg)
    return np.array(text.split("\0")[:-1], dtype=str)


def _record(text: bytes, where: str) -> dict[str, Any]:
    try:
        record = parse_json(text.decode(), most=_MAX_RECORD)
    except (UnicodeDecodeError, ValueError) as err:
        msg = f"{where}: the record {err}. {REMEDY}"
        raise ValueError(msg) from err
    if not isinstance(record, dict):
        msg = f"{where}: the record must hold names and values, so it is damaged. {REMEDY}"
        raise ValueError(msg)
    return record
