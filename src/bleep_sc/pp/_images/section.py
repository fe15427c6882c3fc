"""One RGB image and where its pixels lie in the section."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bleep_sc._library import library_part, scale_factor
from bleep_sc.pp._finding import Finding
from bleep_sc.pp._scale.witness import Witness

HIRES = "hires image"
"""Source of the small image that travels in `uns`."""
_NEARLY = 1.01
"""A level may be coarser than asked by so much: sizes of levels are rounded."""


@dataclass(frozen=True)
class SectionImage:
    """An image of one section and where its pixels lie.

    A spot at `xy` of ``obsm["spatial"]`` is centred on the pixel ``xy * scale - offset`` of `array`.
    """

    array: Any
    """The image (y, x, channels): NumPy, dask, or a file that is still to be read."""
    scale: float
    """Pixels of this image per full-resolution pixel."""
    offset: np.ndarray
    """Place of the first pixel, x and y in pixels of this image; it is not zero in a crop of a larger image."""
    source: str
    is_part: bool = False
    """Whether it was cut out of a larger image, whose size is not known."""
    tag: Witness | None = None
    """What the image's file says of its scale."""
    levels: tuple["SectionImage", ...] = ()
    """The same image at lower resolutions, from fine to coarse, where its file holds them."""
    findings: tuple[Finding, ...] = field(default=())
    """Doubts that arose when it was opened."""

    @property
    def width_height(self) -> np.ndarray:
        """Size of the image in pixels, x first."""
        return np.array([self.array.shape[1], self.array.shape[0]])

    def centres(self, xy: np.ndarray) -> np.ndarray:
        """Compute the spot centres in pixels of this image, not rounded."""
        return xy * self.scale - self.offset

    def coarsest(self, reduction: float) -> "SectionImage":
        """Return the lowest level that still has enough pixels for windows that are reduced so many times."""
        enough = [level for level in self.levels if self.scale / level.scale <= reduction * _NEARLY]
        return enough[-1] if enough else self


def with_levels(image: SectionImage, arrays: list[Any]) -> SectionImage:
    """Add lower resolutions to an image, each of which averages blocks of its pixels."""
    levels = []
    for array in arrays:
        step = _step(image.array.shape, array.shape)
        # the first pixel of a level is the mean of a block, whose centre is not that of the block's first pixel
        shift = (step - 1) / (2 * step)
        levels.append(replace(image, array=array, scale=image.scale / step, offset=image.offset / step + shift))
    return replace(image, levels=tuple(sorted(levels, key=lambda level: -level.scale)))


def _step(whole: tuple[int, ...], level: tuple[int, ...]) -> float:
    """Width of the blocks that a level averages: a whole number where the sizes allow for one."""
    ratios = np.array(whole[:2]) / np.array(level[:2])
    step = float(np.rint(ratios.mean()))
    if (np.abs(np.array(whole[:2]) / step - level[:2]) <= 1).all():
        return step
    return float(ratios.mean())


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
            f"shape {array.shape}. Pass `image=`, an ImageContainer, an image of SpatialData or a path."
        )
        raise ValueError(msg)
    return SectionImage(array if array.ndim == 3 else array[..., None], scale, np.zeros(2), HIRES)
