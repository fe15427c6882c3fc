"""Find blobs of a mask, and peaks in them."""

import numpy as np

from bleep_sc.models.encoders.color.compilation import compiled


@compiled
def blob_areas(mask: np.ndarray) -> np.ndarray:
    """Measure connected blobs in pixels; pixels that touch by a corner are connected."""
    height, width = mask.shape
    left = mask.copy()
    blob = np.empty(mask.size, dtype=np.int64)  # pixels found, each by its place in the image read row by row
    areas = np.empty(mask.size)
    n_blobs = 0
    for y in range(height):
        for x in range(width):
            if not left[y, x]:
                continue
            left[y, x] = False
            blob[0] = y * width + x
            n_seen, area = 0, 1
            while n_seen < area:
                here_y, here_x = blob[n_seen] // width, blob[n_seen] % width
                n_seen += 1
                for near_y in range(max(here_y - 1, 0), min(here_y + 2, height)):
                    for near_x in range(max(here_x - 1, 0), min(here_x + 2, width)):
                        if left[near_y, near_x]:
                            left[near_y, near_x] = False
                            blob[area] = near_y * width + near_x
                            area += 1
            areas[n_blobs] = area
            n_blobs += 1
    return areas[:n_blobs].copy()


@compiled
def describe_areas(areas: np.ndarray, least: int) -> tuple[int, float, float, float]:
    """Describe the blobs of at least some pixels: how large they are, how unlike, and where their pixels are found.

    Returns
    -------
    Their number, the logarithm of their mean area, the standard deviation of the logarithm of their areas, and the
    logarithm of the mean area that a pixel finds itself in.
    """
    n, total, squares, logs = 0, 0.0, 0.0, 0.0
    for area in areas:
        if area >= least:
            n, total, squares, logs = n + 1, total + area, squares + area * area, logs + np.log(area)
    if n == 0:
        return 0, 0.0, 0.0, 0.0
    spread = 0.0
    for area in areas:
        if area >= least:
            spread += (np.log(area) - logs / n) ** 2
    return n, np.log(total / n), np.sqrt(spread / n), np.log(squares / total)


@compiled
def count_peaks(image: np.ndarray, mask: np.ndarray, reach: int) -> int:
    """Count pixels of the mask that no pixel of the square around them exceeds, `reach` pixels each way."""
    n_peaks = 0
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            if mask[y, x] and _is_peak(image, y, x, reach):
                n_peaks += 1
    return n_peaks


@compiled
def _is_peak(image: np.ndarray, y: int, x: int, reach: int) -> bool:
    height, width = image.shape
    for near_y in range(max(y - reach, 0), min(y + reach + 1, height)):
        for near_x in range(max(x - reach, 0), min(x + reach + 1, width)):
            if image[near_y, near_x] > image[y, x]:
                return False
    return True
