"""Describe H&E crops by features of colour and texture made by hand: quick, no download, strong on small data.

Each crop is described by itself, in two views: the whole crop, and its centre half, where the spot lies. Nothing
depends on which way a crop is turned, since tissue has no up. The features follow long practice in histology. They are
colour moments and quantiles, optical density of haematoxylin and eosin (Ruifrok and Johnston, 2001), band-pass
energies, coherence of orientation, and nuclei found by threshold.

The package's other modules compile their loops, so they are imported where they run.
"""

from functools import cache
from typing import Any

import numpy as np

from bleep_sc._blocks import threads
from bleep_sc._progress import progress

FEATURE_SET = "color-1"
"""Name of the list of features. Another list gets another name, so that a stored model never reads the wrong ones."""

_BLOCK = 64


def color_features(crops: Any, *, progress_bar: bool | None = None) -> np.ndarray:
    """Describe crops by colour and texture.

    Parameters
    ----------
    crops
        uint8 (n, size, size, 3), NumPy or dask.
    progress_bar
        Overrides the value of the same name in :attr:`bleep_sc.settings`.

    Returns
    -------
    float32 (n, n_features); `feature_names` says what the columns are.

    Notes
    -----
    Crops are read in blocks. Threads share the crops of a block, and one thread describes a crop from its pixels to its
    last feature. So a crop's features do not depend on the number of threads or on the crops beside it.

    The first call on a machine compiles the loops, which takes some seconds. They are kept for later processes where
    numba finds a folder that it may write to.
    """
    from bleep_sc.models.encoders.color.description import describe

    features = np.empty((crops.shape[0], len(_names())), dtype=np.float32)
    starts = range(0, len(features), _BLOCK)
    with threads() as in_threads:
        for start in progress(starts, desc="Colour and texture", show=progress_bar if len(starts) > 1 else False):
            block = np.asarray(crops[start : start + _BLOCK])
            of_block = features[start : start + _BLOCK]

            def describe_part(part: slice, block: np.ndarray = block, out: np.ndarray = of_block) -> None:
                for crop, row in zip(block[part], out[part], strict=True):
                    row[:] = describe(crop)

            in_threads(describe_part, len(block))
    return features


def feature_names() -> list[str]:
    """Return the names of the columns of `color_features`."""
    return list(_names())


@cache
def _names() -> tuple[str, ...]:
    from bleep_sc.models.encoders.color.description import name_features

    return name_features()
