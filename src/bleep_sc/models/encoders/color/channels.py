"""Turn a view of a crop into its channels: red, green, blue, saturation, haematoxylin, eosin and grey."""

import numpy as np

from bleep_sc.models.encoders.color.compilation import compiled

CHANNELS = ("red", "green", "blue", "saturation", "haematoxylin", "eosin", "grey")

_SIDE = 112
"""Side in pixels that larger views are shrunk to: cells still show, and the time does not grow with the crop."""

# optical density of haematoxylin, eosin and the residual in red, green and blue; rows of length one
_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
_UNMIXING = np.linalg.inv(_STAINS / np.linalg.norm(_STAINS, axis=1, keepdims=True))[:, :2].T.astype(np.float32)


def channels_of(view: np.ndarray) -> np.ndarray:
    """Compute the channels of a view, uint8 (size, size, 3): float32 (7, size, size) with values from 0 to 1.

    A view larger than 112 pixels is shrunk. Those of haematoxylin and eosin are how much the stain absorbs at each
    pixel, by unmixing optical densities (Ruifrok and Johnston, 2001). They may be less than 0 and more than 1.
    """
    image = view.astype(np.float32, order="C")
    image /= 255
    size = min(len(image), _SIDE)
    channels = np.empty((len(CHANNELS), size, size), dtype=np.float32)
    colours = channels[:3]
    if size < len(image):
        _average_areas(image.reshape(len(image), -1), colours)
    else:
        colours[:] = image.transpose(2, 0, 1)
    red, green, blue = colours
    channels[3] = colours.max(axis=0) - colours.min(axis=0)
    density = -np.log10(np.maximum(colours, 1 / 255))
    channels[4:6] = (_UNMIXING @ density.reshape(3, -1)).reshape(2, size, size)
    channels[6] = (red + green + blue) / 3
    return channels


@compiled
def _average_areas(image: np.ndarray, out: np.ndarray) -> None:
    """Shrink an image, whose columns are red, green, blue, red, ..., by averaging the area under each new pixel.

    All is computed in floating point: rounding to whole levels between the two axes would make a difference between an
    image and the same image turned.
    """
    side, size = len(image), out.shape[1]
    total = np.empty(3 * side)
    line = np.empty(3 * side, dtype=np.float32)
    for y in range(size):
        total[:] = 0
        start, stop = y * side / size, (y + 1) * side / size
        for source in range(int(start), int(np.ceil(stop))):
            weight = (min(stop, source + 1) - max(start, source)) / (stop - start)
            row = image[source]
            for i in range(len(row)):
                total[i] += weight * row[i]
        for i in range(len(line)):
            line[i] = total[i]
        for x in range(size):
            start, stop = x * side / size, (x + 1) * side / size
            red, green, blue = 0.0, 0.0, 0.0
            for source in range(int(start), int(np.ceil(stop))):
                weight = (min(stop, source + 1) - max(start, source)) / (stop - start)
                red += weight * line[3 * source]
                green += weight * line[3 * source + 1]
                blue += weight * line[3 * source + 2]
            out[0, y, x], out[1, y, x], out[2, y, x] = red, green, blue
