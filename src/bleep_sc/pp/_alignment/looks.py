"""What the tissue looks like at any place: read off a picture, or taken from the nearest spot."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

SAMPLES = 8
"""Pixels along each side of the window of a spot that are looked at."""
_WHITE = 255
_ON_A_SPOT = 0.5
"""A place takes the look of the nearest spot within so many pitches."""
_OPTICAL_DENSITY = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)
"""Darkness of a channel's values: how much light the stain takes away (law of Lambert and Beer)."""


def color_terms(pixels: np.ndarray) -> np.ndarray:
    """Compute mean and spread of red, green, blue and darkness, float32 (n, 8), of pixels uint8 (n, m, 3)."""
    n, m = pixels.shape[:2]
    # a channel at a time: NumPy adds up along whole rows many times as fast as along columns
    values = np.empty((4, n, m), dtype=np.float32)
    np.copyto(values[:3], np.moveaxis(pixels, 2, 0))
    np.sum(_OPTICAL_DENSITY[np.ascontiguousarray(np.moveaxis(pixels, 2, 0))], axis=0, out=values[3])
    means = values.mean(axis=2)
    values -= means[:, :, None]
    spreads = np.sqrt(np.einsum("cij,cij->ci", values, values) / m)
    return np.concatenate([means, spreads]).T


@dataclass(frozen=True)
class PictureLook:
    """The colours of a picture, in a square of about a spot's width around each place; beyond it there is glass."""

    pixels: np.ndarray
    """RGB, uint8 (y, x, 3)."""
    factor: float
    """Its pixels per full-resolution pixel."""
    shift: np.ndarray
    """Where the place (0, 0) lies in it: x and y in its pixels, from the upper left edge of the first."""
    width: float
    """Width of the square in full-resolution pixels."""

    @property
    def content(self) -> np.ndarray:
        """What it looks at."""
        return self.pixels

    def on_picture(self, places: np.ndarray) -> np.ndarray:
        """Find where places (n, 2) lie in its pixels, from the upper left edge of the first."""
        return places * self.factor + self.shift

    def at(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute colour terms at places (n, 2) in full-resolution pixels, and tell where they are known: everywhere.

        Returns
        -------
        Terms (n, n_terms) and a mask (n,).
        """
        reach = ((np.arange(SAMPLES) + 0.5) / SAMPLES - 0.5) * max(1.0, self.width * self.factor)
        centres = self.on_picture(places)
        columns, rows = (np.floor(centres[:, axis, None] + reach).astype(np.int64) for axis in (0, 1))
        height, width = self.pixels.shape[:2]
        outside = ((rows < 0) | (rows >= height))[:, :, None] | ((columns < 0) | (columns >= width))[:, None, :]
        rows, columns = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
        found = self.pixels[rows[:, :, None], columns[:, None, :]]
        found[outside] = _WHITE
        return color_terms(found.reshape(len(places), -1, 3)), np.ones(len(places), dtype=bool)


@dataclass(frozen=True)
class SpotLook:
    """What is stored of each spot: a place looks like the nearest spot, if that is near enough."""

    xy: np.ndarray
    """Places of all spots of the section (n, 2)."""
    terms: np.ndarray
    """Their look (n, n_terms)."""
    pitch: float

    @property
    def content(self) -> np.ndarray:
        """What it looks at."""
        return self.terms

    def at(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the terms of the nearest spot of each place, and whether it is near enough."""
        distance, nearest = self._tree.query(places)
        return self.terms[nearest], distance <= _ON_A_SPOT * self.pitch

    @cached_property
    def _tree(self) -> Any:
        from scipy.spatial import cKDTree

        return cKDTree(self.xy)


Look = PictureLook | SpotLook
