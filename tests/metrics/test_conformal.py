"""Half-widths cover what they say, and thinning gives what shallower sequencing would."""

import numpy as np
import pytest
from scipy import sparse

from bleep_sc.metrics.conformal import (
    conformal_quantiles,
    half_widths,
    matched_depths,
    noise_free_variance,
    rank_of,
    thinned,
)


def test_of_nine_errors_the_ninth_covers_nine_in_ten() -> None:
    errors = np.arange(9.0)[None, ::-1]
    np.testing.assert_array_equal(conformal_quantiles(errors, [0.5, 0.9]), [[4], [8]])
    assert conformal_quantiles(errors, [0.91])[0, 0] == np.inf, "of nine errors no rank covers more"
    assert rank_of(0.9, 9) == 9
    assert rank_of(0.1, 9) == 1


def test_the_level_holds_for_one_more_spot() -> None:
    """Over many draws, the share of new values inside is the level or a little more: at most 1 / (n + 1)."""
    rng = np.random.default_rng(0)
    drawn = rng.exponential(size=(20_000, 30))
    for level in (0.5, 0.8, 0.9):
        width = conformal_quantiles(drawn[:, :29], [level])[0]
        inside = (drawn[:, 29] <= width).mean()
        assert level - 0.01 < inside < level + 1 / 30 + 0.01


def test_the_worst_patient_counts() -> None:
    errors = np.concatenate([np.full((1, 20), 1.0), np.full((1, 20), 5.0)], axis=1)
    groups = np.repeat([0, 1], 20)
    assert half_widths(errors, groups, [0.5], joint=False)[0, 0] == 5
    assert half_widths(errors, groups, [0.5], joint=True)[0, 0] == 5  # the 21st of 40
    assert half_widths(errors, groups, [0.4], joint=True)[0, 0] == 1
    few = np.array([0] * 39 + [1])  # of one spot nothing can be promised
    assert half_widths(errors, few, [0.9], joint=False)[0, 0] == np.inf


@pytest.fixture
def counts() -> sparse.csc_matrix:
    return sparse.csc_matrix(np.random.default_rng(0).poisson(4, size=(400, 6)).astype(np.float32))


NAMES, ORDER = np.array([f"g{i}" for i in range(6)]), np.arange(400)


def test_thinned_counts_are_those_of_fewer_molecules(counts: sparse.csc_matrix) -> None:
    keep = np.full(400, 0.25)
    thin = thinned(counts, NAMES, keep, rank=ORDER, seed=0, draw=1)
    assert thin.shape == (6, 400)
    assert (thin <= counts.toarray().T).all()
    # a thinned Poisson count is Poisson: mean and variance fall alike
    np.testing.assert_allclose(thin.mean(axis=1), 1, atol=0.2)
    np.testing.assert_allclose(thin.var(axis=1), 1, atol=0.35)
    np.testing.assert_array_equal(thinned(counts, NAMES, np.ones(400), rank=ORDER, seed=0, draw=1), counts.toarray().T)


def test_a_gene_draws_the_same_numbers_in_any_company(counts: sparse.csc_matrix) -> None:
    keep = np.linspace(0.1, 0.9, 400)
    all_genes = thinned(counts, NAMES, keep, rank=ORDER, seed=3, draw=7)
    some = [4, 1]
    np.testing.assert_array_equal(
        thinned(counts[:, some], NAMES[some], keep, rank=ORDER, seed=3, draw=7), all_genes[some]
    )
    shuffled = counts.copy()
    shuffled.indices, shuffled.data = shuffled.indices[::-1].copy(), shuffled.data[::-1].copy()
    shuffled = sparse.csc_matrix((shuffled.data, shuffled.indices, np.append(0, np.diff(counts.indptr)[::-1].cumsum())))
    np.testing.assert_array_equal(
        thinned(shuffled, NAMES[::-1], keep, rank=ORDER, seed=3, draw=7)[::-1],
        all_genes,
        err_msg="how a matrix is stored counts",
    )
    assert (thinned(counts, NAMES, keep, rank=ORDER, seed=4, draw=7) != all_genes).any()
    assert (thinned(counts, NAMES, keep, rank=ORDER, seed=3, draw=8) != all_genes).any()


def test_spots_draw_the_same_numbers_in_any_order(counts: sparse.csc_matrix) -> None:
    keep = np.linspace(0.1, 0.9, 400)
    turned = thinned(counts[::-1].tocsc(), NAMES, keep[::-1], rank=ORDER[::-1], seed=3, draw=7)
    np.testing.assert_array_equal(turned[:, ::-1], thinned(counts, NAMES, keep, rank=ORDER, seed=3, draw=7))


def test_matched_depths_are_those_of_the_query() -> None:
    rng = np.random.default_rng(0)
    totals, sections = rng.uniform(1000, 5000, size=300), np.repeat([0, 1, 2], 100)
    wanted = rng.uniform(200, 800, size=77)
    matched = matched_depths(totals, sections, wanted, rank=np.arange(300))
    for section in range(3):
        own = matched[sections == section]
        np.testing.assert_allclose(np.quantile(own, [0.1, 0.5, 0.9]), np.quantile(wanted, [0.1, 0.5, 0.9]), rtol=0.05)
        order = np.argsort(totals[sections == section])
        assert (np.diff(own[order]) >= 0).all(), "the deepest spot stays the deepest"


def test_independent_noise_drops_out_of_two_halves() -> None:
    """Of errors with a mean of 0.3 and a spread of 0.5 or 0, in whose halves there is noise, and a bias."""
    rng = np.random.default_rng(0)
    error = 0.3 + rng.normal(0, [[0.5], [0.0]], size=(2, 50_000))
    one, other = (error - 1 + rng.normal(0, 2, size=error.shape) for _ in range(2))
    whole = error + rng.normal(0, 1.4, size=error.shape)
    groups = np.repeat([0, 1], 25_000)
    joint = noise_free_variance(one, other, whole, groups, joint=True)
    np.testing.assert_allclose(joint, [0.25 + 0.09, 0.09], atol=0.06)
    assert (noise_free_variance(one, other, whole, groups, joint=False) >= joint - 1e-3).all()


def test_the_rate_below_the_noise_is_covered() -> None:
    """Of counts drawn from known rates, predicted with a known error."""
    rng = np.random.default_rng(0)
    n, target_sum, total = 20_000, 1e4, 5000
    share = np.exp(rng.normal(np.log(0.005), 0.5, size=(1, n)))
    truth = np.log1p(target_sum * share)
    predicted = truth + rng.normal(0, 0.3, size=(1, n))
    counts = sparse.csc_matrix(rng.poisson(total * share).T.astype(np.float32))
    half = thinned(counts, np.array(["g"]), np.full(n, 0.5), rank=np.arange(n), seed=0, draw=0)
    errors = [
        np.log1p(target_sum * values / depth) - predicted
        for values, depth in ((half, total / 2), (counts.toarray().T - half, total / 2), (counts.toarray().T, total))
    ]
    spread = np.sqrt(noise_free_variance(*errors, np.zeros(n), joint=True))
    assert 0.88 < (np.abs(predicted - truth) <= 1.645 * spread[:, None]).mean() < 0.92
    assert np.sqrt((errors[2] ** 2).mean()) > 1.1 * spread[0], "what is measured lies further off"
