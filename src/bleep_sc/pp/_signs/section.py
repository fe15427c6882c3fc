"""What the signs look at: the spots of one section, its image, and the small picture of the tissue."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from bleep_sc._library import library_part, scale_factor
from bleep_sc.pp._images.section import SectionImage
from bleep_sc.pp._scale.witnesses import Scale

FEWEST_SPOTS = 30
"""With fewer spots no share and no correlation says anything."""
_RECORDED_FACTORS = ("tissue_hires_scalef", "tissue_lowres_scalef", "regist_target_img_scalef")
"""Factors that Space Ranger records: of its two small pictures, and of the image of a CytAssist."""


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
    spatial_key: str
    full_width: float
    """Width of a crop in full-resolution pixels."""
    crops: np.ndarray | None = field(default=None)
    """Some of the crops (m, size, size, 3), where they have been cut."""
    cut: np.ndarray | None = field(default=None)
    """Number of the spot of each of these crops (m,)."""

    @property
    def places(self) -> str:
        """The places as code."""
        return f"adata.obsm[{self.spatial_key!r}]"

    @property
    def full_size(self) -> np.ndarray:
        """Width and height of the image in full-resolution pixels."""
        return self.image.width_height / self.image.scale

    @cached_property
    def whole(self) -> bool:
        """Whether the image is not a part of a larger one."""
        return not self.image.offset.any()

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
    def picture(self) -> tuple[np.ndarray, float] | None:
        """The small picture of the tissue in `uns` as RGB uint8, and its pixels per full-resolution pixel."""
        factor = self.factors.get("tissue_hires_scalef")
        image = library_part(self.uns, self.library_id, "images").get("hires")
        if factor is None or not isinstance(image, np.ndarray) or image.ndim not in (2, 3):
            return None
        pixels = image[..., None] if image.ndim == 2 else image
        if pixels.shape[2] not in (1, 3, 4) or min(pixels.shape[:2]) < 2:
            return None
        if pixels.dtype.kind == "f" and pixels.min() >= 0 and pixels.max() <= 1:
            pixels = np.rint(pixels * 255).astype(np.uint8)
        if pixels.dtype != np.uint8:
            return None
        return (pixels.repeat(3, axis=2) if pixels.shape[2] == 1 else pixels[..., :3]), factor

    @cached_property
    def on_tissue(self) -> np.ndarray:
        """Which spots are said to lie on tissue (n,)."""
        if "in_tissue" not in self.obs:
            return np.ones(len(self.xy), dtype=bool)
        said = pd.to_numeric(self.obs["in_tissue"].astype(str).replace({"True": "1", "TRUE": "1"}), errors="coerce")
        return (said == 1).to_numpy()
