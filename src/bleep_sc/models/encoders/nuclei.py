"""Find nuclei in a haematoxylin channel by threshold: how many there are, how large and how dark."""

from collections.abc import Iterator

import numpy as np

_FIXED = (0.1, 0.2, 0.35)
_PEAK_WINDOW = 5


def nuclei(haematoxylin: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Describe the dark blobs of each image (n, y, x) by name and values (n,).

    The shares above fixed thresholds tell how strong the stain is. Otsu's threshold is chosen for each image, so that
    the mask of nuclei does not depend on that.
    """
    from scipy.ndimage import gaussian_filter, maximum_filter

    area = haematoxylin.shape[1] * haematoxylin.shape[2]
    smooth = gaussian_filter(haematoxylin, sigma=(0, 1, 1), truncate=3)
    for threshold in _FIXED:
        yield f"dark_share{threshold}", (smooth > threshold).mean(axis=(1, 2))
    otsu = np.array([_otsu(image) for image in smooth])
    mask = smooth > otsu[:, None, None]
    yield "nuclei_share", mask.mean(axis=(1, 2))
    yield "nuclei_threshold", otsu
    inside, outside = _mean_where(haematoxylin, mask), _mean_where(haematoxylin, ~mask)
    yield "nuclei_contrast", inside - outside
    peaks = (smooth == maximum_filter(smooth, size=(0, _PEAK_WINDOW, _PEAK_WINDOW), mode="nearest")) & mask
    yield "peak_density", np.sqrt(1000 * peaks.sum(axis=(1, 2)) / area)
    sizes = [_sizes(m) for m in mask]
    yield "nuclei_density", np.sqrt([1000 * len(s) / area for s in sizes])
    yield "nuclei_size", np.log([s.mean() if len(s) else 1.0 for s in sizes])
    yield "nuclei_size_sd", np.array([np.log(s).std() if len(s) else 0.0 for s in sizes])
    yield "nuclei_size_weighted", np.log([(s**2).sum() / s.sum() if len(s) else 1.0 for s in sizes])


def _otsu(image: np.ndarray) -> float:
    """Find the threshold that parts an image best in two. An image of a single value gives that value."""
    from skimage.filters import threshold_otsu

    return float(image.flat[0]) if np.ptp(image) < 1e-6 else float(threshold_otsu(image, nbins=64))


def _mean_where(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    total = (values * mask).sum(axis=(1, 2), dtype=np.float64)
    return total / np.maximum(mask.sum(axis=(1, 2)), 1)


def _sizes(mask: np.ndarray) -> np.ndarray:
    """Measure the areas in pixels of connected blobs of at least four pixels. Smaller ones are grain."""
    from scipy.ndimage import label

    labels, _ = label(mask, structure=np.ones((3, 3)))
    sizes = np.bincount(labels.ravel())[1:]
    return sizes[sizes >= 4]
