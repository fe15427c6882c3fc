"""The axes of bins: turned, mirrored, without array columns, staggered; and cells that have none."""

import numpy as np
import pandas as pd
import pytest

from bleep_sc.pp._lattice.frame import frame_of

UM_PER_PX, SIDE = 0.27, 8.0


def bins(rows: int, columns: int, *, angle: float = 0.0, mirrored: bool = False) -> tuple[pd.DataFrame, np.ndarray]:
    """Bins of 8 µm that stand turned about the image's corner, and their array positions."""
    row, column = (each.ravel() for each in np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    flat = np.stack([-column if mirrored else column, row], axis=1) * SIDE / UM_PER_PX
    return pd.DataFrame({"array_row": row + 50, "array_col": column + 20}), flat @ turn.T + [9000, 400]


@pytest.mark.parametrize("angle", [0.0, 0.05, np.pi / 2, -2.5])
@pytest.mark.parametrize("mirrored", [False, True])
def test_array_columns_give_the_axes_however_bins_are_turned(angle: float, *, mirrored: bool) -> None:
    obs, xy = bins(30, 40, angle=angle, mirrored=mirrored)
    frame = frame_of(obs, xy, UM_PER_PX)
    position = obs[["array_col", "array_row"]].to_numpy() - [20, 50]
    assert frame.side == pytest.approx([SIDE, SIDE])
    assert frame.spacing == pytest.approx(SIDE)
    assert np.allclose(frame.um, (position + 0.5) * SIDE)
    assert np.allclose(frame.pixels(frame.um), xy)


@pytest.mark.parametrize("angle", [0.0, 0.01, 0.7])
def test_axes_are_found_without_array_columns(angle: float) -> None:
    """Over 600 rows, where an error of a thousandth of a step would be off by half a bin; some bins are missing."""
    obs, xy = bins(600, 200, angle=angle)
    kept = np.random.default_rng(0).uniform(size=len(xy)) < 0.8
    jitter = np.random.default_rng(1).uniform(-0.5, 0.5, size=xy.shape)  # as of rounded pixels
    frame = frame_of(pd.DataFrame(index=obs.index[kept]), (xy + jitter)[kept], UM_PER_PX)
    assert frame.side == pytest.approx([SIDE, SIDE], rel=1e-3)
    from_corner = (frame.um - frame.um.min(axis=0)) / SIDE
    assert np.allclose(from_corner, np.rint(from_corner), atol=0.01 * 600 * 1e-3 + 0.3)
    assert np.abs(frame.pixels(frame.um) - (xy + jitter)[kept]).max() < 1


def test_array_columns_that_do_not_fit_the_places_are_not_used() -> None:
    obs, xy = bins(30, 40)
    shuffled = obs.sample(frac=1, random_state=0).set_axis(obs.index)
    frame = frame_of(shuffled, xy, UM_PER_PX)
    assert frame.side == pytest.approx([SIDE, SIDE])
    assert np.abs(frame.pixels(frame.um) - xy).max() < 1e-6


def test_a_visium_array_is_staggered() -> None:
    row, column = (each.ravel() for each in np.meshgrid(np.arange(20), np.arange(40), indexing="ij"))
    used = (row + column) % 2 == 0
    obs = pd.DataFrame({"array_row": row[used], "array_col": column[used]})
    xy = np.stack([column[used] * 50.0, row[used] * 50 * np.sqrt(3)], axis=1) / 0.5
    frame = frame_of(obs, xy, 0.5)
    assert frame.staggered
    assert frame.side == pytest.approx([50, 50 * np.sqrt(3)])
    assert frame.spacing == pytest.approx(100)
    around, exists = frame.bins_around(frame.um[:50], reach=150)
    known = {tuple(place) for place in frame.um.round(3).tolist()}
    inside = ((around > 0) & (around < frame.um.max(axis=0) + 1)).all(axis=2)
    assert {tuple(place) for place in around[inside & exists].round(3).tolist()} <= known
    assert not {tuple(place) for place in around[inside & ~exists].round(3).tolist()} & known


def test_cells_have_no_rows_and_follow_the_image() -> None:
    xy = np.random.default_rng(0).uniform(100, 900, size=(400, 2))
    frame = frame_of(pd.DataFrame(index=range(400)), xy, 0.5)
    assert frame.side is None
    assert np.allclose(frame.um, (xy - xy.min(axis=0)) * 0.5)
    assert np.allclose(frame.pixels(frame.um), xy)


@pytest.mark.odd
@pytest.mark.parametrize("xy", [[[5.0, 7.0]], [[5.0, 7.0], [9.0, 7.0]], [[1.0, 1.0]] * 12])
def test_few_or_equal_places_are_cells(xy: list[list[float]]) -> None:
    places = np.array(xy)
    obs = pd.DataFrame({"array_row": range(len(places)), "array_col": range(len(places))})
    frame = frame_of(obs, places, 1.0)
    assert frame.side is None
    assert np.allclose(frame.pixels(frame.um), places)
