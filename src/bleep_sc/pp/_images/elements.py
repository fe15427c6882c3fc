"""Images of SpatialData and OME-Zarr: channels first, at one scale or several, read in parts wherever they lie."""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bleep_sc import _keys
from bleep_sc._untrusted import ZARRAY, check_never_pickled
from bleep_sc.pp._images.section import SectionImage, with_levels
from bleep_sc.pp._images.series import ImageChoiceError
from bleep_sc.pp._images.tags import scale_of_ome_zarr
from bleep_sc.pp._scale.witness import Witness

_METADATA = ("zarr.json", ".zattrs")
"""Where a group keeps its attributes: zarr 3, then zarr 2."""
_COLOURS = {"r": 0, "red": 0, "g": 1, "green": 1, "b": 2, "blue": 2, "a": 3, "alpha": 3}
"""Place of each colour, by the names that channels have."""


@dataclass(frozen=True)
class Raster:
    """The levels of an image as they are stored, from fine to coarse."""

    levels: Sequence[Any]
    """Arrays: NumPy or dask."""
    axes: tuple[str, ...]
    """Name of each axis."""
    channels: tuple[str, ...]
    """Name of each channel; none where they have no names."""
    tag: Witness | None = None
    """What the file says of its scale."""


def is_element(image: Any) -> bool:
    """Whether an object is an image element of SpatialData; a DataTree is a Mapping too, so ask this first."""
    xarray = sys.modules.get("xarray")  # without it there is none
    return xarray is not None and isinstance(image, xarray.DataArray | xarray.DataTree)


def images_within(image: Any) -> list[str] | None:
    """Names of the images that a SpatialData object holds; None of what is none."""
    spatialdata = sys.modules.get("spatialdata")
    return list(image.images) if spatialdata is not None and isinstance(image, spatialdata.SpatialData) else None


def of_element(element: Any, *, name: str) -> SectionImage:
    """Take an image element, a DataArray or a DataTree of them, without reading a pixel of it."""
    return _section(_raster(element, name=name), source="SpatialData", name=name)


def of_folder(path: Path, *, name: str) -> SectionImage | None:
    """Open an image that lies in a folder as OME-Zarr, as SpatialData stores it; None of any other folder.

    Raises
    ------
    ImageChoiceError
        The folder is a SpatialData store, of which an image must be named; the image is none of H&E.
    """
    attributes = group_attributes(path)
    multiscales = attributes.get("ome", attributes).get("multiscales")
    if multiscales:
        return _section(_stored(path, attributes.get("ome", attributes), name=name), source=path.name, name=name)
    # the oldest stores do not say what they are; elements of a store say what kind they are
    if ("encoding-type" not in attributes and _keys.SPATIALDATA in attributes) or (
        path / "images" / ".zgroup"
    ).exists():
        names = names_within(path / "images")
        msg = (
            f"`{name}`: {path.name!r} is a SpatialData store with the images {names}. Pass one of them by its path, "
            f"such as {f'{path.name}/images/{names[0]}' if names else 'sample.zarr/images/NAME'!r}. Its spots, in "
            f"pixels of that image, come from `bl.io.from_spatialdata({path.name!r}, table=..., image=...)`."
        )
        raise ImageChoiceError(msg)
    if within := [child for child in names_within(path) if _is_image(path / child)]:
        paths = " or ".join(repr(f"{path.name}/{child}") for child in within[:6])
        msg = f"`{name}`: {path.name!r} is a folder of images. Pass one of them by its path, such as {paths}."
        raise ImageChoiceError(msg)
    return None


def _is_image(folder: Path) -> bool:
    attributes = group_attributes(folder)
    return bool(attributes.get("ome", attributes).get("multiscales"))


def names_within(folder: Path) -> list[str]:
    """Names of what lies in a folder of a store; none where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def group_attributes(path: Path) -> dict[str, Any]:
    """Read the attributes of a group of a zarr store, of either format; none where there is no group."""
    for file in _METADATA:
        with suppress(OSError, ValueError):
            content = json.loads((path / file).read_text(encoding="utf-8"))
            attributes = content.get("attributes", {}) if file == _METADATA[0] else content
            return attributes if isinstance(attributes, dict) else {}
    return {}


def _raster(element: Any, *, name: str) -> Raster:
    from xarray import DataArray

    arrays = [element]
    if not isinstance(element, DataArray):
        arrays = [variable for child in element.children.values() for variable in child.data_vars.values()]
        if not arrays or len(arrays) != len(element.children):
            msg = (
                f"`{name}` is a DataTree of {len(element.children)} groups with {len(arrays)} arrays; an image of "
                "SpatialData has one array in each of its groups `scale0`, `scale1` and so on."
            )
            raise ImageChoiceError(msg)
        arrays = sorted(arrays, key=lambda array: -array.sizes.get("x", 0))
    first = arrays[0]
    channels = first.coords["c"].to_numpy().tolist() if "c" in first.coords else []
    axes = tuple(map(str, first.dims))
    return Raster([array.transpose(*first.dims).data for array in arrays], axes, tuple(map(str, channels)))


def _stored(path: Path, attributes: Mapping[str, Any], *, name: str) -> Raster:
    """Open the levels of an OME-Zarr image; older ones name no axes, which are then t, c, z, y and x."""
    import dask.array as da
    import zarr

    multiscale = attributes["multiscales"][0]
    check_never_pickled([path / each["path"] / ZARRAY for each in multiscale["datasets"]], where=f"`{name}`")
    stored = [(da.from_zarr(zarr.open_array(path / each["path"], mode="r")), each) for each in multiscale["datasets"]]
    stored.sort(key=lambda pair: -pair[0].size)  # from fine to coarse is a rule that a file may break
    axes = tuple(axis["name"] if isinstance(axis, dict) else str(axis) for axis in multiscale.get("axes", "tczyx"))
    channels = attributes.get("omero", {}).get("channels", [])
    tag = scale_of_ome_zarr(multiscale, stored[0][1])
    return Raster([level for level, _ in stored], axes, tuple(str(each.get("label", "")) for each in channels), tag)


def _section(raster: Raster, *, source: str, name: str) -> SectionImage:
    """Lay the axes as y, x and channels, and the channels as red, green and blue."""
    single = tuple(
        number for number, axis in enumerate(raster.axes) if axis not in "cyx" and raster.levels[0].shape[number] == 1
    )
    axes = [axis for number, axis in enumerate(raster.axes) if number not in single]
    if sorted(axes) != ["c", "x", "y"] or raster.levels[0].ndim != len(raster.axes):
        kind = "It looks like labels, which are no image." if sorted(axes) == ["x", "y"] else "Choose a single plane."
        shape = " x ".join(map(str, raster.levels[0].shape))
        msg = f"`{name}` has the axes {', '.join(raster.axes)} ({shape}); an H&E image has c, y and x. {kind}"
        raise ImageChoiceError(msg)
    dtype = raster.levels[0].dtype
    if dtype.kind != "f" and dtype not in (np.uint8, np.bool_):
        msg = (
            f"`{name}` holds {dtype}, whose white is not known; 8 bits (uint8) are expected. If it is an H&E image of "
            "16 bits, bring it to 8: `Image2DModel.parse((image / 257).astype('uint8'), ...)`."
        )
        raise ImageChoiceError(msg)
    order = _order_of_colours(raster.channels, n_channels=raster.levels[0].shape[raster.axes.index("c")], name=name)
    place = [axes.index(axis) for axis in "yxc"]
    arrays = [level.squeeze(single).transpose(place) for level in raster.levels]
    full, *lower = arrays if order is None else [array[..., order] for array in arrays]
    return with_levels(SectionImage(full, 1.0, np.zeros(2), source, tag=raster.tag), lower)


def _order_of_colours(channels: Sequence[str], *, n_channels: int, name: str) -> list[int] | None:
    """Say which channel is red, green, blue and opacity; None where the channels stand in that order already."""
    names = [channel.strip().lower() for channel in channels]
    if all(channel == str(number) for number, channel in enumerate(names)) or not any(names):
        return None
    places = [_COLOURS.get(channel) for channel in names]
    if len(names) == n_channels and sorted(place for place in places if place is not None) == list(range(len(names))):
        order = [places.index(place) for place in range(len(names))]
        if len(order) > 2:
            return None if order == sorted(order) else order
    msg = (
        f"`{name}` has the channels {', '.join(map(repr, channels))}: those of an H&E image are red, green and blue. "
        "If they are, name them so: `sdata.set_channel_names(NAME, ['r', 'g', 'b'])`. A fluorescence image is no H&E "
        "image."
    )
    raise ImageChoiceError(msg)
