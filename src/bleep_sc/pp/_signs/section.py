"""What the signs look at: the spots of one section, its image, and the small picture of the tissue."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from bleep_sc._library import library_part, scale_factor
from bleep_sc.pp._images.section import SectionImage
from bleep_sc.pp._places_code import PlacesCode
from bleep_sc.pp._scale.witnesses import Scale

GREEN, SAMPLES = 1, 16
"""The channel that is compared, and the number of places along each side of a crop."""
FEWEST_SPOTS = 30
"""With fewer spots no share and no correlation says anything."""
_MOST_MEASURED = 2000
"""Number of spots whose distance to the next one is measured."""
_YES = frozenset({"1", "1.0", "true", "t", "yes", "in"})
"""How `in_tissue` is written for a spot on tissue."""
_RECORDED_FACTORS = ("tissue_hires_scalef", "tissue_lowres_scalef", "regist_target_img_scalef")
"""Factors that Space Ranger records: of its two small pictures, and of the image of a CytAssist."""


@dataclass(frozen=True)
class Picture:
    """A small picture of a section."""

    pixels: np.ndarray
    """As it is stored: uint8, or floats from 0 to 1 (y, x, channels)."""
    factor: float
    """Its pixels per full-resolution pixel."""

    @property
    def width_height(self) -> np.ndarray:
        """Size in pixels, x first."""
        return np.array(self.pixels.shape[1::-1])

    def smaller(self, side: int) -> "Picture":
        """Leave out rows and columns until it has about this side."""
        step = max(1, max(self.pixels.shape[:2]) // side)
        return Picture(self.pixels[::step, ::step], self.factor / step)

    def colors(self, channel: int | slice = slice(3)) -> np.ndarray:
        """Take channels as numbers from 0 to 255."""
        values = self.pixels[..., min(channel, self.pixels.shape[2] - 1) if isinstance(channel, int) else channel]
        return values * np.float32(255) if values.dtype.kind == "f" else values


@dataclass(frozen=True)
class SectionToCheck:
    """One section before or after its crops were cut."""

    library_id: str
    obs: pd.DataFrame
    """Annotation of its spots."""
    xy: np.ndarray
    """Spot centres in full-resolution pixels (n, 2)."""
    stored_dtype: np.dtype[Any]
    """Type of the stored places."""
    image: SectionImage
    scale: Scale
    uns: Mapping[str, Any]
    code: PlacesCode
    """The places as code."""
    full_width: float
    """Width of a crop in full-resolution pixels."""
    um: float | None = None
    """Width in µm that was asked for; None where crops are so many pixels of the image."""
    crops: np.ndarray | None = field(default=None)
    """The crops of all sections (n_obs, size, size, 3), where they have been cut."""
    looked_at: np.ndarray | None = field(default=None)
    """Numbers of the spots, of this section, whose crops are looked at (m,)."""
    rows: np.ndarray | None = field(default=None)
    """The rows of `crops` that hold them (m,)."""

    @property
    def full_size(self) -> np.ndarray:
        """Width and height of the image in full-resolution pixels."""
        return self.image.width_height / self.image.scale

    @property
    def image_pixels(self) -> float:
        """Width of a crop in pixels of the image, at its highest resolution."""
        return self.full_width * self.image.scale

    @cached_property
    def pitch(self) -> float:
        """Median distance from a spot to the next in full-resolution pixels, of some spots; NaN of a single spot."""
        from scipy.spatial import KDTree

        if len(self.xy) < 2:
            return np.nan
        some = self.xy[np.unique(np.linspace(0, len(self.xy) - 1, _MOST_MEASURED).astype(np.int64))]
        return float(np.median(KDTree(self.xy).query(some, k=2)[0][:, 1]))

    @cached_property
    def whole(self) -> bool:
        """Whether the image is not a part of a larger one."""
        return not self.image.is_part

    @cached_property
    def factors(self) -> dict[str, float]:
        """The recorded factors from full-resolution pixels to those of another image, by name."""
        stored = library_part(self.uns, self.library_id, "scalefactors")
        found = {}
        for name in _RECORDED_FACTORS:
            try:
                factor = scale_factor(stored, name, library_id=self.library_id)
            except ValueError:  # which is for others to refuse
                continue
            if np.isfinite(factor):
                found[name] = factor
        return found

    @cached_property
    def picture(self) -> "Picture | None":
        """The small picture of the tissue in `uns`."""
        factor = self.factors.get("tissue_hires_scalef")
        image = library_part(self.uns, self.library_id, "images").get("hires")
        if factor is None or not isinstance(image, np.ndarray) or image.ndim not in (2, 3):
            return None
        pixels = image[..., None] if image.ndim == 2 else image
        known = pixels.dtype == np.uint8 or (pixels.dtype.kind == "f" and np.isfinite(pixels).all())
        return Picture(pixels, factor) if known and pixels.shape[2] in (1, 3, 4) and min(pixels.shape[:2]) > 1 else None

    @cached_property
    def brightness(self) -> np.ndarray:
        """Mean of the green channel of each crop looked at, where stained tissue is darkest; by some of its pixels."""
        assert self.crops is not None and self.rows is not None  # noqa: S101 - the signs that ask look first
        at = ((np.arange(SAMPLES) + 0.5) * (self.crops.shape[1] / SAMPLES)).astype(np.int64)
        sampled = self.crops[self.rows[:, None, None], at[:, None], at, GREEN]
        means: np.ndarray = sampled.mean(axis=(1, 2))
        return means

    @cached_property
    def on_tissue(self) -> np.ndarray:
        """Which spots are said to lie on tissue (n,)."""
        return said_on_tissue(self.obs)


def said_on_tissue(obs: pd.DataFrame) -> np.ndarray:
    """Tell which spots the column `in_tissue` says to lie on tissue (n,): all where it is missing or names none."""
    if "in_tissue" not in obs:
        return np.ones(len(obs), dtype=bool)
    said = obs["in_tissue"].astype(str).str.lower().isin(_YES).to_numpy(dtype=bool)
    return said if said.any() else np.ones(len(obs), dtype=bool)
