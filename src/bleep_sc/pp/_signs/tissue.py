"""The spots lie beside the tissue, and would lie on it if their places were read in another way."""

import numpy as np

from bleep_sc.pp._images.thumbnails import thumbnails
from bleep_sc.pp._signs.placements import Placement, rescaled, turned
from bleep_sc.pp._signs.section import FEWEST_SPOTS, Picture, SectionToCheck
from bleep_sc.pp._tissue.by_color import CHANNELS, tissue_by_color

_SIDE, _MOST_PIXELS = 250, 4_000_000
BETTER, ENOUGH, SURE = 0.15, 0.75, 4.0
"""Another placement is named if its share of spots on tissue is higher by so much, is so high, and by so many sd."""
_NONE = 0.05
"""Fewer spots on tissue than this share are named even where no other placement is better."""
_COVERED = 0.4
"""Another placement is named only if its spots cover so much of the tissue."""
_ALL_COVERED = 0.8
"""Where spots cover so much of the tissue they are laid over all of a slide, however little of it is tissue."""


def misses_the_tissue(section: SectionToCheck) -> tuple[str, str] | None:
    """Many more spots would lie on tissue if their places were turned, swapped or rescaled: by a small picture."""
    return _judged(section, picture_at_hand(section))


def misses_the_tissue_of_the_image(section: SectionToCheck) -> tuple[str, str] | None:
    """The same by the image itself, where it is in memory and there is no small picture of it."""
    image = section.image
    if picture_at_hand(section) is not None or not section.whole or not isinstance(image.array, np.ndarray):
        return None
    if image.array.dtype != np.uint8 or image.array.shape[2] != CHANNELS:
        return None
    return _judged(section, Picture(image.array, image.scale))


def _judged(section: SectionToCheck, picture: Picture | None) -> tuple[str, str] | None:
    chosen = section.on_tissue
    if picture is None or chosen.sum() < FEWEST_SPOTS:
        return None
    small = picture.smaller(_SIDE)
    mask, factor = tissue_by_color(small.colors()), small.factor
    if mask is None:
        return None
    given = _share(section.xy[chosen], mask, factor)
    best: Placement | None = None
    highest = given
    for placement in (*turned(section), *rescaled(section)):
        share = _share(placement.xy[chosen], mask, factor)
        if share > highest:
            best, highest = placement, share
    sd = np.sqrt(max(given * (1 - given), 0.01) / chosen.sum())
    n = int(chosen.sum())
    better = best is not None and highest >= ENOUGH and highest - given >= max(BETTER, SURE * sd)
    if best is not None and better and _covered(best.xy[chosen], mask, factor) >= _COVERED:
        found = f"{given:.0%} of {n} spots lie on tissue as given, and {highest:.0%} {best.name}."
        return found, f"If that is right: {best.remedy}."
    if given <= _NONE and _covered(section.xy[chosen], mask, factor) < _ALL_COVERED:
        found = f"only {given:.0%} of {n} spots lie on tissue."
        return found, "Pass the image that the places were found on, or the factor by which it was shrunk."
    return None


def _share(xy: np.ndarray, mask: np.ndarray, factor: float) -> float:
    """Share of the spots that lie on tissue, of all; those beyond the picture do not."""
    places = _places(xy, mask, factor)
    return float(mask[places[:, 1], places[:, 0]].sum() / len(xy))


def _places(xy: np.ndarray, mask: np.ndarray, factor: float) -> np.ndarray:
    """Find the pixels of the picture that spots lie on, x and y; spots beyond it have none."""
    places = np.floor(xy * factor)
    inside = ((places >= 0) & (places < [mask.shape[1], mask.shape[0]])).all(axis=1)
    return places[inside].astype(np.int64)


def _covered(xy: np.ndarray, mask: np.ndarray, factor: float) -> float:
    """Share of the tissue that lies near a spot: a few spots of a section fit on tissue in many ways."""
    from scipy.ndimage import distance_transform_edt
    from scipy.spatial import KDTree

    places = _places(xy, mask, factor)
    empty = np.ones(mask.shape, dtype=bool)
    empty[places[:, 1], places[:, 0]] = False
    pitch = float(np.median(KDTree(xy).query(xy, k=2)[0][:, 1])) * factor
    return float((distance_transform_edt(empty)[mask] <= max(1.5, pitch)).mean())


def picture_at_hand(section: SectionToCheck) -> Picture | None:
    """Take the small picture of `uns`, else the lowest level of a pyramid: they cost next to nothing."""
    if section.picture is not None:
        return section.picture
    if not section.whole or not section.image.levels:
        return None
    level = section.image.levels[-1]
    if level.array.shape[0] * level.array.shape[1] > _MOST_PIXELS:
        return None
    pixels, share = thumbnails(level.array, {"small": _SIDE}, name="image")["small"]
    return Picture(pixels, share * level.scale)
