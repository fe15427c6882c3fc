"""Open what a user names as an image: an ImageContainer, an element of SpatialData, a file, or a stored folder."""

import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bleep_sc._checks import check_number
from bleep_sc._side_effects import python_random_state_kept
from bleep_sc.pp._images.by_openslide import OpenSlideImage, check_is_read, needs_openslide, open_by_openslide
from bleep_sc.pp._images.elements import images_within, is_element, of_element, of_folder
from bleep_sc.pp._images.levels import shows_the_same
from bleep_sc.pp._images.patches import check_parts
from bleep_sc.pp._images.raster import RasterFile
from bleep_sc.pp._images.readers import quiet_readers, reader_errors_naming
from bleep_sc.pp._images.section import SectionImage, with_levels
from bleep_sc.pp._images.series import FileImage, ImageChoiceError, PagesAt, choose_image, images_of
from bleep_sc.pp._images.tags import scale_of
from bleep_sc.pp._images.tiff import TiffImage, lacks_codec

_EIGHT_BITS = 255
_OF_ZARR = (".zgroup", ".zarray", ".zattrs", "zarr.json")
"""Files by which a folder is a zarr store."""
_WRAPS = " Wrap the array of (rows, columns, 3) first: `import squidpy as sq`, `image = sq.im.ImageContainer(array)`."
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_image(
    image: Any,
    *,
    library_id: str,
    image_layer: str | None = None,
    series: int | str | None = None,
    name: str = "image",
) -> SectionImage:
    """Read an ImageContainer, an image element of SpatialData, or a file.

    It chooses the layer and the z plane of the library, or one of several images of a file.

    Raises
    ------
    TypeError
        `image` is none of these.
    ValueError
        The file is no image, or no single layer, plane or image can be chosen.
    """
    with python_random_state_kept():
        from squidpy.im import ImageContainer

    if isinstance(image, str | Path):
        path = existing_path(image)
        if path is None:
            msg = f"`{name}`: there is no file {str(image)[:500]!r}."
            raise FileNotFoundError(msg)
        if not path.is_dir():
            _choose_layer(["image"], image_layer, name=name)
            return _of_file(path, given=str(image), series=series, name=name)
        stored = _of_zarr(path, given=str(image), name=name)
        if stored is not None:
            return _single(stored, image_layer, series, name=name)
        if not any((path / record).exists() for record in _OF_ZARR):
            msg = f"`{name}`: {str(image)!r} is a folder; pass the image file in it."
            raise ValueError(msg)
        container, source = _stored_container(path, given=str(image), name=name), path.name
    elif is_element(image):
        return _single(of_element(image, name=name), image_layer, series, name=name)
    elif isinstance(image, ImageContainer):
        container, source = image, "ImageContainer"
    else:
        raise TypeError(_no_kind_of_image(image, name=name))
    _check_no_series(series, name=name)
    data = container[_choose_layer(list(container), image_layer, name=name)]
    attributes = container.data.attrs
    coords, padding = attributes.get("coords"), attributes.get("padding")
    offset = np.zeros(2) if coords is None else np.array([coords.x0, coords.y0], dtype=np.float64)
    if padding is not None:  # a crop that was padded holds that much more before its first real pixel
        offset -= [padding.x_pre, padding.y_pre]
    scale = check_number(f"{name}.data.attrs['scale']", attributes.get("scale", 1), above=0)
    plane = _choose_plane([str(z) for z in container.library_ids], library_id, name=name)
    is_part = any(any(reach.to_tuple()) for reach in (coords, padding) if reach is not None)
    return SectionImage(data.data[:, :, plane, :], scale, offset, source, is_part)


def existing_path(path: Any) -> Path | None:
    """Return the path of a file or folder; None if there is none at that path.

    Nothing else is ever opened: to read from a pipe or a device may never end.
    """
    try:
        expanded = Path(path).expanduser()
        mode = expanded.stat().st_mode if str(path) else 0
    except (OSError, RuntimeError, TypeError, ValueError):  # too long, of an unknown home, or no path at all
        return None
    return expanded if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else None


def check_series(series: Any) -> None:
    """Refuse what cannot be the number or the name of an image."""
    fine = series is None or isinstance(series, str | int | np.integer)
    if not fine or isinstance(series, bool) or (not isinstance(series, str) and series is not None and series < 0):
        msg = f"`series` must be the number or the name of an image in a TIFF, found {series!r}."
        raise ValueError(msg)


def _of_file(path: Path, *, given: str, series: int | str | None, name: str) -> SectionImage:
    check_is_read(path, name=name)
    lower: list[Any]
    try:
        with quiet_readers():
            if needs_openslide(path):
                image, lower = open_by_openslide(path, name=name)
            elif _is_tiff(path):
                image, lower = _of_tiff(path, series=series, name=name)
            else:
                image, lower = SectionImage(RasterFile.of(path), 1.0, np.zeros(2), path.name), []
    except ImageChoiceError:
        raise
    except Exception as err:  # each reader has errors of its own
        raise _no_image(given, err, name=name) from err
    if isinstance(image.array, RasterFile | OpenSlideImage):
        _check_no_series(series, name=name)
        return with_levels(image, lower)
    full, *lower = _settled([image.array, *lower], name=name)
    return with_levels(replace(image, array=full), lower)


def _of_tiff(path: Path, *, series: int | str | None, name: str) -> tuple[SectionImage, list[Any]]:
    """Open the image that shows the section, and its lower levels."""
    from tifffile import TiffFile

    with TiffFile(path) as tiff:

        def level(image: FileImage, pages: PagesAt) -> TiffImage:
            assert image.colors is not None  # noqa: S101 - `choose_image` sees to it
            return TiffImage.of(path.resolve(), tiff, pages, image.colors)

        def same(whole: FileImage, smaller: FileImage) -> bool | None:
            with reader_errors_naming(name):
                return shows_the_same(level(whole, whole.levels[0]), level(smaller, smaller.levels[0]))

        chosen, findings = choose_image(images_of(tiff), series, same=same, name=name, file=path.name)
        if lacks_codec(chosen.levels[0].of(tiff)[0]):
            return open_by_openslide(path, name=name, why="holds JPEG 2000, for which no codec is installed")
        full, *lower = [level(chosen, pages) for pages in chosen.levels]
        tag = scale_of(tiff, chosen.levels[0].series)
    return SectionImage(full, 1.0, np.zeros(2), path.name, tag=tag, findings=tuple(findings)), lower


def _check_no_series(series: int | str | None, *, name: str) -> None:
    if series is not None:
        msg = f"`series={series!r}` chooses one of the images in a TIFF, and `{name}` is none: leave `series` out."
        raise ValueError(msg)


def _settled(levels: list[TiffImage], *, name: str) -> list[TiffImage]:
    """Settle the range of the values of all levels by the smallest one."""
    if levels[-1].colors.maximum == _EIGHT_BITS:
        return levels
    check_parts(levels[-1], name=name)
    with reader_errors_naming(name), quiet_readers():
        colors = levels[-1].in_eight_bits().colors
    return [replace(level, colors=colors) for level in levels]


def _is_tiff(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in _TIFF_SIGNATURES


def _of_zarr(path: Path, *, given: str, name: str) -> SectionImage | None:
    try:
        with quiet_readers():
            return of_folder(path, name=name)
    except ImageChoiceError:
        raise
    except Exception as err:  # each reader has errors of its own
        raise _no_image(given, err, name=name) from err


def _single(image: SectionImage, image_layer: str | None, series: int | str | None, *, name: str) -> SectionImage:
    """Return what is one image only, of which none can be chosen."""
    _choose_layer(["image"], image_layer, name=name)
    _check_no_series(series, name=name)
    return image


def _no_kind_of_image(image: Any, *, name: str) -> str:
    images = images_within(image)
    if images is None:
        return (
            f"`{name}` must be a squidpy ImageContainer, an image of SpatialData or a path, found "
            f"{type(image).__name__}." + (_WRAPS if isinstance(image, np.ndarray) else "")
        )
    return (
        f"`{name}` is a whole SpatialData object. Pass one of its images, {', '.join(map(repr, images)) or 'none'}: "
        "`sdata[NAME]`. The spots in pixels of that image come from `bl.io.from_spatialdata(sdata, table=..., "
        "image=NAME)`."
    )


def _stored_container(path: Path, *, given: str, name: str) -> Any:
    with python_random_state_kept():
        from squidpy.im import ImageContainer

    try:
        with quiet_readers():
            container = ImageContainer(str(path))
        if not list(container):
            msg = "it holds no image"
            raise ValueError(msg)
        return container
    except Exception as err:  # each reader has errors of its own
        raise _no_image(given, err, name=name) from err


def _no_image(given: str, err: Exception, *, name: str) -> ValueError:
    return ValueError(
        f"`{name}`: {given!r} could not be read as an image ({err}). JPEG, PNG, TIFF (OME-TIFF and SVS too) and "
        'squidpy\'s zarr stores are read, and other slides by OpenSlide (`pip install "bleep-sc[slides]"`): convert '
        "the rest to TIFF first, or pass an ImageContainer."
    )


def _choose_layer(layers: list[str], image_layer: str | None, *, name: str) -> str:
    if image_layer is None:
        if len(layers) != 1:
            msg = f"`{name}` has the layers {layers}: choose one by `image_layer`."
            raise ValueError(msg)
        return layers[0]
    if image_layer not in layers:
        msg = f"`{name}` has no layer {image_layer!r}; it has {layers}."
        raise ValueError(msg)
    return image_layer


def _choose_plane(planes: list[str], library_id: str, *, name: str) -> int:
    if len(planes) == 1:
        return 0
    if library_id not in planes:
        msg = (
            f"`{name}` has {len(planes)} planes, for the libraries {planes}, and none for {library_id!r}. Name them by "
            "`container.library_ids = [...]`, or pass a mapping from library to image."
        )
        raise ValueError(msg)
    return planes.index(library_id)
