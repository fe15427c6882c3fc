"""The features of colour and texture stated plainly, with NumPy, SciPy and scikit-image: the quick code must agree.

Crops are described a block at a time, each feature by one or two lines that say what it is.
"""

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import gaussian_filter, label, maximum_filter
from skimage.filters import threshold_otsu

VIEW = 112
BANDS = (0.7, 1.4, 2.8, 5.6)
QUANTILES = (5, 25, 50, 75, 95)
WHITE = 0.85
FIXED = (0.1, 0.2, 0.35)
PEAK_WINDOW = 5

# optical density of haematoxylin, eosin and the residual in red, green and blue; rows of length one
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])

Named = Iterator[tuple[str, np.ndarray]]


def plain_features(crops: np.ndarray) -> dict[str, np.ndarray]:
    """Describe crops, uint8 (n, size, size, 3): values (n,) by name, in the order of the columns."""
    return {name: values.astype(np.float32) for name, values in _describe(crops)}


def _describe(crops: np.ndarray) -> Named:
    size = crops.shape[1]
    quarter = size // 4
    views = {"whole": crops, "centre": crops[:, quarter : size - quarter, quarter : size - quarter]}
    for view, part in views.items():
        rgb = _shrink(part, VIEW)
        for name, values in _describe_view(rgb):
            yield f"{view}_{name}", values


def _describe_view(rgb: np.ndarray) -> Named:
    grey = rgb.mean(axis=3)
    saturation = rgb.max(axis=3) - rgb.min(axis=3)
    haematoxylin, eosin = _stain_densities(rgb)
    channels = {
        "red": rgb[..., 0],
        "green": rgb[..., 1],
        "blue": rgb[..., 2],
        "saturation": saturation,
        "haematoxylin": haematoxylin,
        "eosin": eosin,
    }
    for name, channel in channels.items():
        for moment, values in _moments(channel):
            yield f"{name}_{moment}", values
    for name in ("haematoxylin", "eosin", "green"):
        flat = channels[name].reshape(len(rgb), -1)
        for quantile, values in zip(QUANTILES, np.percentile(flat, QUANTILES, axis=1), strict=True):
            yield f"{name}_quantile{quantile}", values
    yield "stains_correlation", _correlation(haematoxylin, eosin)
    yield "white_share", (grey > WHITE).mean(axis=(1, 2))
    yield from _rings({"haematoxylin": haematoxylin, "eosin": eosin})
    yield from _texture({"haematoxylin": haematoxylin, "eosin": eosin, "grey": grey})
    yield from _orientation(grey)
    yield from _nuclei(haematoxylin)


def _shrink(crops: np.ndarray, size: int) -> np.ndarray:
    """Turn crops into float32 in 0..1, and shrink larger ones to `size` by averaging the area under each new pixel.

    All is computed in floating point: rounding between the two axes would make a difference between a crop and the
    same crop turned.
    """
    images = crops.astype(np.float32) / 255
    if crops.shape[1] <= size:
        return images
    edges = np.linspace(0, crops.shape[1], size + 1)
    pixel = np.arange(crops.shape[1])
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    weights = (np.clip(overlap, 0, None) / np.diff(edges)[:, None]).astype(np.float32)
    return np.einsum("ay,nyxc,bx->nabc", weights, images, weights, optimize=True)


def _stain_densities(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute how much haematoxylin and eosin absorb at each pixel, by unmixing optical densities."""
    density = -np.log10(np.maximum(rgb, 1 / 255))
    unit = STAINS / np.linalg.norm(STAINS, axis=1, keepdims=True)
    stains = density @ np.linalg.inv(unit).astype(np.float32)
    return stains[..., 0], stains[..., 1]


def _moments(channel: np.ndarray) -> Named:
    mean = channel.mean(axis=(1, 2), dtype=np.float64)
    deviation = channel - mean[:, None, None].astype(np.float32)
    square = deviation * deviation
    sd = np.sqrt(square.mean(axis=(1, 2), dtype=np.float64))
    yield "mean", mean
    yield "sd", sd
    yield "skewness", _ratio((square * deviation).mean(axis=(1, 2), dtype=np.float64), sd**3)


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Divide, with 0 where the denominator vanishes, as the spread of a crop of one colour does."""
    return np.where(b > 1e-9, a / np.maximum(b, 1e-9), 0.0)


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a = a - a.mean(axis=(1, 2), keepdims=True, dtype=np.float64)
    b = b - b.mean(axis=(1, 2), keepdims=True, dtype=np.float64)
    covariance = (a * b).mean(axis=(1, 2))
    return _ratio(covariance, np.sqrt((a**2).mean(axis=(1, 2)) * (b**2).mean(axis=(1, 2))))


def _rings(channels: dict[str, np.ndarray]) -> Named:
    """Yield the means of channels in three rings of equal width around the centre."""
    size = next(iter(channels.values())).shape[1]
    axis = np.arange(size) - (size - 1) / 2
    ring = np.minimum(3 * np.hypot(axis[:, None], axis) / max(size / 2, 1), 2.9).astype(int)
    for name, channel in channels.items():
        for number in range(3):
            inside = channel[:, ring == number]
            values = inside.mean(axis=1, dtype=np.float64) if inside.shape[1] else channel.mean(axis=(1, 2))
            yield f"{name}_ring{number}", values


def _texture(channels: dict[str, np.ndarray]) -> Named:
    """Yield energy and skewness of band-passed channels: how much grain of each size, and if it is dark on light."""
    for name, channel in channels.items():
        smooth = channel
        for band, sigma in enumerate(BANDS):
            rougher, smooth = smooth, _blur(channel, sigma)
            for moment, values in _moments(rougher - smooth):
                if moment == "sd":
                    yield f"{name}_band{band}", np.log(values + 1e-4)
                elif moment == "skewness":
                    yield f"{name}_band{band}_skewness", values


def _orientation(grey: np.ndarray) -> Named:
    """Yield how far structures run in one direction, by the structure tensor, locally and over the whole view."""
    for sigma in (1.0, 2.0):
        smooth = _blur(grey, sigma)
        dy = np.gradient(smooth, axis=1) if smooth.shape[1] > 1 else np.zeros_like(smooth)
        dx = np.gradient(smooth, axis=2) if smooth.shape[2] > 1 else np.zeros_like(smooth)
        yield f"gradient{sigma:.0f}", np.log(np.hypot(dy, dx).mean(axis=(1, 2), dtype=np.float64) + 1e-4)
        xx, yy, xy = dx * dx, dy * dy, dx * dy
        for place, width in (("local", 3 * sigma), ("whole", None)):
            a, b, c = (
                t.mean(axis=(1, 2), keepdims=True, dtype=np.float64) if width is None else _blur(t, width)
                for t in (xx, yy, xy)
            )
            strength = a + b
            anisotropy = np.hypot(a - b, 2 * c)
            coherence = _ratio(anisotropy.mean(axis=(1, 2)), strength.mean(axis=(1, 2)))
            yield f"coherence{sigma:.0f}_{place}", coherence


def _blur(images: np.ndarray, sigma: float) -> np.ndarray:
    out: np.ndarray = gaussian_filter(images, sigma=(0, sigma, sigma), truncate=3)
    return out


def _nuclei(haematoxylin: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Describe the dark blobs of each image (n, y, x) by name and values (n,).

    The shares above fixed thresholds tell how strong the stain is. Otsu's threshold is chosen for each image, so that
    the mask of nuclei does not depend on that.
    """
    area = haematoxylin.shape[1] * haematoxylin.shape[2]
    smooth = _blur(haematoxylin, 1)
    for threshold in FIXED:
        yield f"dark_share{threshold}", (smooth > threshold).mean(axis=(1, 2))
    otsu = np.array([_otsu(image) for image in smooth])
    mask = smooth > otsu[:, None, None]
    yield "nuclei_share", mask.mean(axis=(1, 2))
    yield "nuclei_threshold", otsu
    inside, outside = _mean_where(haematoxylin, mask), _mean_where(haematoxylin, ~mask)
    yield "nuclei_contrast", inside - outside
    peaks = (smooth == maximum_filter(smooth, size=(0, PEAK_WINDOW, PEAK_WINDOW), mode="nearest")) & mask
    yield "peak_density", np.sqrt(1000 * peaks.sum(axis=(1, 2)) / area)
    sizes = [_sizes(m) for m in mask]
    yield "nuclei_density", np.sqrt([1000 * len(s) / area for s in sizes])
    yield "nuclei_size", np.log([s.mean() if len(s) else 1.0 for s in sizes])
    yield "nuclei_size_sd", np.array([np.log(s).std() if len(s) else 0.0 for s in sizes])
    yield "nuclei_size_weighted", np.log([(s**2).sum() / s.sum() if len(s) else 1.0 for s in sizes])


def _otsu(image: np.ndarray) -> float:
    """Find the threshold that parts an image best in two. An image of a single value gives that value."""
    return float(image.flat[0]) if np.ptp(image) < 1e-6 else float(threshold_otsu(image, nbins=64))


def _mean_where(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    total = (values * mask).sum(axis=(1, 2), dtype=np.float64)
    return total / np.maximum(mask.sum(axis=(1, 2)), 1)


def _sizes(mask: np.ndarray) -> np.ndarray:
    """Measure the areas in pixels of connected blobs of at least four pixels. Smaller ones are grain."""
    labels, _ = label(mask, structure=np.ones((3, 3)))
    sizes = np.bincount(labels.ravel())[1:]
    return sizes[sizes >= 4]
