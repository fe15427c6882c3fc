import numpy as np
import pytest

from bleep_sc.methods.learning.windows import split_windows


def lattice(n_rows: int, n_columns: int) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(n_rows), np.arange(n_columns), indexing="ij"), axis=-1).reshape(-1, 2)


def test_a_small_section_stays_whole() -> None:
    grid = lattice(33, 35)[::4] + 7
    ((spots, positions),) = split_windows(grid, largest=768, side=64)
    assert np.array_equal(spots, np.arange(len(grid)))
    assert np.array_equal(positions, grid - grid.min(axis=0))


@pytest.mark.parametrize(("shape", "largest"), [((78, 64), 768), ((78, 128), 5000), ((1, 300), 1000), ((40, 40), 7)])
def test_windows_are_a_partition_within_bounds(shape: tuple[int, int], largest: int) -> None:
    grid = np.random.default_rng(0).permutation(lattice(*shape))
    windows = split_windows(grid, largest=largest, side=64)
    assert np.array_equal(np.sort(np.concatenate([spots for spots, _ in windows])), np.arange(len(grid)))
    for spots, positions in windows:
        assert 0 < len(spots) <= largest
        assert positions.min(axis=0).tolist() == [0, 0]
        assert positions.max() < 64
        # neighbours stay neighbours: the positions are the grid's own, moved
        assert len(np.unique(grid[spots] - positions, axis=0)) == 1


def test_spots_at_one_place_are_still_split() -> None:
    windows = split_windows(np.zeros((10, 2), dtype=int), largest=3, side=64)
    assert sorted(len(spots) for spots, _ in windows) == [2, 2, 3, 3]
