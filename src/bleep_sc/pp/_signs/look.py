"""The crops look otherwise than the small picture of the tissue at the same places."""

import numpy as np

from bleep_sc.pp._images.section import HIRES
from bleep_sc.pp._images.turn import TURNS, UPRIGHT, Turn
from bleep_sc.pp._signs.placements import NAMES_OF_TURNS
from bleep_sc.pp._signs.section import FEWEST_SPOTS, GREEN, SAMPLES, SectionToCheck

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
    picture = section.picture
    if picture is None or section.crops is None or section.looked_at is None or not section.whole:
        return None
    width = section.full_width * picture.factor
    if len(section.looked_at) < FEWEST_SPOTS or width < _NARROWEST or section.image.source == HIRES:
        return None
    green = picture.colors(GREEN)
    brightness = section.brightness
    if brightness.std() < _SPREAD:
        return None

    def agreement(turn: Turn) -> float:
        centres = (turn.place(section.xy[section.looked_at], section.full_size) + 0.5) * picture.factor
        expected = _sampled(green, centres, width)
        return float(np.corrcoef(brightness, expected)[0, 1]) if expected.std() >= _SPREAD else np.nan

    given = agreement(UPRIGHT)
    if np.isnan(given) or given >= _OTHER:
        return None
    turns = {number: agreement(TURNS[number]) for number in NAMES_OF_TURNS}
    best = max(turns, key=lambda number: np.nan_to_num(turns[number], nan=-1.0))
    found = f"the crops do not look like the hires picture of `uns` at the same places (correlation {given:.2f})."
    if turns[best] >= _SAME:
        scale = "" if section.image.scale == 1 else f", scale={section.image.scale:.6g}"
        return f"{found} They do if the image is {NAMES_OF_TURNS[best]} ({turns[best]:.2f}).", (
            f"Turn it: `squidpy.im.ImageContainer(numpy.ascontiguousarray({_TURN_BACK[best]}){scale})`."
        )
    return f"{found} No way to turn the image changes that.", (
        f"Pass the image of {section.library_id!r} that the places were found on, at its full size."
    )


def _sampled(picture: np.ndarray, centres: np.ndarray, width: float) -> np.ndarray:
    """Average some pixels of a picture in a square around each place."""
    reach = ((np.arange(SAMPLES) + 0.5) / SAMPLES - 0.5) * width
    columns, rows = (
        np.clip((centres[:, axis, None] + reach).astype(np.int64), 0, picture.shape[1 - axis] - 1) for axis in (0, 1)
    )
    means: np.ndarray = picture[rows[:, :, None], columns[:, None, :]].mean(axis=(1, 2))
    return means
