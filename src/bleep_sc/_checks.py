"""Check arguments. Each error names what was found, what is expected, and the remedy."""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from bleep_sc import _keys


class MissingKeyError(KeyError):
    """A key that should be in the AnnData is not there.

    A `KeyError` whose text reads as it was written: Python shows the `repr` of a plain one.
    """

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


def check_choice(name: str, value: Any, options: Iterable[Any]) -> None:
    """Refuse a value that is not one of several fixed words."""
    options = tuple(options)
    if not any(isinstance(value, type(option)) and value == option for option in options):
        msg = f"`{name}` must be one of {', '.join(map(repr, options))}, found {value!r}."
        raise ValueError(msg)


def check_int(name: str, value: Any, *, minimum: int = 1, maximum: int | None = None) -> int:
    """Return an integer within bounds, NumPy's included; refuse anything else."""
    fine = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not fine or value < minimum or (maximum is not None and value > maximum):
        most = "" if maximum is None else f" and at most {maximum}"
        msg = f"`{name}` must be an integer of at least {minimum}{most}, found {value!r}."
        raise ValueError(msg)
    return int(value)


MAX_SEED = 2**31 - 1
"""Largest seed for libraries that keep seeds in 32 bits."""


def check_number(name: str, value: Any, *, above: float | None = None, minimum: float | None = None) -> float:
    """Return a finite number that is above, or at least, a bound; refuse anything else."""
    bound = f" above {above}" if above is not None else f" of at least {minimum}" if minimum is not None else ""
    fine = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    try:
        finite = fine and np.isfinite(float(value))
    except OverflowError:  # of an integer
        finite = False
    if not finite or (above is not None and value <= above) or (minimum is not None and value < minimum):
        msg = f"`{name}` must be a finite number{bound}, found {value!r}."
        raise ValueError(msg)
    return float(value)


def check_share(name: str, value: Any) -> float:
    """Return a share between 0 and 1; refuse anything else."""
    if check_number(name, value, above=0) >= 1:
        msg = f"`{name}` must be between 0 and 1, such as 0.1; found {value!r}."
        raise ValueError(msg)
    return float(value)


def check_levels(name: str, values: Any) -> tuple[float, ...]:
    """Return shares of spots to cover, in order; refuse what is not between 0 and 1."""
    levels = tuple(values) if isinstance(values, Iterable) and not isinstance(values, str) else (values,)
    numbers = sorted({check_number(name, level, above=0) for level in levels})
    if not numbers or numbers[-1] >= 1:
        msg = f"`{name}` must be between 0 and 1, such as 0.9; found {values!r}."
        raise ValueError(msg)
    return tuple(numbers)


def check_name(name: str, value: Any) -> None:
    """Refuse a name that h5ad cannot write."""
    if not isinstance(value, str) or not value or "/" in value or odd_characters(value):
        msg = f"`{name}` must be a name without '/' that a file can hold, found {value!r}."
        raise ValueError(msg)


def odd_characters(text: str) -> str:
    """Say why no file keeps a text as it is; empty if files keep it."""
    if "\0" in text:
        return "with a zero character, which ends a name early"
    return "with half a character, which no file holds" if _HALVES.search(text) else ""


def check_key(name: str, value: Any) -> None:
    """Refuse what cannot be a key to look up."""
    if not isinstance(value, str):
        msg = f"`{name}` must be a name, found {value!r}."
        raise TypeError(msg)


def check_names(name: str, value: Any) -> tuple[str, ...]:
    """Return names as a tuple, from several names or a single one; refuse anything else."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Iterable):
        msg = f"`{name}` must be a list of names, found {value!r}."
        raise TypeError(msg)
    return tuple(value)


def check_key_added(name: str, value: Any, *, allowed: str | None = None) -> None:
    """Refuse a name for results that h5ad cannot write, or that is reserved for input or other results.

    `allowed` is the one reserved name that the calling function may use.
    """
    check_name(name, value)
    taken = [key for key in _keys.RESERVED if key != allowed]
    if value in taken:
        msg = f"`{name}={value!r}`: under that name something else is kept ({', '.join(taken)} are taken)."
        raise ValueError(msg)


_HALVES = re.compile(r"[\ud800-\udfff]")
"""Pattern of half a surrogate pair."""

MAX_VALUE = 1e12
"""Largest value of expression and features to learn from: their squares are summed in float32."""


def check_section_names(path: str, names: Iterable[Any]) -> None:
    """Refuse names of sections that h5ad cannot write, since records are kept under them."""
    for name in map(str, names):
        if not name or "/" in name or odd_characters(name):
            msg = (
                f"`{path}` holds {name!r}: records are kept under the name of a section, and no file can hold one that "
                "is empty or has '/' or a zero character. Rename it, such as with '_'."
            )
            raise ValueError(msg)


def check_in(name: str, key: str, keys: Iterable[str | None], *, remedy: str = "") -> None:
    """Refuse a key that does not exist; `name` is the full path of the mapping, such as ``adata.obs``."""
    keys = [existing for existing in keys if existing is not None]  # newer anndata lists `X` among the layers, as None
    if key not in keys:
        shown = ", ".join(map(repr, keys[:10])) + (", ..." if len(keys) > 10 else "")
        msg = f"`{name}[{key!r}]` does not exist; there is {shown or 'nothing'}." + (f" {remedy}" if remedy else "")
        raise MissingKeyError(msg)


def check_listed(name: str, key: str, names: Iterable[Any], *, argument: str, noun: str) -> None:
    """Refuse a gene or a spot that does not exist; `name` is the full path of the names, `noun` what they name."""
    names = list(names)
    if key not in names:
        msg = f"`{argument}`: `{name}[{key!r}]` does not exist. {meant(key, names, noun=noun)}"
        raise MissingKeyError(msg)


def meant(wanted: Any, names: Sequence[Any], *, noun: str) -> str:
    """Say which of many names may have been meant, how many there are, and how they are written."""
    if not len(names):
        return f"There are no {noun}s."
    texts = list(map(str, names))
    like = " or ".join(map(repr, _alike(wanted, texts)))
    there = f"There is 1 {noun}" if len(texts) == 1 else f"There are {len(texts):,} {noun}s"
    return (f"Did you mean {like}? " if like else "") + f"{there}, written like {texts[0]!r}."


_SHORT, _LONGEST = 8, 100
"""Letters up to which a name is compared with all others, and up to which it is compared at all."""

_MOST = 5000
"""Names that may share half of a longer one. Where more do, they are numbered, and a near number is another gene."""


def _alike(wanted: Any, names: Sequence[str], *, most: int = 3) -> list[str]:
    """List the names that are equal but for case; without any, those that are spelt nearly the same."""
    if not isinstance(wanted, str) or not 0 < len(wanted) <= _LONGEST:
        return []
    plain = wanted.casefold()
    folded = [name.casefold() for name in names]
    if same := [name for name, other in zip(names, folded, strict=True) if other == plain]:
        return same[:most]
    by_plain = dict(zip(reversed(folded), reversed(names), strict=True))
    if len(plain) > _SHORT:
        half = len(plain) // 2
        begin, end = plain[:half], plain[half:]
        by_plain = {name: by_plain[name] for name in by_plain if name.startswith(begin) or name.endswith(end)}
        if len(by_plain) > _MOST:
            return []
    return [by_plain[other] for other in difflib.get_close_matches(plain, by_plain, n=most, cutoff=0.75)]
