"""Rules for the arguments of models and the values of stored configs. Only the standard library is imported."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MAX_CONTEXT = 1_000
"""Largest number of neighbours that are looked at: all pairs of spots and neighbours are held in memory."""
MAX_K = 10_000
"""Largest number of neighbours that are averaged: all pairs of spots and neighbours are held in memory."""
MAX_REPEATS = 64
"""Largest number of repeated parts of a model: each takes time to build, however small it is."""
MAX_SIDE = 16_384
"""Longest side of a crop in pixels: a network may take memory for every place in a crop."""
_MAX_INPUT = 2_048
"""Longest side in pixels that crops are resampled to: each takes that memory, however small it was."""
_MAX_SIZE = 2**31 - 1
"""Largest size of a layer: to build a layer takes no memory until weights of that size are there."""
_MAX_TEXT = 10_000
_NETWORK = re.compile(r"(timm:)?[a-z0-9_]{1,100}(\.[a-z0-9_]{1,100})?")


@dataclass(frozen=True)
class Rule:
    """A rule for a value: what it must be in words, and a function that tests it."""

    expected: str
    fits: Callable[[Any], bool]


def whole(least: int, most: int = _MAX_SIZE) -> Rule:
    """Make a rule for whole numbers within bounds, both included."""
    return Rule(f"a whole number from {least} to {most}", lambda v: type(v) is int and least <= v <= most)


def multiple(of: int) -> Rule:
    """Make a rule for whole numbers above 0 that are multiples of a number."""
    return Rule(f"a multiple of {of}", lambda v: type(v) is int and of <= v <= _MAX_SIZE and v % of == 0)


def choice(*options: str) -> Rule:
    """Make a rule for one of several words."""
    return Rule(f"one of {', '.join(map(repr, options))}", lambda v: isinstance(v, str) and v in options)


def or_null(rule: Rule) -> Rule:
    """Make a rule for values that fit another rule, or are None."""
    return Rule(f"{rule.expected}, or null", lambda v: v is None or rule.fits(v))


def each(rule: Rule) -> Rule:
    """Make a rule for mappings from names to values that each fit another rule."""
    return Rule(f"names with {rule.expected} each", lambda v: isinstance(v, dict) and all(map(rule.fits, v.values())))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


NUMBER = Rule("a number", _is_number)
NUMBERS = Rule("a list of numbers", lambda v: isinstance(v, list) and all(map(_is_number, v)))
POSITIVE = Rule("a number above 0", lambda v: _is_number(v) and v > 0)
SHARE = Rule("a number from 0 to below 1", lambda v: _is_number(v) and 0 <= v < 1)
REPEATS = whole(1, MAX_REPEATS)
"""Rule for how often a part of a model is repeated."""
BOOL = Rule("true or false", lambda v: isinstance(v, bool))
TEXT = Rule("text", lambda v: isinstance(v, str) and len(v) <= _MAX_TEXT)
PLAIN = Rule("text, a number, true, false or null", lambda v: v is None or isinstance(v, str | int | float))
NETWORK_NAME = Rule(
    "the name of a network, such as 'resnet50' or 'timm:resnet10t'",
    lambda v: isinstance(v, str) and _NETWORK.fullmatch(v) is not None,
)


def _is_encoder(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"n_features", "network"}
        and whole(1).fits(value["n_features"])
        and (value["network"] is None or _is_frozen_network(value["network"]))
    )


def _is_frozen_network(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == set(_OF_FROZEN)
        and all(rule.fits(value[name]) for name, rule in _OF_FROZEN.items())
    )


READING: Mapping[str, Rule] = {
    "view_px": whole(1, MAX_SIDE),
    "input_px": whole(1, _MAX_INPUT),
    "stages": or_null(
        Rule(
            "a list of a few whole numbers",
            lambda v: isinstance(v, list) and 0 < len(v) <= MAX_REPEATS and all(map(whole(0, MAX_REPEATS).fits, v)),
        )
    ),
    "symmetries": Rule("1, 4 or 8", lambda v: type(v) is int and v in (1, 4, 8)),
}
"""Rules for how a frozen network reads a crop."""
_OF_FROZEN = {"name": NETWORK_NAME, **READING}
ENCODERS = Rule(
    f"a list of 1 to {MAX_REPEATS} encoders, each with `n_features` and `network`",
    lambda v: isinstance(v, list) and 0 < len(v) <= MAX_REPEATS and all(map(_is_encoder, v)),
)
