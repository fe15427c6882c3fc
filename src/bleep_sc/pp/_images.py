"""Turn what a user has, an ImageContainer or a file, into one RGB image with its place in the section."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bleep_sc._checks import check_number
from bleep_sc._library import library_part, scale_factor
from bleep_sc._side_effects import python_random_state_kept
from bleep_sc.pp._tiff import TiffImage


@dataclass(frozen=True)
class SectionImage:
    """An image of one section and where its pixels lie.

    A spot at `xy` of ``obsm["spatial"]`` is centred on the pixel ``xy * scale - offset`` of `array`.
    """

    array: Any
    """The image (y, x, channels): NumPy, dask or a :class:`TiffImage`."""
    scale: float
    """Pixels of this image per full-resolution pixel."""
    offset: np.ndarray
    """Place of the first pixel, x and y in pixels of this image; it is not zero in a crop of a larger image."""
    source: str

    @property
    def width_height(self) -> np.ndarray:
        """Size of the image in pixels, x first."""
        return np.array([self.array.shape[1], self.array.shape[0]])

    def centres(self, xy: np.ndarray) -> np.ndarray:
        """Compute the spot centres in pixels of this image, not rounded."""
        return xy * self.scale - self.offset


def open_image(image: Any, *, library_id: str, image_layer: str | None = None, name: str = "image") -> SectionImage:
    """Read an ImageContainer or a file, choosing the layer and the z plane of the library.

    Raises
    ------
    TypeError
        `image` is neither an ImageContainer nor a path.
    ValueError
        The file is no image, or no single layer or plane can be chosen.
    """
    with python_random_state_kept():
        from squidpy.im import ImageContainer

    if isinstance(image, str | Path):
        path = existing_path(image)
        if path is None:
            msg = f"`{name}`: there is no file {str(image)[:500]!r}."
            raise FileNotFoundError(msg)
        try:
            with quiet_readers():
                tiff = TiffImage.find(path)
                container: Any = None if tiff else ImageContainer(str(path))
        except Exception as err:  # each reader has errors of its own
            msg = (
                f"`{name}`: {str(image)!r} could not be read as an image ({err}). JPEG, PNG, TIFF (OME-TIFF and SVS "
                "too) and squidpy's zarr stores are read: convert other slide formats to TIFF first, or pass an "
                "ImageContainer."
            )
            raise ValueError(msg) from err
        if tiff is not None:
            _layer(["image"], image_layer, name=name)
            return SectionImage(tiff, 1.0, np.zeros(2), path.name)
        source = path.name
    elif isinstance(image, ImageContainer):
        container, source = image, "ImageContainer"
    else:
        msg = f"`{name}` must be a squidpy ImageContainer or a path, found {type(image).__name__}."
        raise TypeError(msg)

    data = container[_layer(list(container), image_layer, name=name)]
    attributes = container.data.attrs
    coords, padding = attributes.get("coords"), attributes.get("padding")
    offset = np.zeros(2) if coords is None else np.array([coords.x0, coords.y0], dtype=np.float64)
    if padding is not None:  # a crop that was padded holds that much more before its first real pixel
        offset -= [padding.x_pre, padding.y_pre]
    scale = check_number(f"{name}.data.attrs['scale']", attributes.get("scale", 1), above=0)
    plane = _plane([str(z) for z in container.library_ids], library_id, name=name)
    return SectionImage(data.data[:, :, plane, :], scale, offset, source)


def existing_path(path: Any) -> Path | None:
    """Return the path of a file or folder; None if there is none at that path."""
    try:
        expanded = Path(path).expanduser()
        return expanded if str(path) and expanded.exists() else None
    except (OSError, RuntimeError, TypeError, ValueError):  # too long, of an unknown home, or no path at all
        return None


def hires_image(adata_uns: Mapping[str, Any], library_id: str) -> SectionImage | None:
    """Return the small image that travels in ``uns["spatial"]``; None without an image or a known scale."""
    image = library_part(adata_uns, library_id, "images").get("hires")
    factors = library_part(adata_uns, library_id, "scalefactors")
    scale = scale_factor(factors, "tissue_hires_scalef", library_id=library_id)
    if image is None or np.isnan(scale):
        return None
    array = np.asarray(image)
    if array.ndim not in (2, 3):
        msg = (
            f"`adata.uns['spatial'][{library_id!r}]['images']['hires']` must be an image (y, x, channels), found the "
            f"shape {array.shape}. Pass `image=`, an ImageContainer or a path."
        )
        raise ValueError(msg)
    return SectionImage(array if array.ndim == 3 else array[..., None], scale, np.zeros(2), "hires image")


@contextmanager
def reader_errors_naming(name: str) -> Iterator[None]:
    """Turn an error while an image is read, of any reader, into a ValueError that names the image."""
    try:
        yield
    except Exception as err:  # each reader and codec has errors of its own
        reason = " ".join(str(err).split()).split(" Please see documentation")[0]
        msg = f"the pixels of `{name}` could not be read, its file may be cut short or damaged: {reason}"
        raise ValueError(msg) from err


@contextmanager
def quiet_readers() -> Iterator[None]:
    """Hide messages of image readers that are not for our users."""
    with warnings.catch_warnings():
        # Pillow's size limit guards against images from strangers; this one is the user's own slide
        warnings.filterwarnings("ignore", message="Image size .* exceeds limit")
        # how squidpy reads a file is squidpy's to mend
        warnings.filterwarnings("ignore", message="The plugin infrastructure in `skimage.io`", category=FutureWarning)
        yield


def check_rgb(array: Any, *, name: str) -> None:
    """Refuse what cannot be turned into RGB uint8, before any pixel is read."""
    height, width, channels = array.shape
    if not height or not width:
        msg = f"`{name}` is empty, {width} x {height} pixels: was it cropped to nothing?"
        raise ValueError(msg)
    if channels not in (1, 3, 4):
        msg = (
            f"`{name}` has {channels} channels; an H&E image has 3 (RGB), 4 (RGBA) or 1 (grey). Choose the stained "
            "channels, or an ImageContainer layer that holds them."
        )
        raise ValueError(msg)
    if array.dtype.kind not in "uif" and array.dtype != bool:
        msg = f"`{name}` must hold numbers, found {array.dtype}."
        raise ValueError(msg)


def to_rgb(array: np.ndarray, *, name: str) -> np.ndarray:
    """Turn an image (y, x, 1 | 3 | 4) into RGB uint8: floats are taken as 0..1, transparency is laid on white.

    Raises
    ------
    ValueError
        The image holds integers above 255 or floats outside 0..1, whose scale is not known.
    """
    if array.dtype != np.uint8:
        low, high = (array.min(), array.max()) if array.size else (0, 0)
        if array.dtype.kind == "f":
            if not np.isfinite([low, high]).all():
                msg = f"`{name}` holds NaN or infinite values. Replace them, as by 1 (white)."
                raise ValueError(msg)
            if not (low >= 0 and high <= 1):
                msg = (
                    f"`{name}` holds floats from {low:.3g} to {high:.3g}; 0 to 1 is expected. Divide it by its largest "
                    "possible value, or convert it to uint8."
                )
                raise ValueError(msg)
            array = np.rint(array * 255).astype(np.uint8)
        elif low < 0 or high > 255:
            msg = (
                f"`{name}` is {array.dtype} with values from {low} to {high}; 0 to 255 is expected. Scale it to uint8, "
                "as by `skimage.util.img_as_ubyte`."
            )
            raise ValueError(msg)
        else:
            array = (array * 255 if array.dtype == bool else array).astype(np.uint8)
    if array.shape[2] == 1:
        return np.repeat(array, 3, axis=2)
    if array.shape[2] == 4:
        alpha = array[..., 3:].astype(np.uint16)
        if (alpha == 255).all():
            return array[..., :3]
        return ((array[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return array


def _layer(layers: list[str], image_layer: str | None, *, name: str) -> str:
    if image_layer is None:
        if len(layers) != 1:
            msg = f"`{name}` has the layers {layers}: choose one by `image_layer`."
            raise ValueError(msg)
        return layers[0]
    if image_layer not in layers:
        msg = f"`{name}` has no layer {image_layer!r}; it has {layers}."
        raise ValueError(msg)
    return image_layer


def _plane(planes: list[str], library_id: str, *, name: str) -> int:
    if len(planes) == 1:
        return 0
    if library_id not in planes:
        msg = (
            f"`{name}` has {len(planes)} planes, for the libraries {planes}, and none for {library_id!r}. Name them by "
            "`container.library_ids = [...]`, or pass a mapping from library to image."
        )
        raise ValueError(msg)
    return planes.index(library_id)
