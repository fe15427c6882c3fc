"""The images that one TIFF holds, and which of them is the section: scans, labels, channels, planes, levels."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bleep_sc._logging import logger
from bleep_sc.pp._finding import Finding
from bleep_sc.pp._images.tags import channel_names
from bleep_sc.pp._images.tiff_colors import ColorError, NoBrightfieldError, StoredColors, stored_colors

_BESIDE_THE_SCAN = re.compile(r"\b(label|macro|map|thumbnail|overview)\b", re.IGNORECASE)
"""Names of pictures that a scanner stores beside its scan."""
_ALIKE, _NOTABLE = 0.9, 0.25
"""Another image of so large a share of the largest's area could be meant as well; a notable one is spoken of."""
_PLANES = {"Z": "focal plane", "T": "time", "I": "page", "Q": "page", "R": "page"}
_MOST_SHOWN = 8
_STEPS = (2, 4, 8, 16, 32, 64)
"""Factors between the levels of a pyramid."""


class ImageChoiceError(ValueError):
    """No single image of a file can be taken; the text is for the user."""


@dataclass(frozen=True)
class PagesAt:
    """Where the pages of an image, or of one level of it, stand in a file."""

    series: int
    level: int
    pages: tuple[int, ...]
    """Numbers of the pages within the level, one for each channel that has a page of its own."""

    def of(self, tiff: Any) -> list[Any]:
        """Take the pages from an open file."""
        level = tiff.series[self.series].levels[self.level]
        return [level.pages[number] for number in self.pages]

    @contextmanager
    def opened(self, path: Path) -> Iterator[list[Any]]:
        """Open the file and give the pages."""
        from tifffile import TiffFile

        with TiffFile(path) as tiff:
            yield self.of(tiff)


@dataclass(frozen=True, eq=False)
class FileImage:
    """One of the images of a file."""

    name: str
    """What the file calls it, and which plane of it this is; it may be empty."""
    width: int
    height: int
    levels: tuple[PagesAt, ...]
    """Where the image lies at full resolution, then at each lower one."""
    colors: StoredColors | None
    fault: str
    """Why its colours are not read; empty where they are."""
    could_be_meant: bool = True
    """Whether it may show a section in brightfield."""

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.width * self.height

    @property
    def rank(self) -> int:
        """Which images come first: those with colours, then grey ones, then those that cannot be read."""
        return 2 if self.colors is None else int(self.colors.gray)

    def described(self, number: int) -> str:
        """Put it in words, with the number that `series` takes."""
        name = f" {self.name!r}" if self.name else ""
        kind = "not read" if self.colors is None else "grey" if self.colors.gray else "colour"
        return f"{number}:{name} {self.width} x {self.height} ({kind})"


def images_of(tiff: Any) -> list[FileImage]:
    """List the images of an open TIFF; a stack of planes is an image each."""
    found: list[FileImage] = []
    for index, series in enumerate(tiff.series):
        found += _planes_of(tiff, index, series)
    return found


def choose_image(
    images: Sequence[FileImage],
    series: int | str | None,
    *,
    same: Callable[[FileImage, FileImage], bool | None],
    name: str,
    file: str,
) -> tuple[FileImage, list[Finding]]:
    """Choose the image of the section: the one that `series` names, else the largest with colours.

    Parameters
    ----------
    images
        All images of the file.
    series
        The number or the name of one; None where the user names none.
    same
        Tells whether the second image is a lower resolution of the first one; None where that cannot be told.
    name, file
        What messages call the image and its file.

    Raises
    ------
    ImageChoiceError
        There is no such image; several could be meant; the largest one that could be has colours that are not read.
    """
    listed = _listed(images)
    if series is not None:
        chosen = _readable(_named_by(images, series, name=name, file=file), name=name, file=file)
        return _with_levels(chosen, _smaller_copies(chosen, images, same)), []
    candidates = [image for image in images if not _BESIDE_THE_SCAN.search(image.name)] or list(images)
    best = min(candidates, key=lambda image: (image.rank, -image.area))
    rivals = [
        image
        for image in candidates
        if image is not best and image.rank == best.rank and image.area >= _NOTABLE * best.area
    ]
    unread = [image for image in candidates if image.colors is None and image.could_be_meant]
    larger = [image for image in unread if image.area > best.area]
    _readable(larger[0] if larger else best, name=name, file=file)
    alike = [image for image in rivals if image.area >= _ALIKE * best.area]
    if alike:
        msg = (
            f"`{name}`: {file!r} holds {len(images)} images, of which {len(alike) + 1} are about equally large: "
            f"{listed}. Say which one shows the section by its number or its name, such as "
            f"`series={images.index(best)}`; for several sections by a mapping from library to either."
        )
        raise ImageChoiceError(msg)
    number = images.index(best)
    if len(images) > 1:
        logger.info("%s holds %d images: %s. Number %d is read.", file, len(images), listed, number)
    copies = _smaller_copies(best, images, same)
    others = [image for image in rivals if copies.get(image, False) is False]
    best = _with_levels(best, copies)
    if not others:
        return best, []
    found = (
        f"{file!r} holds {len(images)} images: {listed}. Number {number} is read, since it is the largest with "
        f"{'colours' if best.rank == 0 else 'readable values'}."
    )
    remedy = f"If another one shows the section, name it: `series={images.index(others[0])}`."
    return best, [Finding("series", found, remedy)]


def _planes_of(tiff: Any, index: int, series: Any) -> Iterator[FileImage]:
    """Give the images of a series: usually one, but one each of focal planes, times or pages."""
    axes, shape = series.axes, series.shape
    height, width = series.keyframe.imagelength, series.keyframe.imagewidth
    outer = [(axis, length) for axis, length in zip(axes, shape, strict=True) if axis not in "YXS"]
    if series.keyframe.samplesperpixel > 1 and len(series.pages) == 1:  # its channels may be planes of one page
        outer = [(axis, length) for axis, length in outer if axis != "C"]
    n_pages = int(np.prod([length for _, length in outer], dtype=np.int64))
    if n_pages != len(series.pages) or series.is_multifile or "Y" not in axes or None in series.pages:
        fault = f"stores {' x '.join(map(str, shape))} values ({axes}) in a way that is not read in parts"
        yield FileImage(series.name, width, height, (PagesAt(index, 0, (0,)),), None, fault)
        return
    numbers = np.arange(n_pages).reshape([length for _, length in outer])
    names = [axis for axis, _ in outer]
    if "C" in names:  # the pages of the channels make one picture
        numbers = np.moveaxis(numbers, names.index("C"), -1)
        names.remove("C")
    else:
        numbers = numbers[..., None]
    channels = channel_names(tiff, index)
    for place in np.ndindex(numbers.shape[:-1]):
        pages = tuple(int(number) for number in numbers[place])
        of = [
            f"{_PLANES.get(axis, axis)} {i}" for axis, i in zip(names, place, strict=True) if numbers.size > len(pages)
        ]
        yield _image(series, index, pages, " ".join([series.name, *of]).strip(), channels)


def _image(series: Any, index: int, pages: tuple[int, ...], name: str, channels: Sequence[str]) -> FileImage:
    key = series.keyframe
    levels = [
        PagesAt(index, number, pages) for number, level in enumerate(series.levels) if len(level.pages) > max(pages)
    ]
    colors, fault, could_be_meant = None, "", True
    try:
        colors = stored_colors(series.pages[pages[0]].keyframe, channels=channels, n_pages=len(pages))
    except ColorError as err:
        fault, could_be_meant = str(err), not isinstance(err, NoBrightfieldError)
    return FileImage(name, key.imagewidth, key.imagelength, tuple(levels), colors, fault, could_be_meant)


def _named_by(images: Sequence[FileImage], series: int | str, *, name: str, file: str) -> FileImage:
    if isinstance(series, str):
        matches = [image for image in images if image.name == series]
    else:
        matches = list(images[series : series + 1]) if series >= 0 else []
    if len(matches) != 1:
        many = "several images" if matches else "no image"
        msg = (
            f"`series={series!r}`: {file!r} of `{name}` holds {many} of that name or number; it has {_listed(images)}."
        )
        raise ImageChoiceError(msg)
    return matches[0]


def _readable(image: FileImage, *, name: str, file: str) -> FileImage:
    if image.colors is not None:
        return image
    glue = ", " if image.fault.endswith("are red, green and blue") else ". "
    verb = "save" if glue == ", " else "Save"
    msg = (
        f"`{name}`: {file!r} {image.fault}{glue}{verb} the image as RGB of 8 bits and pass that: "
        "`tifffile.imwrite('slide_rgb.tif', rgb, photometric='rgb', tile=(256, 256))`."
    )
    raise ImageChoiceError(msg)


def _smaller_copies(
    chosen: FileImage, images: Sequence[FileImage], same: Callable[[FileImage, FileImage], bool | None]
) -> dict[FileImage, bool | None]:
    """Tell of each image with the size of a pyramid's level whether it is one, though the file does not say so."""
    sized = [image for image in images if image.colors is not None and _has_size_of_level(image, chosen)]
    return {image: same(chosen, image) for image in sized}


def _with_levels(chosen: FileImage, copies: Mapping[FileImage, bool | None]) -> FileImage:
    return replace(chosen, levels=(*chosen.levels, *(image.levels[0] for image, is_copy in copies.items() if is_copy)))


def _has_size_of_level(image: FileImage, whole: FileImage) -> bool:
    return image is not whole and any(
        abs(image.width * step - whole.width) <= step and abs(image.height * step - whole.height) <= step
        for step in _STEPS
    )


def _listed(images: Sequence[FileImage]) -> str:
    shown = [image.described(number) for number, image in enumerate(images[:_MOST_SHOWN])]
    return "; ".join(shown) + ("; ..." if len(images) > _MOST_SHOWN else "")
