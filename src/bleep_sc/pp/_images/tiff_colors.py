"""What the samples of a TIFF mean: each colour model that a file can state becomes RGB, or is refused by its name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

_JPEG, JPEG_2000 = frozenset({6, 7, 34892, 33007}), frozenset({33003, 33004, 33005, 34712})
_APERIO_YCBCR, _APERIO_RGB = 33003, 33005
"""Aperio's kinds of JPEG 2000: they hold YCbCr and RGB whatever the photometric tag says (as OpenSlide reads them)."""
_COEFFICIENTS, _REFERENCES = (0.299, 0.587, 0.114), (0.0, 255.0, 128.0, 255.0, 128.0, 255.0)
"""What TIFF 6.0 (section 21) supposes of YCbCr where a file says nothing."""
_PREMULTIPLIED, _ALPHA = 1, 2
"""Two kinds of ExtraSamples; the third, 0, is unspecified and no part of the picture."""
_EIGHT_BITS = 255
_N_COLORS = {"gray": 1, "white is zero": 1, "palette": 1, "CMYK": 4}
"""Number of samples that make up a colour; three in all other models."""


class ColorError(ValueError):
    """The colours of a file cannot be told, or are not those of a brightfield image; the text goes on from "it "."""


class NoBrightfieldError(ColorError):
    """The image is of another kind than a section in brightfield."""


@dataclass(frozen=True, eq=False)
class StoredColors:
    """How the samples of an image become RGB. It can be pickled."""

    model: str
    """Key of `_MODELS`."""
    maximum: int | None
    """Value of a full sample; None of floats, which are 0 to 1."""
    alpha: int | None = None
    """Number of the sample that holds the opacity."""
    premultiplied: bool = False
    """Whether the colours are multiplied by the opacity already."""
    palette: np.ndarray | None = None
    """The colour of each index, uint8 (n, 3)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of what `rgb` returns."""
        return np.dtype(np.uint8 if self.maximum is not None else np.float32)

    @property
    def gray(self) -> bool:
        """Whether the image has no colours."""
        return self.model in ("gray", "white is zero")

    def rgb(self, samples: np.ndarray) -> np.ndarray:
        """Turn samples (y, x, n) into RGB (y, x, 3), laid on white where they are transparent."""
        if self.maximum is None:
            colors = samples[..., :1].repeat(3, axis=2) if self.gray else samples[..., :3]
            return colors.astype(np.float32, copy=False)
        if self.palette is None:
            samples = _eight_bits(samples, self.maximum)
        colors = _MODELS[self.model](samples, self)
        if self.alpha is None:
            return colors
        return over_white(colors, samples[..., self.alpha], premultiplied=self.premultiplied)


def stored_colors(page: Any, *, channels: Sequence[str] = (), n_pages: int = 1) -> StoredColors:
    """Read from the tags of a page what its samples mean.

    Parameters
    ----------
    page
        The page of tifffile.
    channels
        Names of the channels, where the file names them.
    n_pages
        Number of pages that hold a channel each.

    Raises
    ------
    ColorError
        The colours are not read.
    """
    samples = n_pages * page.samplesperpixel
    if page.dtype is None:
        msg = f"holds samples of a kind that is not read (SampleFormat {page.sampleformat}, {page.bitspersample} bits)"
        raise ColorError(msg)
    _check_compression(page)
    model = _model(page, samples, channels)
    maximum = _maximum(page, model)
    alpha, premultiplied = _opacity(page, _N_COLORS.get(model, 3))
    if alpha is not None and (maximum is None or (model == "palette" and maximum != _EIGHT_BITS)):
        msg = f"holds {'floats' if maximum is None else 'a palette of other than 8 bits'} with an opacity"
        raise ColorError(msg)
    return StoredColors(model, maximum, alpha, premultiplied, _palette(page) if model == "palette" else None)


def over_white(colors: np.ndarray, opacity: np.ndarray, *, premultiplied: bool) -> np.ndarray:
    """Lay colours, uint8 (y, x, 3), on white by their opacity, uint8 (y, x)."""
    if (opacity == _EIGHT_BITS).all():
        return colors
    opacity = opacity[..., None].astype(np.uint16)
    white = _EIGHT_BITS * (_EIGHT_BITS - opacity)
    if premultiplied:
        return np.minimum(colors + (white + 127) // _EIGHT_BITS, _EIGHT_BITS).astype(np.uint8)
    return ((colors * opacity + white + 127) // _EIGHT_BITS).astype(np.uint8)


def lab_to_rgb(samples: np.ndarray) -> np.ndarray:
    """Turn CIELab (L* of 0 to 255; signed a* and b*; white D50), uint8 (y, x, 3), into sRGB by Little CMS."""
    from PIL import Image, ImageCms

    pixels = Image.frombytes("LAB", samples.shape[1::-1], samples[..., :3].tobytes(), "raw", "LAB")
    return np.asarray(ImageCms.applyTransform(pixels, _lab_transform()))


@cache
def _lab_transform() -> Any:
    from PIL import ImageCms

    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")


def _model(page: Any, samples: int, channels: Sequence[str]) -> str:
    """Find the colour model; the codecs of some compressions turn YCbCr into RGB themselves."""
    photometric, compression = page.photometric, page.compression
    if compression == _APERIO_YCBCR:
        return "YCbCr"
    if compression == _APERIO_RGB:
        return "RGB"
    reader = _PHOTOMETRIC.get(int(photometric))
    if reader is None:
        msg = f"stores its colours as {_named(photometric)}"
        raise ColorError(msg)
    return reader(page, samples, channels)


def _gray(page: Any, samples: int, channels: Sequence[str]) -> str:
    colors = samples - len(_opacities(page))
    if colors == 1:
        return "gray"
    if [name.strip().lower()[:1] for name in channels[:3]] == ["r", "g", "b"] and {
        name.strip().lower() for name in channels[:3]
    } <= {"r", "g", "b", "red", "green", "blue"}:
        return "RGB"
    names = f" ({', '.join(map(str, channels[:6]))})" if any(channels) else ""
    msg = (
        f"holds {colors} channels{names} of one grey value each, as a fluorescence image does: no brightfield image. "
        "Pass the H&E image of the same section. If these channels are red, green and blue"
    )
    raise NoBrightfieldError(msg)


def _white_is_zero(page: Any, samples: int, channels: Sequence[str]) -> str:
    return "white is zero" if _gray(page, samples, channels) == "gray" else "RGB"


def _rgb(page: Any, samples: int, channels: Sequence[str]) -> str:
    if samples < 3:
        msg = f"says that it is RGB and has {samples} channels"
        raise ColorError(msg)
    return "RGB"


def _indexed(page: Any, samples: int, channels: Sequence[str]) -> str:
    if samples - len(_opacities(page)) != 1 or page.colormap is None:
        msg = "says that it has a palette, and lacks one or has several channels"
        raise ColorError(msg)
    return "palette"


def _ycbcr(page: Any, samples: int, channels: Sequence[str]) -> str:
    from tifffile import TIFF

    if page.compression in _JPEG and page.planarconfig == 1:
        if samples != 3:
            msg = f"stores its colours as YCbCr in JPEG with {samples} channels"
            raise ColorError(msg)
        return "RGB"  # which libjpeg makes of it
    if page.compression in TIFF.IMAGE_COMPRESSIONS and page.compression not in _JPEG:
        msg = f"stores its colours as YCbCr in {_named(page.compression)}"
        raise ColorError(msg)
    tags = page.tags
    if tuple(tags.valueof(530, (2, 2)))[:2] != (1, 1):  # which is also what a file without the tag means
        msg = "stores its colours as YCbCr of a coarser grid (chroma subsampling) without JPEG"
        raise ColorError(msg)
    coefficients, references = (_ratios(tags.valueof(tag, ())) for tag in (529, 532))
    if not _near(coefficients, _COEFFICIENTS) or not _near(references, _REFERENCES):
        msg = "stores its colours as YCbCr with coefficients or reference values of its own"
        raise ColorError(msg)
    return "YCbCr"


def _separated(page: Any, samples: int, channels: Sequence[str]) -> str:
    inks = page.tags.valueof(332, 1)
    if samples < 4 or inks != 1:
        msg = f"stores its colours as {samples} inks that are not CMYK"
        raise ColorError(msg)
    return "CMYK"


def _lab(model: str) -> Callable[[Any, int, Sequence[str]], str]:
    def read(page: Any, samples: int, channels: Sequence[str]) -> str:
        if page.compression in _JPEG or page.compression in JPEG_2000 or page.bitspersample != 8 or samples < 3:
            msg = f"stores its colours as {model} in {_named(page.compression)}, {page.bitspersample} bits"
            raise ColorError(msg)
        return model

    return read


_PHOTOMETRIC: Mapping[int, Callable[[Any, int, Sequence[str]], str]] = {
    0: _white_is_zero,
    1: _gray,
    2: _rgb,
    3: _indexed,
    5: _separated,
    6: _ycbcr,
    8: _lab("CIELab"),
    9: _lab("ICCLab"),
}
"""What reads each value of PhotometricInterpretation."""


def _converted(mode: str) -> Callable[[np.ndarray, StoredColors], np.ndarray]:
    """Let Pillow turn one of its modes into RGB."""
    channels = {"CMYK": 4, "YCbCr": 3}[mode]

    def convert(samples: np.ndarray, _: StoredColors) -> np.ndarray:
        from PIL import Image

        pixels = Image.frombytes(mode, samples.shape[1::-1], samples[..., :channels].tobytes())
        return np.asarray(pixels.convert("RGB"))

    return convert


def _of_palette(samples: np.ndarray, colors: StoredColors) -> np.ndarray:
    assert colors.palette is not None  # noqa: S101 - set with this model
    return colors.palette[np.minimum(samples[..., 0], len(colors.palette) - 1)]


_MODELS: Mapping[str, Callable[[np.ndarray, StoredColors], np.ndarray]] = {
    "RGB": lambda samples, _: samples[..., :3],
    "gray": lambda samples, _: samples[..., :1].repeat(3, axis=2),
    "white is zero": lambda samples, _: 255 - samples[..., :1].repeat(3, axis=2),
    "palette": _of_palette,
    "YCbCr": _converted("YCbCr"),
    "CMYK": _converted("CMYK"),
    "CIELab": lambda samples, _: lab_to_rgb(samples),
    # its a* and b* are not signed but have 128 for grey
    "ICCLab": lambda samples, _: lab_to_rgb(samples ^ np.array([0, 128, 128], dtype=np.uint8)),
}
"""How samples of 8 bits (y, x, n) become RGB; indices of a palette keep their bits."""


def _maximum(page: Any, model: str) -> int | None:
    dtype = np.dtype(page.dtype)
    if dtype.kind == "b":
        return 1
    bits = page.bitspersample
    if dtype.kind == "f":
        if model in ("RGB", "gray"):
            return None
    elif dtype.kind == "u" and isinstance(bits, int) and bits <= 16:
        return 2**bits - 1
    msg = f"stores {model} as {dtype} ({bits} bits)"
    raise ColorError(msg)


def _eight_bits(samples: np.ndarray, maximum: int) -> np.ndarray:
    if maximum == _EIGHT_BITS:
        if samples.dtype != np.uint8:
            if samples.size and samples.max() > maximum:
                msg = (
                    f"holds values of 16 bits that seemed to go from 0 to {maximum} and go up to {samples.max()}, so "
                    "that white is not known. Save the image in 8 bits"
                )
                raise ColorError(msg)
            return samples.astype(np.uint8)
        return samples
    steps = np.arange(maximum + 1, dtype=np.uint32)
    table = ((steps * _EIGHT_BITS + maximum // 2) // maximum).astype(np.uint8)
    return table[samples.astype(np.uint16, copy=False)]


def _palette(page: Any) -> np.ndarray:
    colors = np.asarray(page.colormap).reshape(3, -1).T
    # TIFF's entries have 16 bits; some writers put in 8 (as libtiff allows for)
    return (colors if colors.max(initial=0) < 256 else colors >> 8).astype(np.uint8)


def _opacities(page: Any) -> list[int]:
    return [int(kind) for kind in page.extrasamples if int(kind) in (_PREMULTIPLIED, _ALPHA)]


def _check_compression(page: Any) -> None:
    """Refuse what neither tifffile nor imagecodecs decodes."""
    from tifffile import TIFF

    try:
        if page.compression != 1:
            TIFF.DECOMPRESSORS[page.compression]
    except KeyError as err:
        msg = f"is compressed as {_named(page.compression)}"
        raise ColorError(msg) from err


def _opacity(page: Any, n_colors: int) -> tuple[int | None, bool]:
    for i, kind in enumerate(page.extrasamples):
        if int(kind) in (_PREMULTIPLIED, _ALPHA):
            return n_colors + i, int(kind) == _PREMULTIPLIED
    return None, False


def _ratios(values: Sequence[Any]) -> tuple[float, ...]:
    """Read TIFF's rationals, which are two numbers each."""
    numbers = [float(value) for value in values]
    return tuple(a / b for a, b in zip(numbers[::2], numbers[1::2], strict=True) if b)


def _near(values: Sequence[float], standard: Sequence[float]) -> bool:
    """Whether values that a file may state are the standard's; a file that states none means these."""
    return not values or (len(values) == len(standard) and bool(np.allclose(values, standard, atol=2e-3)))


def _named(value: Any) -> str:
    return getattr(value, "name", str(value))
