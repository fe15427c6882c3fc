"""Read a stranger's JSON and lists of tensors within bounds, before anything is made of them."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

REMEDY = "Ask for an undamaged copy, or train the model again with `bleep_sc.tl.fit`."
MAX_HEADER = 2**21
"""Largest list of tensors in bytes: ten times what the largest networks have."""

_MAX_PARTS = 100_000
"""Largest number of parts in a JSON text: an empty part takes twenty times as much memory as its text."""
_MAX_DEPTH = 16
_MAX_WHOLE = 2**53
"""Largest whole number: larger ones are no longer exact as float64."""
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}

ZARRAY = ".zarray"
"""Name of the file that describes an array in zarr's version 2."""


class TensorFacts(NamedTuple):
    """Facts that a safetensors file states about a tensor."""

    dtype: str
    """Type of the values, as that format spells it, such as ``"F32"``."""
    shape: tuple[int, ...]


def parse_json(text: str, *, most: int) -> Any:
    """Read JSON of at most `most` characters, in which names occur once in a place and numbers are finite.

    Raises
    ------
    ValueError
        The text is refused. The message is the end of a sentence: the caller puts the place of the text before it.
    """
    if len(text) > most:
        msg = f"is longer than any model needs: {len(text)} characters, at most {most}"
        raise ValueError(msg)
    if sum(1 for _ in re.finditer(r'[\[{]|"\s*:', text)) > _MAX_PARTS:
        msg = f"has more than {_MAX_PARTS} parts"
        raise ValueError(msg)
    try:
        value = json.loads(text, object_pairs_hook=_names_once, parse_int=_whole)
    except RecursionError:
        msg = f"is nested more than {_MAX_DEPTH} deep"
        raise ValueError(msg) from None
    except json.JSONDecodeError as err:
        msg = f"is not JSON: {err}"
        raise ValueError(msg) from err
    _check_values(value)
    return value


def tensors_in(weights: bytes, *, where: str) -> dict[str, TensorFacts]:
    """List the tensors of a safetensors file; refuse one that they do not fill without gaps or overlaps.

    The library that reads the tensors checks this too, but only once it has taken memory for what a header says.
    """
    try:
        return _tensors(weights)
    except ValueError as err:
        msg = f"{where}: the weights are damaged or not a safetensors file: {err}. {REMEDY}"
        raise ValueError(msg) from err


def _tensors(weights: bytes) -> dict[str, TensorFacts]:
    length = int.from_bytes(weights[:8], "little")
    if len(weights) < 8 or length > min(MAX_HEADER, len(weights) - 8):
        msg = f"they are {len(weights)} bytes long, and their header should be {length}"
        raise ValueError(msg)
    try:
        text = weights[8 : 8 + length].decode()
    except UnicodeDecodeError:
        msg = "their header is not UTF-8"
        raise ValueError(msg) from None
    try:
        header = parse_json(text, most=MAX_HEADER)
    except ValueError as err:
        msg = f"their header {err}"
        raise ValueError(msg) from err
    if not isinstance(header, dict):
        msg = "their header is no list of tensors"
        raise ValueError(msg)
    header.pop("__metadata__", None)
    places = sorted(_place(name, entry) for name, entry in header.items())
    ends = [0, *(end for _, end in places)]
    if [begin for begin, _ in places] != ends[:-1] or ends[-1] != len(weights) - 8 - length:
        msg = "the places of the tensors overlap, leave gaps, or lie outside the file"
        raise ValueError(msg)
    return {name: TensorFacts(entry["dtype"], tuple(entry["shape"])) for name, entry in header.items()}


def _place(name: str, entry: Any) -> tuple[int, int]:
    """Return the first byte of a tensor, and the byte after its last."""
    facts = entry if isinstance(entry, Mapping) else {}
    width = _BYTES.get(str(facts.get("dtype")), 0)
    shape, place = facts.get("shape"), facts.get("data_offsets")
    if width and _are_counts(shape) and _are_counts(place) and len(place) == 2:
        begin, end = place
        if end - begin == math.prod(shape) * width:
            return begin, end
    msg = f"type, shape and place of the tensor {name[:100]!r} do not go together"
    raise ValueError(msg)


def _are_counts(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and len(values) <= 8 and all(type(v) is int and v >= 0 for v in values)


def _whole(digits: str) -> float:
    """Read a whole number; one of 20 digits or more is infinity, since Python is slow with thousands or refuses."""
    return int(digits) if len(digits) < 20 else math.inf


def _names_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        msg = f"has the name {twice[:100]!r} twice in one place"
        raise ValueError(msg)
    return mapping


def _check_values(value: Any, path: str = "", depth: int = 0) -> None:
    """Refuse numbers that are infinite or too large to compute with, texts that cannot be written, and deep nesting."""
    if depth > _MAX_DEPTH:
        msg = f"is nested more than {_MAX_DEPTH} deep"
        raise ValueError(msg)
    if isinstance(value, dict):
        for name, part in value.items():
            _check_text(name, path)
            _check_values(part, f"{path}.{name}".lstrip("."), depth + 1)
    elif isinstance(value, list):
        for part in value:
            _check_values(part, path, depth + 1)
    elif isinstance(value, str):
        _check_text(value, path)
    elif (isinstance(value, float) and not math.isfinite(value)) or (
        isinstance(value, int) and abs(value) > _MAX_WHOLE
    ):
        msg = f"holds NaN, infinity or a number out of all bounds at `{path[:200]}`"
        raise ValueError(msg)


def _check_text(text: str, path: str) -> None:
    """Refuse zero characters, which end a name early in arrays, and half surrogate pairs, which cannot be written."""
    if "\0" in text or (not text.isascii() and re.search(r"[\ud800-\udfff]", text)):
        msg = f"holds text with characters that no name has at `{path[:200]}`"
        raise ValueError(msg)


def check_never_pickled(descriptions: Iterable[Path], *, where: str) -> None:
    """Refuse arrays of zarr's version 2 whose values would have to be unpickled, which can run anything.

    Parameters
    ----------
    descriptions
        The files that describe the arrays, :data:`ZARRAY`; those that do not exist are of a newer version.
    where
        The array or table as messages name it.
    """
    for path in descriptions:
        try:
            described = json.loads(path.read_bytes())
            used = [described.get("compressor"), *(described.get("filters") or ())]
            pickled = any(isinstance(each, dict) and "pickle" in str(each.get("id")).lower() for each in used)
        except (OSError, ValueError, AttributeError, TypeError):
            continue  # zarr says what is wrong with it
        if pickled:
            msg = f"{where} holds pickled values, which are never read: reading them can run any program."
            raise ValueError(msg)
