import numpy as np
import pytest
from numpy.typing import ArrayLike
from scipy import stats
from scipy.ndimage import gaussian_filter

from bleep_sc._blocks import threads
from bleep_sc.metrics import morans_i, partial_pearson, spot_graph
from bleep_sc.metrics.turns import beyond_depth, cross_geary, random_turns

SIDE = 24


@pytest.fixture(scope="module")
def xy() -> np.ndarray:
    """A round piece of a lattice, with a hole."""
    grid = np.stack(np.divmod(np.arange(SIDE**2), SIDE), axis=1).astype(float)
    centre = np.abs(np.hypot(*(grid - (SIDE - 1) / 2).T))
    return grid[(centre < SIDE / 2) & (centre > 2)] * 100 + 5000


def smooth(rng: np.random.Generator, xy: np.ndarray, n: int, sigma: float = 3) -> np.ndarray:
    """Smooth maps that have nothing to do with each other (n_obs, n)."""
    fields = gaussian_filter(rng.normal(size=(n, 2 * SIDE, 2 * SIDE)), (0, sigma, sigma))
    row, column = ((xy - 5000) / 100).astype(int).T
    maps = fields[:, row, column].T
    return ((maps - maps.mean(axis=0)) / maps.std(axis=0)).astype(np.float32)


def turns_of(xy: np.ndarray, n_turns: int = 150, seed: int = 0) -> np.ndarray:
    return random_turns(xy, n_turns=n_turns, rng=np.random.default_rng(seed))


def naive_z(own: np.ndarray, null: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Standard deviations above the null, of which each draw is weighted by the root of the share that it covers."""
    share = (turns >= 0).mean(axis=1)
    spread = null - null.mean(axis=0)
    return (own - null.mean(axis=0)) / np.sqrt((np.sqrt(share)[:, None] * spread**2).sum(axis=0) / (len(turns) - 1))


def test_half_of_the_spots_are_covered_and_none_stays_where_it_was(xy: np.ndarray) -> None:
    turns = turns_of(xy)
    assert turns.shape == (150, len(xy))
    assert turns.dtype == np.int32
    covered = turns >= 0
    assert covered.mean(axis=1).min() >= 0.5
    assert covered.mean() < 0.9
    assert turns.max() < len(xy)
    assert ((turns == np.arange(len(xy))).sum(axis=1) / covered.sum(axis=1)).max() < 0.1


def test_turned_maps_are_moved_as_a_whole(xy: np.ndarray) -> None:
    """A turn is a turn: distances between spots stay as they are, to within the lattice, and so does smoothness."""
    turns = turns_of(xy, 40)
    rng = np.random.default_rng(1)
    for turn in turns:
        spots = rng.permutation(np.flatnonzero(turn >= 0))[:100]
        before, after = (np.linalg.norm(np.diff(places, axis=0), axis=1) for places in (xy[spots], xy[turn[spots]]))
        assert np.abs(after - before).max() <= 2 * 0.75 * 100
    values = smooth(rng, xy, 30)
    covered = turns[0] >= 0
    kept = morans_i(values[turns[0][covered]], spot_graph(xy[covered], n_neighbors=4)).mean()
    assert kept == pytest.approx(morans_i(values, spot_graph(xy, n_neighbors=4)).mean(), abs=0.1)
    shuffled = values[rng.permutation(len(xy))][covered]
    assert morans_i(shuffled, spot_graph(xy[covered], n_neighbors=4)).mean() < 0.1


def test_layers_do_not_stay_in_place(xy: np.ndarray) -> None:
    """In round, layered tissue an angle alone changes nothing."""
    rings = np.cos(np.linalg.norm(xy - xy.mean(axis=0), axis=1) / 300)[:, None].astype(np.float32)
    _, z = beyond_depth(rings, rings, None, turns_of(xy))
    assert z[0] > 3


def test_turns_repeat_and_do_not_depend_on_place_or_scale(xy: np.ndarray) -> None:
    turns = turns_of(xy, 30)
    np.testing.assert_array_equal(turns, turns_of(xy, 30))
    assert (turns != turns_of(xy, 30, seed=1)).any()
    moved = turns_of(xy / 1024 - 3, 30)
    assert (moved != turns).mean() < 0.01  # but for ties


@pytest.mark.parametrize("n", [5, 8, 30])
def test_small_sections_are_turned(n: int) -> None:
    grid = np.stack(np.divmod(np.arange(n), 5), axis=1) * 10
    covered = turns_of(grid) >= 0
    assert (covered.sum(axis=1) >= n / 2).mean() > 0.9


def test_spots_on_no_lattice_are_turned() -> None:
    covered = turns_of(np.random.default_rng(0).uniform(size=(500, 2))) >= 0
    assert covered.mean(axis=1).min() >= 0.5


_PIECES = np.concatenate(
    [np.stack(np.divmod(np.arange(16), 4), axis=1) + corner for corner in ([0, 0], [0, 900], [300, 70], [2000, 50])]
)
"""Small pieces of tissue far apart."""


@pytest.mark.odd
@pytest.mark.parametrize("xy", [np.zeros((1, 2)), np.eye(2), np.zeros((9, 2)), _PIECES])
def test_what_cannot_be_turned_is_left_out(xy: np.ndarray) -> None:
    turns = turns_of(xy, 25)
    assert (turns < 0).all()
    values = np.random.default_rng(0).normal(size=(len(xy), 3)).astype(np.float32)
    assert (beyond_depth(values, values, None, turns)[1] == 0).all()


def test_equals_partial_correlation(xy: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    n = len(xy)
    depth = rng.normal(8, 0.5, size=n)
    truth = (smooth(rng, xy, 200) + depth[:, None]).astype(np.float32)
    predicted = (0.3 * truth + smooth(rng, xy, 200) - 0.5 * depth[:, None]).astype(np.float32)
    turns = turns_of(xy, 40)
    r, z = beyond_depth(truth, predicted, depth, turns)
    np.testing.assert_allclose(r, partial_pearson(truth, predicted, depth), atol=1e-5)
    null = []
    for turn in turns:
        spots = np.flatnonzero(turn >= 0)
        null.append(partial_pearson(truth[spots], predicted[turn[spots]], depth[spots]))
    np.testing.assert_allclose(z, naive_z(r, np.array(null), turns), rtol=1e-3, atol=1e-4)
    # and by the residuals of another library
    left_t, left_p = (v - np.polyval(np.polyfit(depth, v, 1), depth) for v in (truth[:, 7], predicted[:, 7]))
    assert r[7] == pytest.approx(stats.pearsonr(left_t, left_p)[0], abs=1e-5)


def test_without_depth_it_is_plain_pearson(xy: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    truth, predicted = smooth(rng, xy, 5), smooth(rng, xy, 5)
    r, z = beyond_depth(truth, predicted, None, turns_of(xy))
    np.testing.assert_allclose(r, [stats.pearsonr(*pair)[0] for pair in zip(truth.T, predicted.T, strict=True)], 1e-4)
    flat = beyond_depth(truth, predicted, np.full(len(xy), 8.0), turns_of(xy))
    np.testing.assert_array_equal((r, z), flat)


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [1, 2, 3])
def test_unrelated_smooth_maps_are_found_as_seldom_as_promised(xy: np.ndarray, sigma: float) -> None:
    """Where p-values that take spots for independent call a quarter to a half of such pairs significant."""
    rng = np.random.default_rng(0)
    truth, predicted = (smooth(rng, xy, 2000, sigma) for _ in range(2))
    r, z = beyond_depth(truth, predicted, None, turns_of(xy))
    naive = stats.norm.sf(np.arctanh(r) * np.sqrt(len(xy) - 3))
    assert (naive < 0.05).mean() > 0.2
    p = stats.norm.sf(z)
    assert (p < 0.001).mean() <= 0.0015
    assert (p < 0.01).mean() < 0.015
    assert 0.03 < (p < 0.05).mean() < 0.07
    assert (p < 0.2).mean() == pytest.approx(0.2, abs=0.05)
    assert p.mean() == pytest.approx(0.5, abs=0.03)


def test_related_maps_are_found(xy: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    signal = smooth(rng, xy, 300, sigma=1.5)
    truth = (signal + rng.normal(size=signal.shape)).astype(np.float32)
    _, z = beyond_depth(truth, signal, None, turns_of(xy))
    assert (stats.norm.sf(z) < 0.001).mean() > 0.95


def test_genes_are_scored_each_by_itself_with_or_without_threads(xy: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    truth, predicted, turns = smooth(rng, xy, 300), smooth(rng, xy, 300), turns_of(xy)
    depth = rng.normal(size=len(xy))
    whole = beyond_depth(truth, predicted, depth, turns)
    few = np.array([3, 200, 77])
    part = beyond_depth(truth[:, few], predicted[:, few], depth, turns)
    np.testing.assert_allclose(part, np.array(whole)[:, few], atol=1e-4)
    with threads() as in_threads:
        np.testing.assert_allclose(
            beyond_depth(truth, predicted, depth, turns, in_threads=in_threads), whole, atol=1e-4
        )
    order = rng.permutation(len(xy))
    back = np.argsort(order)
    moved = np.where(turns[:, order] >= 0, back[turns[:, order]], -1).astype(np.int32)
    again = beyond_depth(truth[order], predicted[order], depth[order], moved)
    np.testing.assert_allclose(again, whole, atol=1e-4)


def test_what_does_not_vary_beyond_depth_says_nothing(xy: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    depth = rng.normal(8, 0.5, size=len(xy))
    truth, predicted = smooth(rng, xy, 6), smooth(rng, xy, 6)
    truth[:, 0], predicted[:, 1], truth[:, 2] = 3, 0, 2 * depth + 1
    predicted[:, 3] = 1 - depth
    truth[:, 4], truth[5, 4] = 0, 1  # one spot only
    r, z = beyond_depth(truth, predicted, depth, turns_of(xy))
    assert (r[:4] == 0).all()
    assert (z[:2] == 0).all()
    assert np.abs(z[2:4]).max() < 0.5
    assert np.isfinite(z).all()
    assert r[4] != 0


def test_few_turns_say_nothing(xy: np.ndarray) -> None:
    values = smooth(np.random.default_rng(0), xy, 3)
    r, z = beyond_depth(values, values, None, turns_of(xy, 19))
    np.testing.assert_allclose(r, 1, rtol=1e-5)
    assert (z == 0).all()


def test_geary_by_hand(xy: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    values, others = smooth(rng, xy, 4), rng.normal(size=(50, 4)).astype(np.float32)
    near = rng.integers(50, size=(len(xy), 6))
    turns = turns_of(xy, 40)
    mean, square = others[near].mean(axis=1), (others[near] ** 2).mean(axis=1)

    def geary(spots: np.ndarray, sources: ArrayLike) -> np.ndarray:
        x, y = values[spots][:, None], others[near[sources]]
        return ((x - y) ** 2).mean(axis=(0, 1)) / ((x**2).mean(axis=(0, 1)) + (y**2).mean(axis=(0, 1)))

    found, z = cross_geary(values, mean, square, turns)
    spots = np.arange(len(xy))
    np.testing.assert_allclose(found, geary(spots, spots), rtol=1e-4)
    null = np.array([geary(np.flatnonzero(turn >= 0), turn[turn >= 0]) for turn in turns])
    np.testing.assert_allclose(z, naive_z(-found, -null, turns), rtol=1e-2, atol=1e-3)


def test_geary_of_nothing_is_one(xy: np.ndarray) -> None:
    zeros = np.zeros((len(xy), 2), dtype=np.float32)
    found, z = cross_geary(zeros, zeros, zeros, turns_of(xy, 30))
    assert (found == 1).all()
    assert (z == 0).all()


@pytest.mark.odd
def test_bad_input(xy: np.ndarray) -> None:
    turns, fine = turns_of(xy, 20), smooth(np.random.default_rng(0), xy, 3)
    with pytest.raises(ValueError, match="`truth` must be of the spots that were turned"):
        beyond_depth(fine[:-1], fine, None, turns)
    gap = fine.copy()
    gap[0, 0] = np.nan
    with pytest.raises(ValueError, match="`predicted` must hold finite"):
        beyond_depth(fine, gap, None, turns)
    with pytest.raises(ValueError, match="`truth` and `predicted` must be of the same genes"):
        beyond_depth(fine, fine[:, :2], None, turns)
    with pytest.raises(ValueError, match="`log_depth` must be finite numbers"):
        beyond_depth(fine, fine, np.zeros(3), turns)
    with pytest.raises(ValueError, match="`near_mean` must be of the spots"):
        cross_geary(fine, fine[:4], fine, turns)
    for bad in (xy[:, :1], np.full((4, 2), np.nan), np.array([["a", "b"]])):
        with pytest.raises(ValueError, match="`xy` must be the places"):
            random_turns(bad, n_turns=5, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="`n_turns`"):
        random_turns(xy, n_turns=0, rng=np.random.default_rng(0))
    with pytest.raises(TypeError, match="`rng`"):
        random_turns(xy, n_turns=5, rng=0)  # type: ignore[arg-type]
