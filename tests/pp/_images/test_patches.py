from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
import pytest

import bleep_sc as bl
from bleep_sc.pp._images.patches import patches, side_by_side


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(90, 110, 3), dtype=np.uint8)


def rectangles(rng: np.random.Generator, n: int = 60, side: int = 40) -> tuple[np.ndarray, np.ndarray]:
    low = rng.integers(0, [110, 90], size=(n, 2))
    return low, np.minimum(low + rng.integers(1, side, size=(n, 2)), [110, 90])


def watched(pixels: np.ndarray, chunks: Any, read: list[tuple[int, ...]]) -> Any:
    """A dask array that notes which of its blocks are computed."""

    def block(x: np.ndarray, block_info: Any = None) -> np.ndarray:
        read.append(tuple(block_info[0]["chunk-location"][:2]))
        return x

    return da.from_array(pixels, chunks=chunks).map_blocks(block, dtype=pixels.dtype, meta=pixels[:0, :0])


@pytest.mark.parametrize("working_mb", [1e-6, 1e-2, 128])
@pytest.mark.parametrize("seed", range(6))
def test_dask_equals_plain_slices(
    pixels: np.ndarray, seed: int, working_mb: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the chunks, ragged ones and split channels too, and however little memory there is."""
    monkeypatch.setattr(bl.settings, "_memory", 2 * working_mb)
    rng = np.random.default_rng(seed)
    cuts = [np.unique(rng.integers(1, length, size=4)) for length in pixels.shape[:2]]
    down, right = (tuple(np.diff([0, *cut, n]).tolist()) for cut, n in zip(cuts, pixels.shape[:2], strict=True))
    array = da.from_array(pixels, chunks=(down, right, int(rng.integers(1, 4))))
    low, high = rectangles(rng)
    found = dict(patches(array, low, high))
    assert sorted(found) == list(range(len(low)))
    for i, patch in found.items():
        assert np.array_equal(patch, pixels[low[i, 1] : high[i, 1], low[i, 0] : high[i, 0]])


def test_only_touched_blocks_are_read_and_each_once(pixels: np.ndarray) -> None:
    read: list[tuple[int, ...]] = []
    array = watched(pixels, (30, 20, 3), read)
    low = np.array([[5, 5], [15, 25], [8, 2], [100, 70]])
    read.clear()
    assert len(dict(patches(array, low, low + 10))) == 4
    assert sorted(read) == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 5)]


def test_what_is_read_whole_anyway_is_read_once(pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """As squidpy reads a TIFF by one task and splits it into chunks afterwards."""
    monkeypatch.setattr(bl.settings, "_memory", 2 * 1e-6)
    read: list[tuple[int, ...]] = []
    array = watched(pixels, -1, read).rechunk((30, 20, 3))
    low, high = rectangles(np.random.default_rng(0))
    read.clear()
    found = dict(patches(array, low, high))
    assert len(read) == 1
    assert all(
        np.array_equal(found[i], pixels[a[1] : b[1], a[0] : b[0]])
        for i, (a, b) in enumerate(zip(low, high, strict=True))
    )


def test_memory_of_arrays_is_not_copied(pixels: np.ndarray) -> None:
    low, high = rectangles(np.random.default_rng(0))
    assert all(np.shares_memory(patch, pixels) for _, patch in patches(pixels, low, high))


@pytest.mark.parametrize("most", [1, 7, 500])
def test_few_are_begun_at_once(most: int) -> None:
    rng = np.random.default_rng(0)
    x, first = rng.uniform(size=300), rng.integers(0, 50, size=300)
    last = first + rng.integers(0, 4, size=300)
    groups = list(side_by_side(x, first, last, most=most))
    assert np.array_equal(np.sort(np.concatenate(groups)), np.arange(300))
    for group in groups:
        begun = [np.sum((first[group] <= row) & (row <= last[group])) for row in range(60)]
        assert max(begun) <= most
    assert (len(groups) == 1) == (most == 500), "no tile is read twice without need"
    if most == 7:
        ends = sorted((x[group].min(), x[group].max()) for group in groups)
        assert all(before[1] < after[0] for before, after in pairwise(ends)), "groups lie side by side"


def test_memory_holds_what_lies_on_one_place() -> None:
    rows = np.zeros(5, dtype=np.int64)
    assert [len(group) for group in side_by_side(np.zeros(5), rows, rows, most=2)] == [2, 1, 2]
    assert list(side_by_side(np.empty(0), rows[:0], rows[:0], most=2)) == []
