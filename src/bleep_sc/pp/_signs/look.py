"""The crops look otherwise than the small picture of the tissue at the same places."""

import numpy as np

from bleep_sc.pp._images.section import HIRES
from bleep_sc.pp._images.turn import TURNS, UPRIGHT, Turn
from bleep_sc.pp._signs.placements import NAMES_OF_TURNS
from bleep_sc.pp._signs.section import FEWEST_SPOTS, SectionToCheck

_SAME, _OTHER = 0.9, 0.75
"""Correlation of brightness from which on two pictures are one, and below which they are not."""
_SPREAD = 3.0
"""Least standard deviation of brightness over the spots, of 255, for a correlation to say something."""
_NARROWEST = 1.0
"""Width of a crop in pixels of the picture, below which that shows too little of it."""
_TURN_BACK = {
    2: "numpy.fliplr(image)",
    3: "numpy.rot90(image, 2)",
    4: "numpy.flipud(image)",
    5: "image.swapaxes(0, 1)",
    6: "numpy.rot90(image, -1)",
    7: "numpy.rot90(image.swapaxes(0, 1), 2)",
    8: "numpy.rot90(image)",
}
"""What turns an image upright, by the number of the turn."""


def looks_otherwise(section: SectionToCheck) -> tuple[str, str] | None:
    """The brightness of the crops does not follow that of the picture, or follows it when turned."""
    if section.picture is None or section.crops is None or section.cut is None or not section.whole:
        return None
    picture, factor = section.picture
    width = section.full_width * factor
    if len(section.cut) < FEWEST_SPOTS or width < _NARROWEST or section.image.source == HIRES:
        return None
    step = max(1, section.crops.shape[1] // 32)
    brightness = section.crops[:, ::step, ::step].mean(axis=(1, 2, 3))
    if brightness.std() < _SPREAD:
        return None
    sums = np.pad(picture.mean(axis=2).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))

    def agreement(turn: Turn) -> float:
        xy = turn.place(section.xy[section.cut], section.full_size)
        expected = _means(sums, (xy + 0.5) * factor, width)
        return float(np.corrcoef(brightness, expected)[0, 1]) if expected.std() >= _SPREAD else np.nan

    given = agreement(UPRIGHT)
    if np.isnan(given) or given >= _OTHER:
        return None
    turns = {number: agreement(TURNS[number]) for number in NAMES_OF_TURNS}
    best = max(turns, key=lambda number: np.nan_to_num(turns[number], nan=-1.0))
    found = f"the crops do not look like the hires picture of `uns` at the same places (correlation {given:.2f})."
    if turns[best] >= _SAME:
        return f"{found} They do if the image is {NAMES_OF_TURNS[best]} ({turns[best]:.2f}).", (
            f"Turn it: `squidpy.im.ImageContainer(numpy.ascontiguousarray({_TURN_BACK[best]}))`."
        )
    return f"{found} No way to turn the image changes that.", (
        f"Pass the image of {section.library_id!r} that the places were found on, at its full size."
    )


def _means(sums: np.ndarray, centres: np.ndarray, width: float) -> np.ndarray:
    """Average a picture over squares, from its sums over all upper left rectangles; borders cut squares short."""
    limit = np.array([sums.shape[1] - 1, sums.shape[0] - 1])
    low = np.clip(np.rint(centres - width / 2).astype(np.int64), 0, limit - 1)
    high = np.clip(np.rint(centres + width / 2).astype(np.int64), low + 1, limit)
    (left, top), (right, bottom) = low.T, high.T
    total = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    means: np.ndarray = total / (high - low).prod(axis=1)
    return means
