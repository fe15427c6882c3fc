"""What a model's config must hold, whoever wrote it: checked before anything is built from it.

Names that are not listed are kept and nobody reads them, so that a later release may add some; only what is handed on
name by name may hold nothing else.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from reprlib import repr as short
from typing import Any

from bleep_sc._untrusted import REMEDY

MAX_REPEATS = 64
"""Of a model's repeated parts, which take time to build however small they are."""
MAX_CONTEXT = 1_000
"""Of neighbours that are looked at: all pairs of spots and neighbours are held in memory."""
MAX_K = 10_000
"""Of neighbours that are averaged, for the same reason."""
MAX_SIDE = 16_384
"""Of a crop in pixels: a network may lay out all places in one."""
_MAX_SIZE = 2**31 - 1
"""Of a layer: building one takes no memory until weights of that size are there."""
_MAX_TEXT = 10_000
_ENCODER = re.compile(r"(timm:)?[a-z0-9_]{1,100}(\.[a-z0-9_]{1,100})?")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class _Rule:
    """What a value must be."""

    expected: str
    fits: Callable[[Any], bool]


_Record = Mapping[str, Any]
"""Of each name a rule, or a record."""


def _whole(least: int, most: int = _MAX_SIZE) -> _Rule:
    return _Rule(f"a whole number from {least} to {most}", lambda v: type(v) is int and least <= v <= most)


def _choice(*options: str) -> _Rule:
    return _Rule(f"one of {', '.join(map(repr, options))}", lambda v: isinstance(v, str) and v in options)


def _or_null(rule: _Rule) -> _Rule:
    return _Rule(f"{rule.expected}, or null", lambda v: v is None or rule.fits(v))


def _each(rule: _Rule) -> _Rule:
    return _Rule(f"names with {rule.expected} each", lambda v: isinstance(v, dict) and all(map(rule.fits, v.values())))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_NUMBER = _Rule("a number", _is_number)
_POSITIVE = _Rule("a number above 0", lambda v: _is_number(v) and v > 0)
_SHARE = _Rule("a number from 0 to below 1", lambda v: _is_number(v) and 0 <= v < 1)
_TEXT = _Rule("text", lambda v: isinstance(v, str) and len(v) <= _MAX_TEXT)
_BOOL = _Rule("true or false", lambda v: isinstance(v, bool))
_PLAIN = _Rule("text, a number, true, false or null", lambda v: v is None or isinstance(v, str | int | float))
_NUMBERS = _Rule("a list of numbers", lambda v: isinstance(v, list) and all(map(_is_number, v)))
_NETWORK = _Rule(
    "the name of a network, such as 'resnet50' or 'timm:resnet10t'",
    lambda v: isinstance(v, str) and _ENCODER.fullmatch(v) is not None,
)

_IMAGE_ENCODER = {
    "encoder": _or_null(_NETWORK),
    "image_size": _or_null(_whole(1, MAX_SIDE)),
    "n_image_features": _or_null(_whole(0)),
    "standardize": _BOOL,
}
_MODELS: Mapping[str, _Record] = {
    "bleep": {
        **_IMAGE_ENCODER,
        "n_genes": _whole(1),
        "dim": _whole(1),
        "dropout": _SHARE,
        "temperature": _POSITIVE,
    },
    "hybrid": {
        **dict.fromkeys(("n_image_features", "n_features", "n_genes", "n_components", "n_landmarks"), _whole(1)),
        "members": _whole(1, MAX_REPEATS),
        "dim": _whole(1),
        "hidden": _whole(1),
        "dropout": _SHARE,
        "temperature": _POSITIVE,
    },
    "regressor": {
        **_IMAGE_ENCODER,
        "n_genes": _whole(1),
        "hidden": _or_null(_whole(1)),
        "rank": _or_null(_whole(0)),
        "dropout": _SHARE,
        "loss": _choice("mse", "stnet"),
        "symmetries": _BOOL,
    },
    "histogene": {
        "image_size": _whole(1, MAX_SIDE),
        "n_genes": _whole(1),
        "dim": _Rule("a multiple of 64", lambda v: type(v) is int and 64 <= v <= _MAX_SIZE and v % 64 == 0),
        "depth": _whole(1, MAX_REPEATS),
        "dropout": _SHARE,
    },
    "features": _IMAGE_ENCODER,
}
"""Arguments of `build_model`, by kind."""

_WIDTHS = {"place": 9, "counts": 1, "nothing": 0}
"""Of the inputs that are made by ourselves, whatever the images."""
_CROPS = ("network", "color", "custom")
_SCALE: _Record = {"size": _whole(1, MAX_SIDE), **dict.fromkeys(("size_um", "spot_diameters"), _or_null(_POSITIVE))}
_NEEDED: _Record = {
    "method": _TEXT,
    "model": {"kind": _choice(*_MODELS)},
    "image": {
        "key": _TEXT,
        "kind": _choice(*_CROPS, "features", *_WIDTHS),
        "encoder": _TEXT,
        "n_features": _or_null(_whole(0)),
    },
    "expression": {"layer": _or_null(_TEXT), "use_rep": _or_null(_TEXT)},
    "units": _TEXT,
}
_POSSIBLE: _Record = {
    "preset": _TEXT,
    "library_key": _TEXT,
    "params": _each(_PLAIN),
    "versions": _each(_TEXT),
    "spread": _each(_NUMBER),
    "chosen": _each(_NUMBER),
    "centers": _each(_NUMBERS),
    "context": _whole(0, MAX_CONTEXT),
    "window": _whole(1),
    "sha256": _Rule("64 hexadecimal digits", lambda v: isinstance(v, str) and _SHA256.fullmatch(v) is not None),
}
_CLOSED = ("expression", "image.scale")
"""Records that are handed on name by name."""


def check_config(config: Mapping[str, Any], *, where: str) -> None:
    """Refuse a config that lacks something, or whose parts are not what they must be or do not go together.

    Raises
    ------
    ValueError
        Names the part, what was found, and what is expected.
    """
    _check_record(config, _NEEDED, "", where=where)
    _check_record(config, {name: rule for name, rule in _POSSIBLE.items() if name in config}, "", where=where)
    model, image, chosen = config["model"], config["image"], config.get("chosen", {})
    kind = model["kind"]
    _check_record(model, {"kind": _TEXT, **_MODELS[kind]}, "model", where=where, closed=True)
    if image["kind"] in _CROPS:
        _check_record(image, {"scale": _SCALE}, "image", where=where)
    if kind == "histogene":
        _check_record(config, {"window": _whole(1)}, "", where=where)
    if "k" in chosen:
        _check_record(chosen, {"k": _whole(1, MAX_K)}, "chosen", where=where)
    reads_crops = kind == "histogene" or model.get("encoder") is not None
    size = image["scale"]["size"] if image["kind"] in _CROPS else None
    together = {
        "`image.kind` and `model`": (image["kind"] == "network") == reads_crops,
        "`model.image_size` and `image.scale`": not reads_crops or model["image_size"] == size,
        "`image.n_features` and `model.n_image_features`": reads_crops
        or image["n_features"] == model["n_image_features"] is not None,
        "`image.n_features` and `image.kind`": image["n_features"]
        == _WIDTHS.get(image["kind"], None if reads_crops else image["n_features"]),
        "`model.symmetries` and `image.kind`": reads_crops or not model.get("symmetries"),
    }
    if wrong := [parts for parts, fit in together.items() if not fit]:
        msg = f"{where}: in the config {wrong[0]} do not go together, so it is damaged. {REMEDY}"
        raise ValueError(msg)


def _check_record(found: Mapping[str, Any], rules: _Record, path: str, *, where: str, closed: bool = False) -> None:
    for name, rule in rules.items():
        inner = f"{path}.{name}".lstrip(".")
        if name not in found:
            msg = f"{where}: the config lacks `{inner}`, so it does not describe a model of bleep_sc. {REMEDY}"
            raise ValueError(msg)
        value = found[name]
        if isinstance(rule, Mapping):
            if not isinstance(value, dict):
                msg = f"{where}: `{inner}` of the config must hold names and values, found {short(value)}. {REMEDY}"
                raise ValueError(msg)
            _check_record(value, rule, inner, where=where)
        elif not rule.fits(value):
            msg = f"{where}: `{inner}` of the config must be {rule.expected}; found {short(value)}. {REMEDY}"
            raise ValueError(msg)
    if (closed or path in _CLOSED) and (unknown := set(found) - set(rules)):
        msg = f"{where}: `{path}` of the config has the unknown part {short(min(unknown))}. {REMEDY}"
        raise ValueError(msg)
