"""Tissue that somebody has drawn: polygons in full-resolution pixels, from LazySlide, GeoPandas or QuPath."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bleep_sc._progress import progress

_MOST_BYTES = 512 * 2**20
"""Largest GeoJSON that is read: of tissue it has kilobytes, and of every nucleus of a slide some hundred megabytes."""
_NO_REGIONS = frozenset({"detection", "cell", "tile", "tma core"})
"""Kinds of objects by which QuPath does not mean a region that was drawn (``properties.objectType``)."""
_IGNORED = "*"
"""End of the names of QuPath's classes that are to be ignored."""
_MANY = 5000
"""More polygons than that take more than a second or two."""


class PolygonError(ValueError):
    """Polygons cannot be taken as tissue; the text continues a sentence that begins with the name of the argument."""


def rasterised(shapes: Iterable[tuple[Any, bool]], size: tuple[int, int], factor: np.ndarray) -> np.ndarray:
    """Draw polygons as tissue, or as holes in it (y, x).

    Parameters
    ----------
    shapes
        Polygons of shapely in full-resolution pixels, each with whether it is tissue. Holes are drawn last.
    size
        Height and width of the picture.
    factor
        Its pixels per full-resolution pixel, x and y.
    """
    out = np.zeros(size, dtype=bool)
    holes_last = sorted(shapes, key=lambda each: not each[1])
    show = None if len(holes_last) > _MANY else False
    for shape, is_tissue in progress(holes_last, desc="Drawing tissue", show=show):
        rings = [np.asarray(ring.coords)[:, :2] * factor - 0.5 for ring in (shape.exterior, *shape.interiors)]
        # only where the polygon is: of slides with every nucleus drawn there are hundreds of thousands
        low, high = (np.clip(edge, 0, size[::-1]).astype(np.int64) for edge in _bounds(rings[0]))
        window, part = out[low[1] : high[1], low[0] : high[0]], _drawn([ring - low for ring in rings], high - low)
        window[...] = window | part if is_tissue else window & ~part
    return out


def _bounds(ring: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.floor(ring.min(axis=0)), np.ceil(ring.max(axis=0)) + 1


def _drawn(rings: list[np.ndarray], width_height: np.ndarray) -> np.ndarray:
    """Draw an outline and its holes (y, x)."""
    from skimage.draw import polygon

    part = np.zeros(width_height[::-1], dtype=bool)
    for number, (x, y) in enumerate(ring.T for ring in rings):
        # pixel i reaches from i to i + 1, and scikit-image asks whether its centre, taken as i, is inside
        part[polygon(y, x, part.shape)] = number == 0
    return part


def polygons_of(shapes: Any) -> list[tuple[Any, bool]]:
    """Take polygons from a GeoDataFrame, a GeoSeries, or one or more of shapely's shapes."""
    from shapely.geometry.base import BaseGeometry

    geometry = getattr(shapes, "geometry", shapes)
    geometry = [geometry] if isinstance(geometry, BaseGeometry) else list(geometry)
    if not all(isinstance(shape, BaseGeometry | None) for shape in geometry):
        msg = f"must be an array, polygons or the path of a GeoJSON, found {type(shapes).__name__} of other things"
        raise PolygonError(msg)
    return _checked([(part, True) for shape in geometry if shape is not None for part in _parts(shape)])


def polygons_in_geojson(path: Path) -> list[tuple[Any, bool]]:
    """Read the regions of a GeoJSON file, such as QuPath exports; classes whose names end in ``*`` are holes."""
    from shapely.geometry import shape

    if path.stat().st_size > _MOST_BYTES:
        msg = f"has {path.stat().st_size / 2**20:.0f} MiB, more than the {_MOST_BYTES / 2**20:.0f} MiB that are read"
        raise PolygonError(msg)
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as err:
        msg = f"is no GeoJSON ({err}); QuPath writes it by File > Export objects as GeoJSON, uncompressed"
        raise PolygonError(msg) from err
    found: list[tuple[Any, bool]] = []
    for geometry, properties in _features(content):
        if str(properties.get("objectType", "")).lower() in _NO_REGIONS:
            continue
        try:
            found += [(part, not _is_ignored(properties)) for part in _parts(shape(geometry))]
        except Exception as err:  # shapely has many errors for what is no geometry
            msg = f"holds a geometry that cannot be read ({str(err)[:200]})"
            raise PolygonError(msg) from err
    return _checked(found)


def _features(content: Any) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Give the geometry and the properties of each feature, however they are wrapped."""
    if isinstance(content, list):
        for each in content:
            yield from _features(each)
    elif isinstance(content, Mapping) and "features" in content:
        yield from _features(content["features"])
    elif isinstance(content, Mapping) and isinstance(content.get("geometry"), Mapping):
        properties = content.get("properties")
        yield content["geometry"], properties if isinstance(properties, Mapping) else {}
    elif isinstance(content, Mapping) and {"type", "coordinates"} <= content.keys():
        yield content, {}
    elif isinstance(content, Mapping) and isinstance(content.get("geometries"), list):
        yield from _features(content["geometries"])


def _is_ignored(properties: Mapping[str, Any]) -> bool:
    named = properties.get("classification")
    return isinstance(named, Mapping) and str(named.get("name", "")).endswith(_IGNORED)


def _parts(shape: Any) -> Iterator[Any]:
    """Give the polygons of a shape; points and lines have no area."""
    if shape.geom_type == "Polygon":
        if not shape.is_empty:
            yield shape
    elif hasattr(shape, "geoms"):
        for part in shape.geoms:
            yield from _parts(part)


def _checked(found: list[tuple[Any, bool]]) -> list[tuple[Any, bool]]:
    if not any(is_tissue for _, is_tissue in found):
        msg = "holds no polygon of tissue"
        raise PolygonError(msg)
    if not all(np.isfinite(polygon.bounds).all() for polygon, _ in found):
        msg = "holds coordinates that are NaN or infinite"
        raise PolygonError(msg)
    return found
