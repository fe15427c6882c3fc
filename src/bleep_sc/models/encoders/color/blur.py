"""Blur images by Gaussians, with the same bits as ``scipy.ndimage.gaussian_filter(image, sigma, truncate=3)``."""

from functools import cache

import numpy as np

from bleep_sc.models.encoders.color.compilation import compiled

_TRUNCATE = 3
"""Standard deviations at which a Gaussian ends."""


def blur(images: np.ndarray, *sigmas: float) -> np.ndarray:
    """Blur each image, float32 (n, y, x), by each width: float32 (n, n_sigmas, y, x). Borders are mirrors."""
    out = np.empty((len(images), len(sigmas), *images.shape[1:]), dtype=np.float32)
    _blur(images, *_gaussians(sigmas), out)
    return out


@cache
def _gaussians(sigmas: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Compute where each Gaussian ends, and its weights at 0, 1, 2, ... pixels, a row for each."""
    radii = np.array([int(_TRUNCATE * sigma + 0.5) for sigma in sigmas])
    weights = np.zeros((len(sigmas), radii.max() + 1))
    for sigma, radius, row in zip(sigmas, radii, weights, strict=True):
        gaussian = np.exp(-0.5 / (sigma * sigma) * np.arange(-radius, radius + 1) ** 2)
        row[: radius + 1] = (gaussian / gaussian.sum())[radius:]
    return radii, weights


@compiled
def _blur(images: np.ndarray, radii: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    height, width = images.shape[1:]
    turned = np.empty((width, height), dtype=np.float32)
    radius = weights.shape[1] - 1
    buffer = np.empty(max((height + 2 * radius) * width, (width + 2 * radius) * height), dtype=np.float32)
    total = np.empty(max(height, width))
    for i in range(len(images)):
        for j in range(len(radii)):
            gaussian = weights[j, : radii[j] + 1]
            _blur_turned(images[i], gaussian, turned, buffer, total)
            _blur_turned(turned, gaussian, out[i, j], buffer, total)


@compiled
def _blur_turned(
    image: np.ndarray, weights: np.ndarray, out: np.ndarray, buffer: np.ndarray, total: np.ndarray
) -> None:
    """Blur along the first axis only, and give the two axes each other's place: two calls blur the whole image.

    The pixels of a row lie side by side, so that a processor blurs several columns at a time. Sums are float64, and
    their terms go from the outermost to the innermost, as SciPy's do.
    """
    height, width = image.shape
    radius = len(weights) - 1
    mirrored = buffer[: (height + 2 * radius) * width].reshape(height + 2 * radius, width)
    for y in range(len(mirrored)):
        source = (y - radius) % (2 * height)
        row, target = image[min(source, 2 * height - 1 - source)], mirrored[y]
        for x in range(width):
            target[x] = row[x]
    for y in range(height):
        centre = mirrored[y + radius]
        for x in range(width):
            total[x] = centre[x] * weights[0]
        for distance in range(radius, 0, -1):
            above, below = mirrored[y + radius - distance], mirrored[y + radius + distance]
            weight = weights[distance]
            for x in range(width):
                total[x] += (np.float64(above[x]) + np.float64(below[x])) * weight
        for x in range(width):
            out[x, y] = total[x]
