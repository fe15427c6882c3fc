"""Whatever image, spots, size, border and scale: crops are those of a slow, plain reference; sought by hypothesis."""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
from anndata import AnnData
from squidpy.im import ImageContainer

import bleep_sc as bl

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

QUICK = settings(
    max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def rounded(value: float) -> int:
    """To the next whole number, a half to the even one."""
    low = int(np.floor(value))
    rest = value - low
    return low + int(rest > 0.5 or (rest == 0.5 and low % 2 == 1))


def mirrored(i: int, n: int) -> int:
    """The pixel that stands at a place beyond the border: step by step back inwards at each end."""
    if n == 1:
        return 0
    while not 0 <= i < n:
        i = -i if i < 0 else 2 * (n - 1) - i
    return i


def pixel(image: np.ndarray, x: int, y: int, border: str) -> tuple[int, ...]:
    height, width = image.shape[:2]
    if border == "reflect":
        x, y = mirrored(x, width), mirrored(y, height)
    elif not (0 <= x < width and 0 <= y < height):
        return (255, 255, 255)
    return tuple(image[y, x].tolist())


def slowly(image: np.ndarray, centres: np.ndarray, size: int, border: str) -> np.ndarray:
    """One pixel after the other."""
    crops = np.empty((len(centres), size, size, 3), dtype=np.uint8)
    for i, (x, y) in enumerate(centres.tolist()):
        left, top = rounded(x) - size // 2, rounded(y) - size // 2
        for row in range(size):
            for column in range(size):
                crops[i, row, column] = pixel(image, left + column, top + row, border)
    return crops


def kernel(t: float) -> float:
    """Keys' cubic, as Pillow has it."""
    t = abs(t)
    if t < 1:
        return 1.5 * t**3 - 2.5 * t**2 + 1
    return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t < 2 else 0.0


def resampled(image: np.ndarray, x: float, y: float, *, width: float, size: int, border: str) -> np.ndarray:
    """A window of any width around an exact centre, each new pixel a weighted mean; the filter widens to shrink."""
    step = width / size
    reach = max(1.0, step)

    def weights(centre: float) -> dict[int, float]:
        low, high = int(np.floor(centre - 2 * reach)) - 1, int(np.ceil(centre + 2 * reach)) + 1
        found = {i: kernel((i - centre) / reach) for i in range(low, high + 1)}
        total = sum(found.values())
        return {i: weight / total for i, weight in found.items() if weight}

    across = [weights(x + (column - (size - 1) / 2) * step) for column in range(size)]

    def row_of(j: int) -> np.ndarray:
        """Pillow resamples rows first, and rounds them to bytes."""
        row = [sum(weight * np.array(pixel(image, i, j, border)) for i, weight in parts.items()) for parts in across]
        return np.clip(np.rint(row), 0, 255)

    rows: dict[int, np.ndarray] = {}
    out = np.zeros((size, size, 3))
    for row in range(size):
        for j, weight in weights(y + (row - (size - 1) / 2) * step).items():
            if j not in rows:
                rows[j] = row_of(j)
            out[row] += weight * rows[j]
    return np.clip(out, 0, 255)


@st.composite
def slides(draw: Any, most: int = 6) -> tuple[np.ndarray, np.ndarray, float]:
    """An image, spots at fractions and halves of pixels that all lie in it, and its scale."""
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    image = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 256, (height, width, 3), dtype=np.uint8)
    # a power of two changes no digit
    scale = draw(st.sampled_from([1.0, 0.5, 2.0]))
    places = [
        st.tuples(*(st.integers(0, 16 * (n - 1)).map(lambda i: i / 16) for n in (width, height)))
        for _ in range(draw(st.integers(1, most)))
    ]
    return image, np.array([draw(place) for place in places]) / scale, scale


def spots(xy: np.ndarray) -> AnnData:
    return AnnData(np.ones((len(xy), 1), dtype=np.float32), obsm={"spatial": xy.copy()})


def cut(xy: np.ndarray, image: Any, **how: Any) -> np.ndarray:
    adata = spots(xy)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an unknown scale
        bl.pp.crops(adata, image, **how)
    assert np.array_equal(adata.obsm["spatial"], xy)
    found = adata.obsm["crops"]
    return np.asarray(found.compute() if hasattr(found, "compute") else found)


def container(pixels: Any, scale: float) -> Any:
    return ImageContainer(pixels, dims=("y", "x", "channels"), scale=scale)


@QUICK
@given(slides(), st.integers(1, 20), st.sampled_from(["white", "reflect"]))
def test_native_crops_are_those_of_the_reference(slide: Any, size: int, border: str) -> None:
    image, xy, scale = slide
    found = cut(xy, container(image, scale), size=size, border=border)
    assert np.array_equal(found, slowly(image, xy * scale, size, border))


@QUICK
@given(slides(most=1), st.integers(1, 4), st.integers(16, 120), st.sampled_from(["white", "reflect"]))
def test_resampled_crops_are_those_of_the_reference(slide: Any, size: int, sixteenths: int, border: str) -> None:
    """Pillow rounds its weights: to two grey values."""
    image, xy, scale = slide
    width = sixteenths / 16
    found = cut(xy, container(image, scale), size=size, border=border, um=width / scale, mpp=1.0)
    wanted = resampled(image, *(xy[0] * scale).tolist(), width=width, size=size, border=border)
    assert np.abs(found[0] - wanted).max() <= 2


@QUICK
@given(slides(), st.data())
def test_the_order_of_spots_is_that_of_crops(slide: Any, data: Any) -> None:
    image, xy, scale = slide
    order = np.array(data.draw(st.permutations(range(len(xy)))))
    how = {"size": data.draw(st.integers(1, 12)), "um": data.draw(st.sampled_from([None, 5.5])), "mpp": 0.7}
    image = container(image, scale)
    assert np.array_equal(cut(xy[order], image, **how), cut(xy, image, **how)[order])


@pytest.mark.slow
@settings(QUICK, max_examples=12)
@given(slides(), st.data())
def test_memory_dask_and_tiff_are_the_same(slide: Any, data: Any) -> None:
    """Whatever the blocks and tiles, eager and lazy."""
    image, xy, _ = slide
    how: dict[str, Any] = {
        "size": data.draw(st.integers(1, 20)),
        "border": data.draw(st.sampled_from(["white", "reflect"])),
        "um": data.draw(st.sampled_from([None, 2.0, 9.75])),
        "mpp": 1.0,
    }
    wanted = cut(xy := np.clip(xy, 0, np.array(image.shape[1::-1]) - 1), container(image, 1.0), **how)
    chunks = tuple(data.draw(st.integers(1, n)) for n in image.shape)
    layout = data.draw(
        st.sampled_from([{}, {"rowsperstrip": 3}, {"rowsperstrip": 5, "compression": "zlib"}, {"tile": (16, 16)}])
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.tif"
        tifffile.imwrite(path, image, photometric="rgb", **layout)
        for other in (container(da.from_array(image, chunks=chunks), 1.0), path):
            for lazy in (False, True):
                assert np.array_equal(cut(xy, other, lazy=lazy, **how), wanted)
