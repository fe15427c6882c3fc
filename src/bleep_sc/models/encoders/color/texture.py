"""Describe the texture of channels: how much grain of each size, and how far it runs in one direction."""

import numpy as np

from bleep_sc.models.encoders.color.blur import blur
from bleep_sc.models.encoders.color.compilation import compiled
from bleep_sc.models.encoders.color.statistics import moments, ratio

_SIGMAS = (0.7, 1.4, 2.8, 5.6)
BANDS = tuple(f"band{number}{what}" for number in range(len(_SIGMAS)) for what in ("", "_skewness"))
"""Of each band-passed channel: how much grain of a size there is, and if it is dark on light."""

_WIDTHS = (1.0, 2.0)
ORIENTATION = tuple(
    name.format(width)
    for width in _WIDTHS
    for name in ("gradient{:.0f}", "coherence{:.0f}_local", "coherence{:.0f}_whole")
)


def describe_bands(channels: np.ndarray) -> np.ndarray:
    """Measure the `BANDS` of each channel, float32 (n, y, x), one channel after the other."""
    smooth = blur(channels, *_SIGMAS)
    passed = np.empty_like(smooth)
    np.subtract(channels, smooth[:, 0], out=passed[:, 0])
    np.subtract(smooth[:, :-1], smooth[:, 1:], out=passed[:, 1:])
    _, sd, skewness = moments(passed.reshape(-1, *channels.shape[1:])).reshape(-1, 3).T
    return np.stack([np.log(sd + 1e-4), skewness], axis=1).ravel()


def describe_orientation(grey: np.ndarray) -> np.ndarray:
    """Measure how far structures run in one direction, by the structure tensor, locally and over the whole view.

    The tensor of a gradient (x, y) is told by its strength x² + y², and by x² - y² and 2 x y, whose length is its
    anisotropy. A blur, whose borders are mirrors, leaves the mean strength as it is.
    """
    found = []
    for smooth, width in zip(blur(grey[None], *_WIDTHS)[0], _WIDTHS, strict=True):
        tensors = np.empty((2, *grey.shape), dtype=np.float32)
        length, strength, whole = _structure(smooth, tensors)
        local = _mean_length(blur(tensors, 3 * width).reshape(2, -1))
        found += [np.log(length + 1e-4), ratio(local, strength), ratio(whole, strength)]
    return np.array(found)


@compiled(sums_in_any_order=True)
def _structure(image: np.ndarray, tensors: np.ndarray) -> tuple[float, float, float]:
    """Measure gradients: their mean length, their mean strength, and the anisotropy of their mean tensor.

    A gradient is `numpy.gradient`'s: half the difference of the two neighbours, at a border that to the one neighbour.
    Each pixel's x² - y² and 2 x y are written to `tensors`.
    """
    height, width = image.shape
    dx = np.zeros(width, dtype=np.float32)
    lengths, strengths, differences, products = 0.0, 0.0, 0.0, 0.0
    for y in range(height):
        row, above, below = image[y], image[max(y - 1, 0)], image[min(y + 1, height - 1)]
        reach = np.float32(0.5 if 0 < y < height - 1 else 1)
        if width > 1:
            dx[0], dx[-1] = row[1] - row[0], row[-1] - row[-2]
        for x in range(1, width - 1):
            dx[x] = (row[x + 1] - row[x - 1]) * np.float32(0.5)
        difference, product = tensors[0, y], tensors[1, y]
        for x in range(width):
            dy = (below[x] - above[x]) * reach
            xx, yy = dx[x] * dx[x], dy * dy
            difference[x], product[x] = xx - yy, 2 * (dx[x] * dy)
            strength = np.float64(xx) + np.float64(yy)
            strengths += strength
            lengths += np.sqrt(strength)
            differences += difference[x]
            products += product[x]
    n = image.size
    return lengths / n, strengths / n, np.hypot(differences / n, products / n)


@compiled(sums_in_any_order=True)
def _mean_length(vectors: np.ndarray) -> float:
    """Average the lengths of vectors, float32 (2, n)."""
    x, y = vectors[0], vectors[1]
    total = 0.0
    for i in range(len(x)):
        total += np.sqrt(np.float64(x[i]) * np.float64(x[i]) + np.float64(y[i]) * np.float64(y[i]))
    return total / len(x)
