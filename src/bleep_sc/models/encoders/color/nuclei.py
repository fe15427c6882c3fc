"""Find nuclei in a haematoxylin channel by threshold: how many there are, how large and how dark."""

import numpy as np

from bleep_sc.models.encoders.color.blobs import blob_areas, count_peaks, describe_areas
from bleep_sc.models.encoders.color.blur import blur
from bleep_sc.models.encoders.color.otsu import otsu_threshold
from bleep_sc.models.encoders.color.statistics import group_means

_FIXED = (0.1, 0.2, 0.35)
_PEAK_REACH = 2
_LEAST_AREA = 4
"""Pixels of a blob. Smaller ones are grain."""

NUCLEI = (
    *(f"dark_share{threshold}" for threshold in _FIXED),
    *("nuclei_share", "nuclei_threshold", "nuclei_contrast", "peak_density"),
    *("nuclei_density", "nuclei_size", "nuclei_size_sd", "nuclei_size_weighted"),
)


def describe_nuclei(haematoxylin: np.ndarray) -> np.ndarray:
    """Measure the dark blobs of an image, float32 (y, x): its `NUCLEI`.

    The shares above fixed thresholds tell how strong the stain is. Otsu's threshold is chosen for each image, so that
    the mask of nuclei does not depend on that.
    """
    smooth = blur(haematoxylin[None], 1.0)[0, 0]
    threshold = otsu_threshold(smooth)
    mask = smooth > threshold
    outside, inside = group_means(haematoxylin.ravel(), mask.view(np.uint8).ravel(), 2, 0.0)
    n_blobs, *sizes = describe_areas(blob_areas(mask), _LEAST_AREA)
    per_1000 = 1000 / mask.size
    return np.array(
        [
            *(np.count_nonzero(smooth > fixed) / mask.size for fixed in _FIXED),
            np.count_nonzero(mask) / mask.size,
            threshold,
            inside - outside,
            np.sqrt(count_peaks(smooth, mask, _PEAK_REACH) * per_1000),
            np.sqrt(n_blobs * per_1000),
            *sizes,
        ]
    )
