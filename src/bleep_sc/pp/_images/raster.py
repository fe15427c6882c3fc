"""Images that Pillow reads: PNG, JPEG and the like, upright and in RGB whatever their mode is."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from bleep_sc.pp._images.readers import quiet_readers
from bleep_sc.pp._images.tiff_colors import lab_to_rgb
from bleep_sc.pp._images.turn import TURNS, UPRIGHT, Turn

_ORIENTATION = 0x0112
_END_OF_JPEG = b"\xff\xd9"
_PILLOWS_LIMIT = Lock()
"""Held while Pillow's limit is lifted, which is one for the whole process."""
_FULL = {"I;16": 65_535, "I;16B": 65_535, "I;16L": 65_535, "I": 65_535}
"""The value of white in Pillow's modes of more than 8 bits, which are grey; PNG's mode I has 16 bits too."""


@dataclass(frozen=True)
class RasterFile:
    """An image that is read whole, whatever part of it is needed."""

    path: Path
    shape: tuple[int, int, int]
    """Shape of the upright image (y, x, channels)."""
    turn: Turn
    dtype = np.dtype(np.uint8)

    @classmethod
    def of(cls, path: Path) -> "RasterFile":
        """Read the size and the orientation of an image."""
        with _opened(path) as image:
            if image.mode == "F":
                msg = "its values are floats, whose scale is not known"
                raise ValueError(msg)
            # without this entry Pillow would decode a whole PNG to look for one behind its pixels
            turn = TURNS.get(image.getexif().get(_ORIENTATION, 1), UPRIGHT) if "exif" in image.info else UPRIGHT
            return cls(path, (*turn.size(image.height, image.width), 3), turn)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:  # noqa: FBT001 - NumPy's signature
        with _opened(self.path) as image:
            pixels = _plain_jpeg(self.path) if (image.format, image.mode) == ("JPEG", "RGB") else None
            pixels = _rgb(image) if pixels is None else pixels
        return np.ascontiguousarray(self.turn.upright(pixels), dtype=dtype)


def _plain_jpeg(path: Path) -> np.ndarray | None:
    """Decode a JPEG straight into an array: the same pixels as Pillow's, four times as fast.

    None where the file does not end as a whole one does: this decoder would fill up what is missing without a word.
    """
    import imagecodecs

    content = path.read_bytes()
    return np.asarray(imagecodecs.jpeg8_decode(content)) if content.endswith(_END_OF_JPEG) else None


def _rgb(image: Any) -> np.ndarray:
    """Decode an image into RGB, laid on white where it is transparent."""
    from PIL import Image

    if image.mode in _FULL:
        values = np.asarray(image)
        full = _FULL[image.mode] if values.max(initial=0) > 255 else 255
        gray = ((values.astype(np.uint32) * 255 + full // 2) // full).astype(np.uint8)
        return gray[..., None].repeat(3, axis=2)
    if image.mode == "LAB":
        return lab_to_rgb(np.asarray(image))
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from PIL import Image

    with _PILLOWS_LIMIT, quiet_readers():
        # the limit guards against strangers' images; ours looks at the size before anything is decoded
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    with image:
        yield image
