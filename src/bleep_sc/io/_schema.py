"""The rules for a model's config, whoever wrote it. A config is checked before anything is built from it.

Names that are not listed are kept and nobody reads them, so that a later release may add some. The exception is records
that are handed on name by name: they may hold no other names.
"""

import re
from collections.abc import Mapping
from reprlib import repr as short
from typing import Any

from bleep_sc._untrusted import REMEDY
from bleep_sc.methods.inputs import KINDS as INPUTS
from bleep_sc.methods.registry import all_methods
from bleep_sc.models.nets.kinds import KINDS as MODELS
from bleep_sc.models.nets.rules import (
    MAX_K,
    MAX_SIDE,
    PLAIN,
    POSITIVE,
    TEXT,
    Rule,
    choice,
    each,
    or_null,
    whole,
)

_SHA256 = re.compile(r"[0-9a-f]{64}")
_Record = Mapping[str, Any]
"""A rule, or a record, by name."""

_SCALE: _Record = {"size": whole(1, MAX_SIDE), **dict.fromkeys(("size_um", "spot_diameters"), or_null(POSITIVE))}
_NEEDED: _Record = {
    "method": TEXT,
    "model": {"kind": choice(*MODELS)},
    "image": {"key": TEXT, "kind": choice(*INPUTS), "encoder": TEXT, "n_features": or_null(whole(0))},
    "expression": {"layer": or_null(TEXT), "use_rep": or_null(TEXT)},
    "units": TEXT,
}
_POSSIBLE: _Record = {
    "preset": TEXT,
    "library_key": TEXT,
    "patient_key": TEXT,
    "params": each(PLAIN),
    "versions": each(TEXT),
    **{name: rule for method in all_methods() for name, rule in method.own_config.items()},
    "sha256": Rule("64 hexadecimal digits", lambda v: isinstance(v, str) and _SHA256.fullmatch(v) is not None),
}
_CLOSED = ("expression", "image.scale")
"""Records that are handed on name by name, so that they may hold no other names."""


def check_config(config: Mapping[str, Any], *, where: str) -> None:
    """Refuse a config that lacks a part, or whose parts are not what they must be or do not go together.

    Raises
    ------
    ValueError
        A part is missing or wrong. The message names it, what was found, and what is expected.
    """
    _check_record(config, _NEEDED, "", where=where)
    _check_record(config, {name: rule for name, rule in _POSSIBLE.items() if name in config}, "", where=where)
    model, image, chosen = config["model"], config["image"], config.get("chosen", {})
    arguments, reads = MODELS[model["kind"]], INPUTS[image["kind"]]
    _check_record(model, {"kind": TEXT, **arguments.rules()}, "model", where=where, closed=True)
    if reads.from_crops:
        _check_record(image, {"scale": _SCALE}, "image", where=where)
    for method in all_methods():
        if method.kind == arguments.kind:
            _check_record(config, {name: method.own_config[name] for name in method.required}, "", where=where)
    if "k" in chosen:
        _check_record(chosen, {"k": whole(1, MAX_K)}, "chosen", where=where)
    reads_crops = arguments.from_spec(model).reads_crops
    size = image["scale"]["size"] if reads.from_crops else None
    width = image["n_features"]
    usual = reads.width if reads.width is not None else None if reads_crops else width
    together = {
        "`image.kind` and `model`": reads.is_image == reads_crops,
        "`model.image_size` and `image.scale`": not reads_crops or model["image_size"] == size,
        "`image.n_features` and `model.n_image_features`": reads_crops
        or width == model["n_image_features"] is not None,
        "`image.n_features` and `image.kind`": width == usual,
        "`model.symmetries` and `image.kind`": reads_crops or not model.get("symmetries"),
    }
    if wrong := [names for names, fit in together.items() if not fit]:
        msg = f"{where}: in the config {wrong[0]} do not go together, so it is damaged. {REMEDY}"
        raise ValueError(msg)


def _check_record(record: Mapping[str, Any], rules: _Record, path: str, *, where: str, closed: bool = False) -> None:
    for name, rule in rules.items():
        inner = f"{path}.{name}".lstrip(".")
        if name not in record:
            msg = f"{where}: the config lacks `{inner}`, so it does not describe a model of bleep_sc. {REMEDY}"
            raise ValueError(msg)
        value = record[name]
        if isinstance(rule, Mapping):
            if not isinstance(value, dict):
                msg = f"{where}: `{inner}` of the config must hold names and values, found {short(value)}. {REMEDY}"
                raise ValueError(msg)
            _check_record(value, rule, inner, where=where)
        elif not rule.fits(value):
            msg = f"{where}: `{inner}` of the config must be {rule.expected}; found {short(value)}. {REMEDY}"
            raise ValueError(msg)
    if (closed or path in _CLOSED) and (unknown := set(record) - set(rules)):
        msg = f"{where}: `{path}` of the config has the unknown part {short(min(unknown))}. {REMEDY}"
        raise ValueError(msg)
