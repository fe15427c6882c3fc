"""Places of lattices against the nearest of all centres, which a search through a list finds."""

import numpy as np
import pytest
from scipy.spatial import KDTree

from bleep_sc.pp._lattice.lattice import KINDS, LatticeKind

EVERY = pytest.mark.parametrize("kind", KINDS)


@EVERY
def test_a_point_belongs_to_the_place_whose_centre_is_nearest(kind: LatticeKind) -> None:
    lattice = KINDS[kind](7.0)
    points = np.random.default_rng(0).uniform(-60, 200, size=(5000, 2))
    rows, columns = np.meshgrid(np.arange(-40, 80), np.arange(-60, 120), indexing="ij")
    all_places = np.stack([rows.ravel(), columns.ravel()], axis=1)
    if kind == "hexagonal":
        all_places = all_places[all_places.sum(axis=1) % 2 == 0]
    nearest = KDTree(lattice.centres(all_places)).query(points)[1]
    assert np.array_equal(lattice.nearest(points), all_places[nearest])


@EVERY
def test_centres_are_a_pitch_apart_and_belong_to_themselves(kind: LatticeKind) -> None:
    lattice = KINDS[kind](12.5)
    places = lattice.within(np.array([300.0, 200.0]))
    centres = lattice.centres(places)
    assert np.array_equal(lattice.nearest(centres), places)
    distances = KDTree(centres).query(centres, k=2)[0][:, 1]
    assert np.allclose(distances, 12.5)
    assert len(np.unique(places, axis=0)) == len(places)


def test_a_hexagonal_lattice_is_numbered_like_visium() -> None:
    """Six neighbours, two columns apart in a row and one in the next; row + column is even."""
    lattice = KINDS["hexagonal"](100.0)
    places = lattice.within(np.array([1000.0, 1000.0]))
    assert (places.sum(axis=1) % 2 == 0).all()
    middle = np.array([4, 8])
    around = middle + np.array([(0, 2), (0, -2), (1, 1), (1, -1), (-1, 1), (-1, -1)])
    steps = lattice.centres(around) - lattice.centres(middle[None])
    assert np.allclose(np.linalg.norm(steps, axis=1), 100)


@EVERY
def test_places_fill_a_slide(kind: LatticeKind) -> None:
    """As many as its area has room for, and none outside."""
    size = np.array([5000.0, 3000.0])
    lattice = KINDS[kind](100.0)
    centres = lattice.centres(lattice.within(size))
    area = 1e4 if kind == "square" else 1e4 * np.sqrt(3) / 2
    assert len(centres) == pytest.approx(size.prod() / area, rel=0.03)
    assert ((centres >= 0) & (centres < size)).all()


def test_points_in_the_middle_fall_to_one_side_whatever_their_last_bits() -> None:
    """Bins of 8 µm on places of 20 µm: the third bin's centre is on a border."""
    lattice = KINDS["square"](20.0)
    for error in (-1e-12, 0.0, 1e-12):
        assert lattice.nearest(np.array([[20.0 + error, 3.0]])).tolist() == [[0, 1]]


@EVERY
def test_numbers_from_zero_keep_what_is_next_to_what(kind: LatticeKind) -> None:
    lattice = KINDS[kind](10.0)
    places = lattice.within(np.array([80.0, 80.0])) + np.array([-3, 5])
    numbers = lattice.counted_from_zero(places)
    assert numbers[:, 0].min() == 0
    assert numbers[:, 1].min() in (0, 1)
    assert kind == "square" or (numbers.sum(axis=1) % 2 == 0).all()
    assert (np.ptp(numbers - places, axis=0) == 0).all()
