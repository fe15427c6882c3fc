"""How unlike a reference a spot looks: against scikit-learn's own Mahalanobis distance, and on odd features."""

import time
import warnings

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from bleep_sc.models.search import novelty as module
from bleep_sc.models.search.novelty import Look, Novelty


def tissue(n: int = 300, n_features: int = 12, *, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    """Features that go together, of very different spreads."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(n, n_features)) @ np.random.default_rng(99).normal(size=(n_features, n_features))
    return ((mixed + shift) * np.logspace(-3, 3, n_features)).astype(np.float32)


SECTIONS = np.repeat(["a", "b", "c"], 100)


def test_the_distance_is_mahalanobis_with_a_shrunk_covariance() -> None:
    features, query = tissue(), tissue(50, seed=1)
    look = Look.learn(features, SECTIONS, n_axes=None)
    exact = features.astype(np.float64)
    within = np.sqrt(np.mean([exact[section == SECTIONS].var(axis=0) for section in "abc"], axis=0))
    scaled, new = (np.arcsinh((values - exact.mean(axis=0)) / within) for values in (exact, query))
    covariance = LedoitWolf().fit(scaled)
    np.testing.assert_allclose(look.distances(query), np.sqrt(covariance.mahalanobis(new)), rtol=1e-3)


def test_each_group_is_held_out_from_centre_scale_and_covariance() -> None:
    features = tissue()
    learned = Novelty.of_reference(features, groups=SECTIONS, sections=SECTIONS)
    by_hand = [
        Look.learn(features[s != SECTIONS], SECTIONS[s != SECTIONS], n_axes=None).distances(features[s == SECTIONS])
        for s in "abc"
    ]
    np.testing.assert_allclose(learned.held_out, np.sort(np.concatenate(by_hand)), rtol=1e-6)


def test_p_is_the_rank_among_held_out_spots() -> None:
    learned = Novelty.of_reference(tissue(), groups=SECTIONS)
    learned = Novelty(learned.look, np.array([1, 2, 2, 4], dtype=np.float32))
    assert learned.p_values(np.array([0.5, 1, 1.5, 2, 3, 4, 5])).tolist() == [1, 1, 0.8, 0.8, 0.4, 0.4, 0.2]


@pytest.mark.parametrize("on_components", [False, True])
def test_p_values_of_new_tissue_of_the_kind_are_even(*, on_components: bool) -> None:
    learned = Novelty.of_reference(tissue(), groups=SECTIONS, sections=SECTIONS, on_components=on_components)
    p = learned.p_values(learned.look.distances(tissue(2000, seed=5)))
    for level in (0.05, 0.2, 0.5):
        assert abs((p <= level).mean() - level) < 0.06
    far = learned.p_values(learned.look.distances(tissue(100, seed=5, shift=20)))
    assert (far == 1 / 301).all()


def test_what_lies_beside_the_components_counts() -> None:
    rng = np.random.default_rng(0)
    wide = (rng.normal(size=(400, 5)) @ rng.normal(size=(5, 200)) * 5 + rng.normal(size=(400, 200))).astype(np.float32)
    learned = Novelty.of_reference(wide[:300], groups=SECTIONS, sections=SECTIONS, on_components=True)
    assert learned.look.axes.shape == (20, 200)
    assert (learned.p_values(learned.look.distances(wide[300:])) <= 0.05).mean() < 0.2
    noisy = wide[300:] + rng.normal(scale=2, size=(100, 200)).astype(np.float32)
    assert (learned.p_values(learned.look.distances(noisy)) <= 0.05).mean() > 0.9


def test_the_features_that_moved_most_are_named_once_a_kind() -> None:
    names = ["whole_red", "centre_red", "whole_blue", "whole_green"]
    features = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    learned = Novelty.of_reference(features, groups=SECTIONS, names=names)
    moved = learned.moved(features + np.array([5, 4, -3, 0.5], dtype=np.float32))
    assert [name for name, _ in learned.named(moved)] == ["whole_red", "whole_blue", "whole_green"]
    np.testing.assert_allclose(moved, [5, 4, -3, 0.5], atol=0.4)
    assert Novelty.of_reference(features, groups=SECTIONS).named(moved) == []


@pytest.mark.odd
@pytest.mark.parametrize("on_components", [False, True])
@pytest.mark.parametrize(
    "features",
    [
        np.zeros((40, 5)),
        np.full((40, 5), 1e12),
        tissue(16, 164),
        tissue(40, 500),
        tissue(40, 6) * 1e9,
        tissue(40, 6) * np.float32(1e-30),
        np.repeat(tissue(40, 2), 4, axis=1),
        np.where(np.arange(40)[:, None] == 3, 1e12, 0) * np.ones(3),
        tissue(40, 1),
        np.zeros((40, 0)),
    ],
    ids=["constant", "huge", "few spots", "many features", "large", "tiny", "twice", "one spot", "one", "none"],
)
def test_odd_features_give_numbers(features: np.ndarray, *, on_components: bool) -> None:
    features = features.astype(np.float32)
    groups = np.arange(len(features)) % 3
    with warnings.catch_warnings(action="error"):
        learned = Novelty.of_reference(features, groups=groups, sections=groups, on_components=on_components)
        for query in (features, features + np.float32(1), np.full_like(features, 1e12)):
            p = learned.p_values(learned.look.distances(query))
            assert ((p > 0) & (p <= 1)).all()
            assert np.isfinite(learned.moved(query)).all()
            assert np.isfinite(learned.relative(learned.look.distances(query)))


@pytest.mark.odd
def test_a_feature_that_does_not_vary_says_nothing() -> None:
    features = tissue()
    features[:, 3] = 7
    learned = Novelty.of_reference(features, groups=SECTIONS)
    query = tissue(20, seed=2)
    query[:, 3] = 7
    other = query.copy()
    other[:, 3] = 1e6
    assert np.array_equal(learned.look.distances(query), learned.look.distances(other))


@pytest.mark.odd
@pytest.mark.parametrize("sizes", [[300], [299, 1], [290, 10], [1] * 300], ids=str)
def test_odd_groups_hold_out_most_spots(sizes: list[int]) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    learned = Novelty.of_reference(tissue(), groups=groups)
    assert len(learned.held_out) >= 150


def test_a_large_reference_is_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_SPOTS", 90)
    learned = Novelty.of_reference(tissue(), groups=SECTIONS, sections=SECTIONS)
    assert len(learned.held_out) == 90
    rows = module._some(np.unique(SECTIONS, return_inverse=True)[1])
    assert [int((SECTIONS[rows] == section).sum()) for section in "abc"] == [30, 30, 30]


def test_neither_order_nor_number_of_query_spots_matters() -> None:
    learned = Novelty.of_reference(tissue(), groups=SECTIONS)
    query = tissue(50, seed=3)
    np.testing.assert_allclose(learned.look.distances(query[::-1])[::-1], learned.look.distances(query), rtol=1e-9)
    np.testing.assert_allclose(learned.look.distances(query[:1]), learned.look.distances(query)[:1], rtol=1e-9)


def test_a_thousand_spots_take_little() -> None:
    learned = Novelty.of_reference(tissue(300, 164), groups=SECTIONS)
    query, times = tissue(1000, 164, seed=1), []
    for _ in range(5):
        start = time.perf_counter()
        learned.p_values(learned.look.distances(query))
        times.append(time.perf_counter() - start)
    assert min(times) < 0.05
