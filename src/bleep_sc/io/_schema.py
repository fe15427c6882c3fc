"""What a model's config must hold, whoever wrote it: checked before anything is built from it.

Names that are not listed are kept and nobody reads them, so that a later release may add some; only what is handed on
name by name may hold nothing else.
"""

import re
from collections.abc import Mapping
from reprlib import repr as short
from typing import TYPE_CHECKING, Any

from bleep_sc._untrusted import REMEDY
from bleep_sc.models.nets.rules import (
    MAX_CONTEXT,
    MAX_K,
    MAX_SIDE,
    NUMBER,
    NUMBERS,
    PLAIN,
    POSITIVE,
    TEXT,
    Rule,
    choice,
    each,
    or_null,
    whole,
)

if TYPE_CHECKING:
    from bleep_sc.models.nets.arguments import Arguments

_SHA256 = re.compile(r"[0-9a-f]{64}")

_Record = Mapping[str, Any]
"""Of each name a rule, or a record."""

_WIDTHS = {"place": 9, "counts": 1, "nothing": 0}
"""Of the inputs that are made by ourselves, whatever the images."""
_CROPS = ("network", "color", "custom")
_SCALE: _Record = {"size": whole(1, MAX_SIDE), **dict.fromkeys(("size_um", "spot_diameters"), or_null(POSITIVE))}
_NEEDED: _Record = {
    "method": TEXT,
    "model": {},  # in whose place `check_config` puts the kinds that there are
    "image": {
        "key": TEXT,
        "kind": choice(*_CROPS, "features", *_WIDTHS),
        "encoder": TEXT,
        "n_features": or_null(whole(0)),
    },
    "expression": {"layer": or_null(TEXT), "use_rep": or_null(TEXT)},
    "units": TEXT,
}
_POSSIBLE: _Record = {
    "preset": TEXT,
    "library_key": TEXT,
    "params": each(PLAIN),
    "versions": each(TEXT),
    "spread": each(NUMBER),
    "chosen": each(NUMBER),
    "centers": each(NUMBERS),
    "context": whole(0, MAX_CONTEXT),
    "window": whole(1),
    "sha256": Rule("64 hexadecimal digits", lambda v: isinstance(v, str) and _SHA256.fullmatch(v) is not None),
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
    from bleep_sc.models.nets.build import KINDS  # it imports torch, which costs seconds

    _check_record(config, {**_NEEDED, "model": {"kind": choice(*KINDS)}}, "", where=where)
    _check_record(config, {name: rule for name, rule in _POSSIBLE.items() if name in config}, "", where=where)
    model, image, chosen = config["model"], config["image"], config.get("chosen", {})
    kind = KINDS[model["kind"]]
    _check_record(model, {"kind": TEXT, **kind.rules()}, "model", where=where, closed=True)
    if image["kind"] in _CROPS:
        _check_record(image, {"scale": _SCALE}, "image", where=where)
    if kind.reads_windows:
        _check_record(config, {"window": whole(1)}, "", where=where)
    if "k" in chosen:
        _check_record(chosen, {"k": whole(1, MAX_K)}, "chosen", where=where)
    _check_together(model, image, kind.from_spec(model), where=where)


def _check_together(model: Mapping[str, Any], image: Mapping[str, Any], arguments: "Arguments", *, where: str) -> None:
    """Refuse a model that does not read what the config says of the images."""
    reads_crops = arguments.reads_crops
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
