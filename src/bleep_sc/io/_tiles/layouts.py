"""What the programs that cut slides into patches write beside the places: a record a program."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from bleep_sc.models.nets.rules import MAX_SIDE

Attributes = Mapping[str, float | str]


@dataclass(frozen=True)
class Geometry:
    """What a file says of its patches; None where it does not."""

    side: float | None = None
    """Width of a patch in level-0 pixels."""
    pixels: int | None = None
    """Number of pixels of a patch as it was read."""
    um_per_px: float | None = None
    """µm per level-0 pixel."""
    magnification: float | None = None
    """Magnification of level 0, by the slide's file: a round number, and no scale."""


@dataclass(frozen=True)
class Layout:
    """The way in which a program writes a patch file."""

    name: str
    marks: frozenset[str]
    """Attributes that no other program writes together."""
    geometry: Callable[[Attributes], Geometry]
    centred: bool = False
    """Whether the places are the patches' centres, not their upper left corners."""
    y_first: bool = False
    """Whether the places are y then x."""


def _number(attributes: Attributes, name: str) -> float | None:
    """Return a number above 0; None for anything else, such as TRIDENT's text ``"None"``."""
    value = attributes.get(name)
    return float(value) if isinstance(value, float) and np.isfinite(value) and value > 0 else None


def _pixels(attributes: Attributes, name: str) -> int | None:
    number = _number(attributes, name)
    return None if number is None or not 1 <= number <= MAX_SIDE else int(number)


def _trident(attributes: Attributes) -> Geometry:
    """Take the side that it states: ``patch_size`` times level 0's magnification over that of the patches."""
    return Geometry(
        side=_number(attributes, "patch_size_level0"),
        pixels=_pixels(attributes, "patch_size"),
        magnification=_number(attributes, "level0_magnification"),
    )


def _hest(attributes: Attributes) -> Geometry:
    return Geometry(
        side=_number(attributes, "patch_size_src"),
        pixels=_pixels(attributes, "patch_size_target"),
        um_per_px=_number(attributes, "pixel_size"),
    )


def _first_hest(attributes: Attributes) -> Geometry:
    return Geometry(side=_number(attributes, "patch_size"))


def _clam(attributes: Attributes) -> Geometry:
    """Bring the side, in pixels of the level that was read, to level 0; an extra reduction may come on top."""
    side, downsample = _number(attributes, "patch_size"), _number(attributes, "downsample")
    if downsample is None and attributes.get("patch_level") == 0:
        downsample = 1.0
    extra = _number(attributes, "custom_downsample") or 1.0
    whole = None if side is None or downsample is None else side * downsample * extra
    return Geometry(side=whole, pixels=_pixels(attributes, "patch_size"))


LAYOUTS = (
    # trident/IO.py, `coords_to_h5`
    Layout("TRIDENT", frozenset({"level0_magnification"}), _trident),
    # hestcore/wsi.py, `WSIPatcher.to_h5`
    Layout("HEST", frozenset({"patch_size_src"}), _hest),
    # hest/HESTData.py, `dump_patches`, before August 2024
    Layout("HEST before August 2024", frozenset({"patch_size", "factor"}), _first_hest, centred=True, y_first=True),
    # wsi_core/WholeSlideImage.py, `process_contour`
    Layout("CLAM", frozenset({"patch_size", "patch_level"}), _clam),
)
UNMARKED = Layout("a program that left no mark", frozenset(), lambda _: Geometry())
"""Feature files of CLAM and embeddings of HEST: places alone, corners."""


def layout_of(attributes: Attributes) -> Layout:
    """Recognise the program by the attributes that it wrote."""
    return next((layout for layout in LAYOUTS if layout.marks <= attributes.keys()), UNMARKED)
