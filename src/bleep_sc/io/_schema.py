"""The rules for a model's config, whoever wrote it. A config is checked before anything is built from it.

Names that are not listed are kept and nobody reads them, so that a later release may add some. The exception is records
that are handed on name by name: they may hold no other names.
"""

import re
from collections.abc import Mapping, Sequence
from reprlib import repr as short
from typing import Any

from bleep_sc._untrusted import REMEDY
from bleep_sc.methods.inputs import BY_HAND, CUSTOM, FEATURES, FROZEN, NETWORK
from bleep_sc.methods.inputs import KINDS as INPUTS
from bleep_sc.methods.registry import all_methods
from bleep_sc.models.nets.kinds import KINDS as MODELS
from bleep_sc.models.nets.rules import (
    BOOL,
    MAX_K,
    MAX_REPEATS,
    MAX_SIDE,
    PLAIN,
    POSITIVE,
    READING,
    TEXT,
    Rule,
    choice,
    each,
    or_null,
    whole,
)
from bleep_sc.models.nets.slim import SlimArguments

_SHA256 = re.compile(r"[0-9a-f]{64}")
_Record = Mapping[str, Any]
"""A rule, or a record, by name."""

_SCALE: _Record = {"size": whole(1, MAX_SIDE), **dict.fromkeys(("size_um", "spot_diameters"), or_null(POSITIVE))}
_SCALE_ELSEWHERE: _Record = {**_SCALE, "size": or_null(_SCALE["size"])}
"""Of tiles that another program read."""
_ENCODER: _Record = {
    "name": TEXT,
    "kind": choice(BY_HAND.name, CUSTOM.name, NETWORK.name, FEATURES.name),
    "n_features": whole(1),
    "feature_set": or_null(TEXT),
    "weights": or_null(TEXT),
    "reading": Rule("a record, or null", lambda v: v is None or isinstance(v, dict)),
}
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
    "slim": BOOL,
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
    check_encoders(image["encoders"], where=where)
    if reads.from_crops or image["scale"] is not None:
        check_scale(image["scale"], image["encoders"], where=where, path="image.scale")
    for method in all_methods():
        if arguments.kind in method.kinds:
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
        "`image.encoders` and `image.n_features`": not image["encoders"]
        or width == sum(encoder["n_features"] for encoder in image["encoders"]),
        "`image.encoders` and `model.encoders`": model["kind"] != "fused" or _same_encoders(model, image),
        "`image.encoders` and `image.scale`": all(
            encoder["reading"] is None or encoder["reading"]["view_px"] <= image["scale"]["size"]
            for encoder in image["encoders"]
            if image["scale"] is not None
        ),
        "`image.kind` and `image.encoders`": not reads.from_crops
        or all(encoder["kind"] != FEATURES.name for encoder in image["encoders"]),
        "`model.n_features` and `model.n_image_features`": "encoders" not in model
        or model["n_features"] % model["n_image_features"] == 0,
    }
    if wrong := [names for names, fit in together.items() if not fit]:
        msg = f"{where}: in the config {wrong[0]} do not go together, so it is damaged. {REMEDY}"
        raise ValueError(msg)


def _same_encoders(model: _Record, image: _Record) -> bool:
    """Tell whether a model's hybrids, and the networks that it brings, are those of the encoders of its images."""
    own, read = model["encoders"], image["encoders"]
    if model["kind"] == SlimArguments.kind and not read:  # ready-made features, or those of an earlier version
        return len(own) == 1 and own[0] == {"n_features": image["n_features"], "network": None}
    if [encoder["n_features"] for encoder in own] != [encoder["n_features"] for encoder in read]:
        return False
    networks = [
        {"name": encoder["name"], **encoder["reading"]} if encoder["kind"] == NETWORK.name else None for encoder in read
    ]
    brought = [encoder["network"] for encoder in own]
    return brought == networks if image["kind"] == FROZEN.name else not any(brought)


def check_scale(scale: Any, encoders: Sequence[_Record], *, where: str, path: str = "scale") -> None:
    """Refuse what is no record of the width of the crops, or of another program's tiles, that encoders read."""
    elsewhere = bool(encoders) and all(encoder["kind"] == FEATURES.name for encoder in encoders)
    rules = _SCALE_ELSEWHERE if elsewhere else _SCALE
    _check_record({path: scale}, {path: rules}, "", where=where)
    _check_record(scale, rules, path, where=where, closed=True)


def check_encoders(encoders: Any, *, where: str) -> None:
    """Refuse what is no list of records of encoders, each with a kind and the values that go with it."""
    if not isinstance(encoders, list) or len(encoders) > MAX_REPEATS:
        msg = f"{where}: `encoders` of the config must be a list of encoders; found {short(encoders)}. {REMEDY}"
        raise ValueError(msg)
    for encoder in encoders:
        _check_record({"encoders": encoder}, {"encoders": _ENCODER}, "", where=where)
        _check_record(encoder, _ENCODER, "encoders", where=where, closed=True)
        reading = encoder["reading"]
        may_have_one = encoder["kind"] in (NETWORK.name, CUSTOM.name)
        if (reading is None and encoder["kind"] == NETWORK.name) or (reading is not None and not may_have_one):
            msg = f"{where}: `reading` of an encoder of the config does not go with its kind. {REMEDY}"
            raise ValueError(msg)
        if reading is not None:
            _check_record({"reading": reading}, {"reading": READING}, "encoders", where=where)
            _check_record(reading, READING, "encoders.reading", where=where, closed=True)


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
