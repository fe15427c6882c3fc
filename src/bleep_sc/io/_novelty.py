"""What tells how unlike a reference a spot looks, as it is stored beside the model."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bleep_sc._untrusted import REMEDY, tensors_in
from bleep_sc.io._bundle import Part, names_from_bytes, names_to_bytes, pack, unpack
from bleep_sc.io._stored import fault_of_name
from bleep_sc.models.search.novelty import Look, Novelty

NOVELTY = "novelty"
"""The entry of `uns[key]`."""
_PARTS: Mapping[str, Part] = {
    "center": Part("float32", ("features",)),
    # infinite where a feature, or what lies beside the axes, says nothing
    "scale": Part("float32", ("features",), finite=False),
    "middle": Part("float32", ("features",)),
    "axes": Part("float32", ("axes", "features")),
    "rest": Part("float32", (2,), finite=False),
    "held_out": Part("float32", ("spots",)),
    "names": Part("uint8", ("letters",)),
}
_LOOK = ("center", "scale", "middle", "axes", "rest")
_SEVERAL = {"bundles": Part("uint8", ("bytes",)), "ends": Part("int64", ("encoders",))}
"""Of several encoders: their entries one behind the other, and where each ends."""


def novelties_to_bytes(novelties: Sequence[Novelty]) -> np.ndarray:
    """Write the entry of `uns[key]`, uint8 (n_bytes,), with one novelty for each encoder."""
    bundles = []
    for novelty in novelties:
        arrays = {name: getattr(novelty.look, name) for name in _LOOK}
        bundles.append(pack({**arrays, "held_out": novelty.held_out, "names": names_to_bytes(novelty.names)}, {}))
    if len(bundles) == 1:
        return bundles[0]
    ends = np.cumsum([len(bundle) for bundle in bundles], dtype=np.int64)
    return pack({"bundles": np.concatenate(bundles), "ends": ends}, {})


def novelties_from_uns(entry: Mapping[str, Any], *, where: str) -> list[Novelty]:
    """Read them from `uns[key]`; none where there are none, as in models that read no image or of an earlier version.

    Raises
    ------
    ValueError
        The entry is damaged. The message names the part.
    """
    if NOVELTY not in entry:
        return []
    path, stored = f"`{where}[{NOVELTY!r}]`", entry[NOVELTY]
    if not (isinstance(stored, np.ndarray) and stored.dtype == np.uint8 and _holds_several(stored, path)):
        return [_from_bundle(stored, path)]
    arrays, record = unpack(stored, _SEVERAL, where=path)
    ends, n_bytes = arrays["ends"], len(arrays["bundles"])
    if record or not len(ends) or ends[0] < 1 or (np.diff(ends) < 1).any() or ends[-1] != n_bytes:
        msg = f"{path}: its parts do not go together, so it is damaged. {REMEDY}"
        raise ValueError(msg)
    return [_from_bundle(bundle, path) for bundle in np.split(arrays["bundles"], ends[:-1])]


def _holds_several(stored: np.ndarray, path: str) -> bool:
    return stored.ndim == 1 and set(_SEVERAL) <= set(tensors_in(stored.tobytes(), where=path))


def _from_bundle(stored: Any, path: str) -> Novelty:
    arrays, record = unpack(stored, _PARTS, where=path)
    names = names_from_bytes(arrays.pop("names"), where=path)
    held_out = arrays.pop("held_out")
    found = len(arrays["center"])
    fault = (
        "`scale` must be above 0"
        if not (arrays["scale"] > 0).all()
        else "`rest` must be a number and a spread above 0"
        if not (np.isfinite(arrays["rest"][0]) and arrays["rest"][1] > 0)
        else "`held_out` must hold distances, the smallest first"
        if not len(held_out) or held_out[0] < 0 or (np.diff(held_out) < 0).any()
        else f"it names {len(names)} of {found} image features"
        if len(names) not in (0, found)
        else "a name of a feature is none"
        if any(map(fault_of_name, names))
        else "its record must be empty"
        if record
        else ""
    )
    if fault:
        msg = f"{path}: {fault}, so it is damaged. {REMEDY}"
        raise ValueError(msg)
    return Novelty(Look(**arrays), held_out, tuple(names.tolist()))
