"""Read what `uns["spatial"]` says of a library; where it holds no mapping, it says nothing."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bleep_sc import _keys


def libraries(uns: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Every library by its name."""
    return {str(name): _mapping(entry) for name, entry in _mapping(uns.get(_keys.SPATIAL)).items()}


def library_part(uns: Mapping[str, Any], library_id: str, part: str) -> Mapping[str, Any]:
    """``images``, ``scalefactors`` or ``metadata`` of a library."""
    return _mapping(libraries(uns).get(library_id, {}).get(part))


def scale_factor(scalefactors: Mapping[str, Any], name: str, *, library_id: str, owner: str = "adata") -> float:
    """A scale factor of a library, or NaN where it is unknown: absent, None, NaN or 0.

    Raises
    ------
    ValueError
        The value is text, negative or infinite: it was set, but is no scale.
    """
    value = scalefactors.get(name)
    if value is None:
        return np.nan
    number = np.asarray(value)
    fine = number.ndim == 0 and number.dtype.kind in "fiu"
    if fine and (number == 0 or np.isnan(number)):
        return np.nan
    if not fine or not np.isfinite(number) or number < 0:
        msg = (
            f"`{owner}.uns['spatial'][{library_id!r}]['scalefactors'][{name!r}]` must be a finite number above 0, "
            f"found {value!r}. Set it right, or delete it where it is not known."
        )
        raise ValueError(msg)
    return float(number)


def _mapping(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}
