"""Go through the features of one crop: its views, and what is measured of the channels of each."""

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np

from bleep_sc.models.encoders.color.channels import CHANNELS, channels_of
from bleep_sc.models.encoders.color.nuclei import NUCLEI, describe_nuclei
from bleep_sc.models.encoders.color.statistics import MOMENTS, RINGS, correlation, moments, quantiles, ring_means
from bleep_sc.models.encoders.color.texture import BANDS, ORIENTATION, describe_bands, describe_orientation

_PERCENT = (5, 25, 50, 75, 95)
_WHITE = 0.85


def _each(firsts: Iterable[str], seconds: Iterable[str]) -> tuple[str, ...]:
    seconds = tuple(seconds)
    return tuple(f"{first}_{second}" for first in firsts for second in seconds)


_STAINS = ("haematoxylin", "eosin")
_MOMENTS = _each(CHANNELS[:6], MOMENTS)
_QUANTILES = _each((*_STAINS, "green"), (f"quantile{percent}" for percent in _PERCENT))
_RINGS = _each(_STAINS, RINGS)
_BANDS = _each(CHANNELS[4:], BANDS)


def describe(crop: np.ndarray) -> np.ndarray:
    """Measure the features of a crop, uint8 (size, size, 3)."""
    return np.concatenate([values for _, view in _views(crop) for _, values in _describe_view(view)])


def name_features() -> tuple[str, ...]:
    """Name the features that `describe` measures."""
    views = _views(np.zeros((8, 8, 3), dtype=np.uint8))
    groups = [_each([name], names) for name, view in views for names, _ in _describe_view(view)]
    return tuple(chain.from_iterable(groups))


def _views(crop: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    size = len(crop)
    quarter = size // 4
    yield "whole", crop
    yield "centre", crop[quarter : size - quarter, quarter : size - quarter]


def _describe_view(view: np.ndarray) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """Yield names of features and their values, some at a time."""
    channels = channels_of(view)
    _, green, _, _, haematoxylin, eosin, grey = channels
    yield _MOMENTS, moments(channels[:6])
    yield _QUANTILES, quantiles((haematoxylin, eosin, green), _PERCENT)
    white = np.count_nonzero(grey > _WHITE) / grey.size
    yield ("stains_correlation", "white_share"), np.array([correlation(haematoxylin, eosin), white])
    yield _RINGS, ring_means((haematoxylin, eosin))
    yield _BANDS, describe_bands(channels[4:])
    yield ORIENTATION, describe_orientation(grey)
    yield NUCLEI, describe_nuclei(haematoxylin)
