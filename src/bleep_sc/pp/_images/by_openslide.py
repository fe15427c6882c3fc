"""Slides that tifffile does not read: MIRAX, Hamamatsu's VMS, Ventana, DICOM and others, by OpenSlide."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bleep_sc._blocks import budget
from bleep_sc._side_effects import allowed
from bleep_sc.pp._images.section import SectionImage
from bleep_sc.pp._images.series import ImageChoiceError
from bleep_sc.pp._images.tags import scale_of_openslide
from bleep_sc.pp._images.tiff_colors import over_white
from bleep_sc.pp._images.tiled import AHEAD, Place, TiledFile, done_ahead
from bleep_sc.pp._images.turn import UPRIGHT, Turn

_BY_OPENSLIDE = {
    ".mrxs": "MIRAX (3DHISTECH)",
    ".vms": "Hamamatsu VMS",
    ".vmu": "Hamamatsu VMU",
    ".bif": "Ventana BIF",
    ".dcm": "DICOM",
    ".svslide": "Sakura",
}
"""Formats that OpenSlide alone reads, by the ending of the file. Ventana's is a TIFF whose tiles overlap."""
_NOT_READ = {".vsi": "Olympus VSI", ".ets": "Olympus VSI", ".czi": "Zeiss CZI"}
"""Formats that nobody here reads."""
_DICOM = 128, b"DICM"
_TILE = 512
"""Side of a tile where the file does not say it."""
_LARGEST_TILE = 4096


@dataclass(frozen=True, eq=False)
class OpenSlideImage(TiledFile):
    """One level of a slide that OpenSlide reads."""

    path: Path
    level: int
    stored_size: tuple[int, int]
    tile: tuple[int, int]
    downsample: float
    """Full-resolution pixels per pixel of this level."""
    turn: Turn = UPRIGHT
    missing: np.ndarray | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its values."""
        return np.dtype(np.uint8)

    def read_tiles(self, tiles: Iterable[Place]) -> Iterator[tuple[Place, np.ndarray]]:
        """Read some tiles in turn; what was not scanned is white, as the glass is."""
        threads = min(8, allowed().number)
        most = min(AHEAD * threads, budget(self.tile[0] * self.tile[1] * 4, parts=2))
        with opened(self.path) as slide:
            jobs = ((place, partial(self._read, slide, place)) for place in tiles)
            yield from done_ahead(jobs, threads=threads, most=most)

    @contextmanager
    def bare_parts(self) -> Iterator[Callable[[slice, slice], np.ndarray]]:
        """Open the slide, and give a function that reads some stored rows and columns (y, x, channels)."""
        with opened(self.path) as slide:
            yield partial(self._region, slide)

    def _read(self, slide: Any, place: Place) -> np.ndarray:
        begins = (number * side for number, side in zip(place, self.tile, strict=True))
        rows, columns = (
            slice(begin, min(begin + side, end))
            for begin, side, end in zip(begins, self.tile, self.stored_size, strict=True)
        )
        return self._region(slide, rows, columns)

    def _region(self, slide: Any, rows: slice, columns: slice) -> np.ndarray:
        # OpenSlide takes the corner in full-resolution pixels, whatever the level is
        corner = (round(columns.start * self.downsample), round(rows.start * self.downsample))
        size = (columns.stop - columns.start, rows.stop - rows.start)
        samples = np.asarray(slide.read_region(corner, self.level, size))
        return over_white(samples[..., :3], samples[..., 3], premultiplied=False)


def check_is_read(path: Path, *, name: str) -> None:
    """Refuse formats of slides that nobody here reads."""
    if kind := _NOT_READ.get(path.suffix.lower()):
        msg = (
            f"`{name}`: {path.name!r} is {kind}, which is not read. Export it as OME-TIFF and pass that: in QuPath by "
            "File > Export images > OME TIFF."
        )
        raise ImageChoiceError(msg)


def needs_openslide(path: Path) -> bool:
    """Whether a file is of a format that OpenSlide alone reads."""
    if path.suffix.lower() in _BY_OPENSLIDE:
        return True
    with path.open("rb") as file:
        file.seek(_DICOM[0])
        return file.read(len(_DICOM[1])) == _DICOM[1]


def open_by_openslide(path: Path, *, name: str, why: str = "") -> tuple[SectionImage, list[OpenSlideImage]]:
    """Open a slide, and its lower levels.

    Parameters
    ----------
    path
        The file; of MIRAX, VMS and DICOM the one that stands for all.
    name
        Name of the image in messages.
    why
        Why OpenSlide is needed, where the format does not say so.

    Raises
    ------
    ImageChoiceError
        OpenSlide is not installed.
    """
    why = why or f"is {_BY_OPENSLIDE.get(path.suffix.lower(), 'DICOM')}, which OpenSlide reads"
    with opened(path, missing=f"`{name}`: {path.name!r} {why}") as slide:
        properties = dict(slide.properties)
        levels = [
            OpenSlideImage(path.resolve(), number, (height, width), _tile(properties, number), float(downsample))
            for number, ((width, height), downsample) in enumerate(
                zip(slide.level_dimensions, slide.level_downsamples, strict=True)
            )
        ]
    full, *lower = levels
    return SectionImage(full, 1.0, np.zeros(2), path.name, tag=scale_of_openslide(properties)), lower


def opened(path: Path, *, missing: str = "") -> Any:
    """Open a slide, for a ``with`` block."""
    try:
        from openslide import OpenSlide
    except ImportError as err:  # OSError of its library is one of these
        msg = (
            f'{missing or repr(path.name)}: install it by `pip install "bleep-sc[slides]"` (openslide-python and '
            f"openslide-bin), or export the slide as OME-TIFF. Python says: {err}."
        )
        raise ImageChoiceError(msg) from err
    return OpenSlide(path)


def _tile(properties: dict[str, str], level: int) -> tuple[int, int]:
    """Height and width of the tiles of a level, as its file says."""
    sides = []
    for axis in ("height", "width"):
        said = properties.get(f"openslide.level[{level}].tile-{axis}", "")
        side = int(said) if said.isdigit() else 0
        sides.append(side if 0 < side <= _LARGEST_TILE else _TILE)
    return sides[0], sides[1]
