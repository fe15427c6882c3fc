import numpy as np
import pandas as pd
import pytest

from bleep_sc._grid import grid_positions, within_reach


def visium(*, shift: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """All spots of a Visium slide: 78 rows, each using every second of 128 columns."""
    row, column = np.meshgrid(np.arange(78), np.arange(64), indexing="ij")
    row, column = row.ravel(), (2 * column + row % 2).ravel() + shift
    obs = pd.DataFrame({"array_row": row, "array_col": column}, index=[f"s{i}" for i in range(len(row))])
    return obs, np.stack([50.0 * column, 86.6 * row], axis=1)


@pytest.mark.parametrize("shift", [0, 1])
def test_a_staggered_lattice_is_packed(shift: int) -> None:
    obs, xy = visium(shift=shift)
    grid = grid_positions(obs, xy)
    assert grid.dtype == np.int64
    assert (grid.max(axis=0) + 1).tolist() == [78, 64]
    assert len(np.unique(grid, axis=0)) == 78 * 64
    # neighbours in a row stay neighbours
    assert grid[:3].tolist() == [[0, 0], [0, 1], [0, 2]]


def test_a_square_lattice_stays_as_it_is() -> None:
    obs = pd.DataFrame({"array_row": [4, 4, 5, 7], "array_col": [10, 11, 10, 13]}, index=list("abcd"))
    assert grid_positions(obs, np.zeros((4, 2))).tolist() == [[0, 0], [0, 1], [1, 0], [3, 3]]
    as_text = obs.astype(str).astype("category")
    assert grid_positions(as_text, np.zeros((4, 2))).tolist() == [[0, 0], [0, 1], [1, 0], [3, 3]]


@pytest.mark.parametrize("obs", [pd.DataFrame(index=list("abcdef")), pd.DataFrame({"array_row": [1] * 6})])
def test_coordinates_are_counted_in_steps_of_the_pitch(obs: pd.DataFrame) -> None:
    xy = 30.0 * np.array([[2, 5], [3, 5], [4, 5], [2, 6], [4, 6], [4, 9.0]])
    xy += np.random.default_rng(0).uniform(-2, 2, size=xy.shape)
    # x is the column, y is the row
    assert grid_positions(obs, xy).tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 2], [4, 2]]


def test_one_spot_and_spots_at_one_place() -> None:
    assert grid_positions(pd.DataFrame(index=["a"]), np.array([[3.0, 4.0]])).tolist() == [[0, 0]]
    assert grid_positions(pd.DataFrame(index=["a", "b"]), np.ones((2, 2))).tolist() == [[0, 0], [0, 0]]


@pytest.mark.odd
def test_several_sections_taken_for_one_are_refused() -> None:
    obs = pd.DataFrame({"array_row": [1, 2, 1], "array_col": [1, 1, 1]}, index=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"2 of 3 spots share.*'a' at array_row 1, array_col 1.*library_key"):
        grid_positions(obs, np.zeros((3, 2)))


@pytest.mark.odd
def test_array_positions_must_be_numbers() -> None:
    obs = pd.DataFrame({"array_row": [1, 2], "array_col": [1, np.nan]}, index=["a", "b"])
    with pytest.raises(ValueError, match=r"obs\['array_col'\].*'nan' for spot 'b'"):
        grid_positions(obs, np.zeros((2, 2)))


@pytest.mark.parametrize("n_neighbors", [1, 4, 8, 24])
@pytest.mark.parametrize("kind", ["visium", "scattered", "one place", "few"])
def test_near_spots_are_those_within_the_distance_of_the_last(kind: str, n_neighbors: int) -> None:
    rng = np.random.default_rng(0)
    xy = {
        "visium": visium()[1][:700],
        "scattered": rng.uniform(0, 100, size=(300, 2)),
        # more of them are as near as the last than are looked at at first
        "one place": np.concatenate([np.zeros((50, 2)), rng.uniform(1, 9, size=(50, 2))]),
        "few": np.array([[0, 0], [1, 0], [5, 5.0]]),
    }[kind]
    distances = np.linalg.norm(xy[:, None] - xy, axis=2)
    last = np.sort(distances, axis=1)[:, min(n_neighbors, len(xy) - 1)]
    np.testing.assert_array_equal(
        within_reach(xy, n_neighbors).toarray(), (distances <= last[:, None] * (1 + 1e-6)).astype(float)
    )
