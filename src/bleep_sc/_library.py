"""Read what `uns["spatial"]` says of a library; where it holds no mapping, it says nothing."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from bleep_sc import _keys
from bleep_sc._checks import check_in, check_number

SPOT_DIAMETER_FROM = "spot_diameter_from"
"""Entry of the metadata of a slide without measured spots: "argument", or where no spot of its own was measured.

That is "reference", the diameter of the reference's spots, "tile", the width of tiles, or "lattice", the distance
between places that were laid on the slide: none of them tells a scale.
"""
OWN_DIAMETER = "argument"
"""Value of that entry where the user said how wide the slide's own spots are."""

SOURCE_IMAGE_PATH = "source_image_path"
"""Entry of the metadata with the path of the section's image, as squidpy writes it."""


def libraries(uns: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return every library by its name."""
    return {str(name): _mapping(entry) for name, entry in _mapping(uns.get(_keys.SPATIAL)).items()}


def library_part(uns: Mapping[str, Any], library_id: str, part: str) -> Mapping[str, Any]:
    """Return a part of a library: ``images``, ``scalefactors`` or ``metadata``."""
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
    number = number.reshape(()) if number.size == 1 else number  # R writes a number as an array of one
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


def checked_libraries(uns: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Read what `uns["spatial"]` holds of each section."""
    libraries = uns.get(_keys.SPATIAL, {})
    for path, entry in [("", libraries), *(_parts(libraries) if isinstance(libraries, Mapping) else ())]:
        if not isinstance(entry, Mapping):
            msg = (
                f"`adata.uns['spatial']{path}` must be a dict, as `squidpy.read.visium` stores it, found {entry!r}. "
                "`del adata.uns['spatial']` draws without pictures."
            )
            raise ValueError(msg)
    return dict(libraries)


def needed_scale_factor(library: Mapping[str, Any], name: str, factor: str) -> float:
    """Read a scale factor of a section, a number above 0."""
    factors = library.get("scalefactors", {})
    check_in(
        f"adata.uns['spatial'][{name!r}]['scalefactors']",
        factor,
        factors,
        remedy="It tells where spots lie on the image, as `squidpy.read.visium` stores it.",
    )
    value = factors[factor]
    value = np.asarray(value).item() if np.size(value) == 1 and not isinstance(value, str | bytes) else value
    return check_number(f"adata.uns['spatial'][{name!r}]['scalefactors'][{factor!r}]", value, above=0)


def _parts(libraries: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Give the path and the value of everything in `uns["spatial"]` that must be a dict."""
    for name, library in libraries.items():
        yield f"[{name!r}]", library
        for part in ("images", "scalefactors"):
            if isinstance(library, Mapping) and part in library:
                yield f"[{name!r}][{part!r}]", library[part]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
