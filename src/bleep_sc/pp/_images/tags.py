"""What the tags of a file say beside its pixels: µm per pixel and the names of its channels."""

import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

import numpy as np

from bleep_sc.pp._scale.witness import Witness

_PLAUSIBLE = (0.05, 10.0)
"""µm per pixel of what microscopes make of tissue. Outside of them resolution tags speak of printing; tags that only
microscopes write are wrong, often by a factor of 10, and only say so where another value is used."""
_SQUARE = 0.01
"""Width and height of a pixel may differ by so much; else neither is its size."""
_UNITS_UM = {"": 1.0, "µm": 1.0, "um": 1.0, "micron": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "Å": 1e-4}
_NGFF_UNITS_UM = {"nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "centimeter": 1e4, "meter": 1e6}
_RESOLUTION_UNITS_UM = {2: 25_400.0, 3: 10_000.0}
"""µm in TIFF's inch and centimetre."""
_APERIO = re.compile(r"\bMPP\s*=\s*([0-9.]+)")


def scale_of(tiff: Any, series: int) -> Witness | None:
    """Read how many µm a pixel of one image of a file has at full resolution; None where no tag says so."""
    page = tiff.series[series].keyframe
    for read in (_of_ome, _of_aperio, _of_imagej, _of_resolution):
        witness = read(tiff, series, page)
        if witness is not None:
            return witness
    return None


def scale_of_openslide(properties: Mapping[str, str]) -> Witness | None:
    """Read how many µm a pixel of a slide has, from what OpenSlide found in its file; None where it found nothing."""
    return _witness("the file, as OpenSlide reads it", *(_number(properties.get(f"openslide.mpp-{a}")) for a in "xy"))


def scale_of_ome_zarr(multiscale: Mapping[str, Any], dataset: Mapping[str, Any]) -> Witness | None:
    """Read how many µm a pixel of a level of OME-Zarr has; None where its axes have no unit of length.

    The scale of the level is multiplied by that of all levels. SpatialData names no unit.
    """
    axes = [axis for axis in multiscale.get("axes", ()) if isinstance(axis, Mapping)]
    sizes = {str(axis.get("name")): _NGFF_UNITS_UM.get(str(axis.get("unit")), 0.0) for axis in axes}
    for part in (dataset, multiscale):
        for each in part.get("coordinateTransformations", ()):
            if each.get("type") == "scale":
                sizes = {
                    axis: sizes[axis] * _number(by) for axis, by in zip(sizes, each.get("scale", ()), strict=False)
                }
    return _witness("the file's OME-Zarr metadata", sizes.get("x", 0.0), sizes.get("y", 0.0), of_microscope=True)


def channel_names(tiff: Any, series: int) -> list[str]:
    """Read the names of an image's channels from OME's metadata; none where there are none."""
    pixels = _ome_pixels(tiff, series)
    return [] if pixels is None else [channel.get("Name", "") for channel in pixels.iterfind("{*}Channel")]


def _of_ome(tiff: Any, series: int, page: Any) -> Witness | None:
    pixels = _ome_pixels(tiff, series)
    if pixels is None:
        return None
    sizes = []
    for axis in "XY":
        unit = _UNITS_UM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm").replace("\u03bc", "µ"))
        sizes.append(_number(pixels.get(f"PhysicalSize{axis}")) * (unit or 0))
    return _witness("the file's OME metadata (`PhysicalSizeX`)", *sizes, of_microscope=True)


def _of_aperio(tiff: Any, series: int, page: Any) -> Witness | None:
    found = _APERIO.search(str(page.description))
    size = _number(found.group(1)) if found else 0.0
    return _witness("the file's Aperio description (`MPP`)", size, size, of_microscope=True)


def _of_imagej(tiff: Any, series: int, page: Any) -> Witness | None:
    metadata = tiff.imagej_metadata or {}
    unit = _UNITS_UM.get(str(metadata.get("unit", "?")).replace("\\u00B5", "µ"))
    sizes = [(unit or 0) * _reciprocal(page, tag) for tag in ("XResolution", "YResolution")]
    return _witness("the file's ImageJ metadata", *sizes)


def _of_resolution(tiff: Any, series: int, page: Any) -> Witness | None:
    unit = _RESOLUTION_UNITS_UM.get(int(page.tags.valueof("ResolutionUnit", 2) or 0), 0.0)
    sizes = [unit * _reciprocal(page, tag) for tag in ("XResolution", "YResolution")]
    return _witness("the file's resolution tags", *sizes)


def _witness(source: str, width: float, height: float, *, of_microscope: bool = False) -> Witness | None:
    plausible = _PLAUSIBLE[0] <= width <= _PLAUSIBLE[1]
    if not (plausible or of_microscope) or not 0 < width < np.inf or abs(width - height) > _SQUARE * width:
        return None
    return Witness(source, (width + height) / 2, believed=plausible)


def _ome_pixels(tiff: Any, series: int) -> Any:
    """Find OME's description of an image; None where the file has none that can be read."""
    if not tiff.is_ome or not tiff.ome_metadata:
        return None
    try:
        images = ElementTree.fromstring(tiff.ome_metadata).findall("{*}Image")  # noqa: S314 - as tifffile itself reads it
    except ElementTree.ParseError:
        return None
    return images[series].find("{*}Pixels") if series < len(images) else None


def _reciprocal(page: Any, tag: str) -> float:
    """Read a tag in pixels for each unit as units for each pixel; 0 where it says nothing."""
    value = page.tags.valueof(tag, (0, 1))
    per_unit = value[0] / value[1] if isinstance(value, tuple) and len(value) == 2 and value[1] else 0.0
    return 1 / per_unit if per_unit > 0 else 0.0


def _number(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return 0.0
