"""An older config becomes today's, here and nowhere else."""

from collections.abc import Callable, Mapping
from typing import Any

FORMAT_VERSION = 1
"""The version that is written; all earlier ones are read."""

_STEPS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""What makes a config of each earlier version one of the next."""

_NOT_ALWAYS_WRITTEN: Mapping[str, Any] = {"preset": "", "library_key": "", "params": {}, "versions": {}}
"""What no config needs, and what it means where it is not there."""


def upgrade(config: Mapping[str, Any], version: int) -> dict[str, Any]:
    """A config of some version, as the present version would have written it; its parts are not checked yet."""
    upgraded = dict(config)
    for number in range(version, FORMAT_VERSION):
        upgraded = _STEPS[number](upgraded)
    upgraded = {**_NOT_ALWAYS_WRITTEN, **upgraded}
    if isinstance(upgraded.get("image"), dict):
        upgraded["image"] = {"feature_set": None, "scale": None, **upgraded["image"]}
    return upgraded
