"""Turns a config of an earlier version into one of today's."""

from collections.abc import Callable, Mapping
from typing import Any

FORMAT_VERSION = 3
"""The version that is written; all earlier ones are read."""

_STEPS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: dict,  # version 2 adds the patients' column, which may be missing
    2: dict,  # version 3 adds the records of encoders, which may be missing, and the fused models
}
"""The function that turns a config of an earlier version into one of the next, by that earlier version."""

_NOT_ALWAYS_WRITTEN: Mapping[str, Any] = {
    "preset": "",
    "library_key": "",
    "patient_key": "",
    "params": {},
    "versions": {},
}
"""The values of a config that need not be written, with their meaning where they are missing."""


def upgrade(config: Mapping[str, Any], version: int) -> dict[str, Any]:
    """Turn a config of any version into one of the present version; its parts are not checked yet."""
    upgraded = dict(config)
    for number in range(version, FORMAT_VERSION):
        upgraded = _STEPS[number](upgraded)
    upgraded = {**_NOT_ALWAYS_WRITTEN, **upgraded}
    if isinstance(upgraded.get("image"), dict):
        upgraded["image"] = {"feature_set": None, "scale": None, "encoders": [], **upgraded["image"]}
    return upgraded
