"""Describe H&E crops by features of colour and texture made by hand: quick, no download, strong on small data.

Each crop is described by itself, in two views: the whole crop, and its centre half, where the spot lies. Nothing
depends on which way a crop is turned, since tissue has no up. The features follow long practice in histology. They are
colour moments and quantiles, optical density of haematoxylin and eosin (Ruifrok and Johnston, 2001), band-pass
energies, coherence of orientation, and nuclei found by threshold.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from bleep_sc._progress import progress
from bleep_sc.models.encoders.nuclei import nuclei

FEATURE_SET = "color-1"
"""Name of the list of features. Another list gets another name, so that a stored model never reads the wrong ones."""

_VIEW = 112
"""Side in pixels that larger views are shrunk to: cells still show, and the time does not grow with the crop."""
_BLOCK = 64
_BANDS = (0.7, 1.4, 2.8, 5.6)
_QUANTILES = (5, 25, 50, 75, 95)
_WHITE = 0.85

# optical density of haematoxylin, eosin and the residual in red, green and blue; rows of length one
_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])

Named = Iterator[tuple[str, np.ndarray]]


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
    """
    blocks = []
    starts = range(0, crops.shape[0], _BLOCK)
    for start in progress(starts, desc="Colour and texture", show=progress_bar if len(starts) > 1 else False):
        block = np.asarray(crops[start : start + _BLOCK])
        blocks.append(np.stack([values for _, values in _describe(block)], axis=1).astype(np.float32))
    return np.concatenate(blocks)


def feature_names() -> list[str]:
    """Return the names of the columns of `color_features`."""
    return [name for name, _ in _describe(np.zeros((1, 8, 8, 3), dtype=np.uint8))]


def _describe(crops: np.ndarray) -> Named:
    size = crops.shape[1]
    quarter = size // 4
    views = {"whole": crops, "centre": crops[:, quarter : size - quarter, quarter : size - quarter]}
    for view, part in views.items():
        rgb = _shrink(part, _VIEW)
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
        for quantile, values in zip(_QUANTILES, np.percentile(flat, _QUANTILES, axis=1), strict=True):
            yield f"{name}_quantile{quantile}", values
    yield "stains_correlation", _correlation(haematoxylin, eosin)
    yield "white_share", (grey > _WHITE).mean(axis=(1, 2))
    yield from _rings({"haematoxylin": haematoxylin, "eosin": eosin})
    yield from _texture({"haematoxylin": haematoxylin, "eosin": eosin, "grey": grey})
    yield from _orientation(grey)
    yield from nuclei(haematoxylin)


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
    unit = _STAINS / np.linalg.norm(_STAINS, axis=1, keepdims=True)
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
        for band, sigma in enumerate(_BANDS):
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
    from scipy.ndimage import gaussian_filter

    out: np.ndarray = gaussian_filter(images, sigma=(0, sigma, sigma), truncate=3)
    return out
