"""The image has another size than the small picture of the tissue and its factor say."""

import numpy as np

from bleep_sc.pp._images.section import HIRES
from bleep_sc.pp._signs.section import SectionToCheck

_APART = 0.02
"""Sizes of small pictures are rounded by a pixel of about 600: below this nothing is said."""


def size_of_another_image(section: SectionToCheck) -> tuple[str, str] | None:
    """The full-resolution size that the hires picture stands for is not the image's."""
    if section.picture is None or not section.whole or section.image.source == HIRES:
        return None
    columns, rows = section.picture.width_height
    expected = section.picture.width_height / section.picture.factor
    allowed = _APART + 2 / min(columns, rows)
    if _alike(section.full_size, expected, allowed):
        return None
    width, height = section.full_size
    found = (
        f"the image is {width:.0f} x {height:.0f} full-resolution pixels in size. By the hires picture of `uns` "
        f"({columns} x {rows} pixels, `tissue_hires_scalef` {section.picture.factor:.4g}) it should be about "
        f"{expected[0]:.0f} x {expected[1]:.0f}."
    )
    if _alike(section.full_size, expected[::-1], allowed):
        return found, (
            "It is turned by 90°: turn it back by `numpy.rot90(image, -1)` (to the right) or `numpy.rot90(image)` (to "
            "the left), or pass the image as it was."
        )
    ratios = section.image.width_height / expected
    if abs(ratios[0] / ratios[1] - 1) > allowed:
        return found, "Is it cropped, or of another section? Pass the image that the places were found on."
    for name, recorded in section.factors.items():
        if abs(ratios.mean() / recorded - 1) <= allowed:
            return found, (
                f"Its size is that of the factor {recorded:.6g} (`{name}`): pass "
                f"`squidpy.im.ImageContainer(..., scale={recorded:.6g})`."
            )
    ratio = float(ratios.mean())
    steps = max(ratio, 1 / ratio)
    if abs(steps / round(steps) - 1) <= _APART:
        return found, (
            f"If it was {'shrunk' if ratio < 1 else 'enlarged'} {round(steps)} times, pass "
            f"`squidpy.im.ImageContainer(..., scale={ratio:.6g})`; if it was cropped, pass the whole image."
        )
    return found, (
        "If it was cropped, pass the whole image. If it was shrunk or enlarged, pass the factor by which it was: "
        "`squidpy.im.ImageContainer(..., scale=...)`."
    )


def _alike(size: np.ndarray, expected: np.ndarray, allowed: float) -> bool:
    return bool((np.abs(size / expected - 1) <= allowed).all())
