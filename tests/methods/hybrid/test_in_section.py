"""Image features as their section sees them."""

from typing import Any

import numpy as np
import pytest
from anndata import AnnData
from scipy.spatial.distance import cdist

from bleep_sc.methods.hybrid.in_section import FEWEST_TO_STANDARDIZE, SectionView
from bleep_sc.tl._inputs.places import neighbor_places


def tissue(*sizes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, places and sections of sections of these sizes, in no order."""
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    sections = np.repeat([f"s{i}" for i in range(len(sizes))], sizes).astype(object)
    order = rng.permutation(n)
    features = rng.gamma(2, size=(n, 4)).astype(np.float32) * [1, 10, 0.1, 3] + rng.normal(size=4)
    return features.astype(np.float32), rng.uniform(0, 100, size=(n, 2)), sections[order]


def view_of(features: np.ndarray, xy: Any, sections: Any, k: int = 3) -> SectionView:
    return SectionView.learn(features, sections=sections, xy=xy, n_neighbors=k)


def naive(view: SectionView, features: np.ndarray, xy: np.ndarray, sections: np.ndarray, k: int) -> np.ndarray:
    """Section by section, spot by spot, in float64."""
    out = np.empty((len(features), 8))
    for name in set(sections):
        rows = [i for i in range(len(features)) if sections[i] == name]
        own = features[rows].astype(np.float64)
        few = len(rows) < 30
        z = (own - (view.mean if few else own.mean(axis=0))) / (view.scale if few else own.std(axis=0))
        around = []
        for i in range(len(rows)):
            others = sorted((np.hypot(*(xy[rows[i]] - xy[rows[j]])), j) for j in range(len(rows)) if j != i)
            around.append(np.mean([z[j] for _, j in others[:k]], axis=0) if others else z[i])
        around = np.array(around)
        spread = view.context_scale if few else around.std(axis=0)
        around = (around - (0 if few else around.mean(axis=0))) / spread
        out[rows] = np.hstack([z, around])
    return out


@pytest.mark.parametrize("k", [1, 3, 8])
def test_equals_a_naive_loop(k: int) -> None:
    features, xy, sections = tissue(40, 60)
    view = view_of(features, xy, sections, k)
    found = view.apply(features, sections=sections, xy=xy)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, naive(view, features, xy, sections, k), atol=1e-5)


def test_without_neighbours_the_own_features_are_left() -> None:
    features, _, sections = tissue(40, 60)
    view = view_of(features, None, sections, 0)
    found = view.apply(features, sections=sections, xy=None)
    assert found.shape == features.shape
    for name in ("s0", "s1"):
        np.testing.assert_allclose(found[sections == name].mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(found[sections == name].std(axis=0), 1, atol=1e-5)
    with_neighbours = view_of(features, tissue(40, 60)[1], sections, 3)
    found_too = with_neighbours.apply(features, sections=sections, xy=tissue(40, 60)[1])
    np.testing.assert_array_equal(found_too[:, :4], found)


def test_a_spots_neighbours_are_the_others_even_at_its_own_place() -> None:
    """Four spots at one place: each sees the three others, never itself."""
    features, xy, sections = tissue(40)
    xy[:4] = [500.0, 500.0]
    view = view_of(features, xy, sections, 3)
    found = view.apply(features, sections=sections, xy=xy)
    own = found[:, :4].astype(np.float64)
    expected = np.array([own[[j for j in range(4) if j != i]].mean(axis=0) for i in range(4)])
    far = np.argsort(cdist(xy, xy) + 1e9 * np.eye(40), axis=1)[:, :3]
    around = own[far].mean(axis=1)
    around[:4] = expected
    np.testing.assert_allclose(found[:, 4:], (around - around.mean(axis=0)) / around.std(axis=0), atol=1e-5)


def test_more_spots_at_one_place_than_neighbours() -> None:
    """A spot that is not among its own nearest still gets as many others as asked for."""
    features, xy, sections = tissue(40)
    xy[:20] = 7.0
    view = view_of(features, xy, sections, 3)
    found = view.apply(features, sections=sections, xy=xy)
    assert np.isfinite(found).all()
    # with all twenty at one place, any three of the other nineteen may be taken: twenty neighbours tell
    wide = view_of(features, xy, sections, 19).apply(features, sections=sections, xy=xy)
    own = wide[:, :4].astype(np.float64)
    around = np.array([(own[:20].sum(axis=0) - own[i]) / 19 for i in range(20)])
    scaled = wide[:20, 4:].astype(np.float64)
    for feature in range(4):
        assert np.corrcoef(around[:, feature], scaled[:, feature])[0, 1] > 0.999


@pytest.mark.parametrize("few", [1, 2, FEWEST_TO_STANDARDIZE - 1])
def test_small_sections_take_the_references_mean_and_spread(few: int) -> None:
    features, xy, sections = tissue(60, 50)
    view = view_of(features, xy, sections)
    new, places, own = tissue(few, seed=1)
    with pytest.warns(UserWarning, match=rf"'s0' \({few} spots\) have fewer than 30 spots.*the reference's") as caught:
        found = view.apply(new, sections=own, xy=places)
    assert len(caught) == 1
    np.testing.assert_allclose(found, naive(view, new, places, own, 3), atol=1e-5)
    # a single spot is all that there is around itself
    if few == 1:
        np.testing.assert_allclose(found[:, 4:] * view.context_scale, found[:, :4], atol=1e-5)


def test_thirty_spots_speak_for_themselves() -> None:
    features, xy, sections = tissue(60, 50)
    view = view_of(features, xy, sections)
    new, places, own = tissue(FEWEST_TO_STANDARDIZE, seed=1)
    found = view.apply(new, sections=own, xy=places)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-5)


def test_many_small_sections_are_one_warning() -> None:
    features, xy, sections = tissue(60, 50)
    view = view_of(features, xy, sections)
    new, places, own = tissue(3, 40, 5, 7, seed=1)
    with pytest.warns(UserWarning, match=r"'s0' \(3 spots\) and 2 other sections have fewer than 30") as caught:
        view.apply(new, sections=own, xy=places)
    assert len(caught) == 1
    with pytest.warns(UserWarning, match=r"but all 15 spots have fewer than 30"):
        view.apply(new[:15], sections=None, xy=places[:15])


def test_the_reference_is_weighed_by_its_spots() -> None:
    features, xy, sections = tissue(90, 30)
    view = view_of(features, xy, sections)
    parts = [features[sections == name].astype(np.float64) for name in ("s0", "s1")]
    np.testing.assert_allclose(view.mean, features.mean(axis=0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(view.scale, 0.75 * parts[0].std(axis=0) + 0.25 * parts[1].std(axis=0), rtol=1e-6)
    spreads = []
    for name, part in zip(("s0", "s1"), parts, strict=True):
        z, distance = (part - part.mean(axis=0)) / part.std(axis=0), cdist(xy[sections == name], xy[sections == name])
        nearest = np.argsort(distance + 1e9 * np.eye(len(z)), axis=1)[:, :3]
        spreads.append(z[nearest].mean(axis=1).std(axis=0))
    np.testing.assert_allclose(view.context_scale, 0.75 * spreads[0] + 0.25 * spreads[1], rtol=1e-6)


def test_a_sections_stain_vanishes() -> None:
    """Another gain and offset of each feature of a whole section leave nothing behind."""
    features, xy, sections = tissue(40, 60)
    view = view_of(features, xy, sections)
    before = view.apply(features, sections=sections, xy=xy)
    stained = features.copy()
    stained[sections == "s1"] = stained[sections == "s1"] * [2, 0.5, 3, 1.5] + [5, -3, 1, 20]
    np.testing.assert_allclose(view.apply(stained, sections=sections, xy=xy), before, atol=1e-4)
    again = view_of(stained, xy, sections)
    np.testing.assert_allclose(again.apply(stained, sections=sections, xy=xy), before, atol=1e-4)


def test_a_feature_that_does_not_vary_in_a_section_stays_finite_and_small() -> None:
    features, xy, sections = tissue(40, 60)
    features[sections == "s0", 2] = 7.5
    features[:, 3] = 1.25
    view = view_of(features, xy, sections)
    found = view.apply(features, sections=sections, xy=xy)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[sections == "s0"][:, [2, 6]], 0, atol=1e-5)
    np.testing.assert_allclose(found[:, [3, 7]], 0, atol=1e-5)


def test_places_where_neighbours_are_looked_at() -> None:
    features, xy, _ = tissue(40)
    adata = AnnData(features, obsm={"spatial": xy})
    assert neighbor_places(adata, 0, name="query") is None
    np.testing.assert_array_equal(neighbor_places(adata, 3, name="query"), xy)
    del adata.obsm["spatial"]
    assert neighbor_places(adata, 0, name="query") is None
    with pytest.raises(KeyError, match=r"query\.obsm\['spatial'\].*the 3 spots around.*`context=0`"):
        neighbor_places(adata, 3, name="query")


def test_on_a_lattice_the_order_of_the_spots_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    xy = np.stack(np.meshgrid(np.arange(9), np.arange(7)), axis=-1).reshape(-1, 2).astype(float)
    features = rng.normal(size=(63, 4)).astype(np.float32)
    order = rng.permutation(63)
    view = view_of(features, xy, None, 6)  # 4 nearest, and 2 of 4 that are equally far
    expected = view.apply(features, sections=None, xy=xy)
    found = view_of(features[order], xy[order], None, 6).apply(features[order], sections=None, xy=xy[order])
    np.testing.assert_allclose(found, expected[order], atol=1e-5)
    z = (features - features.mean(axis=0)) / features.std(axis=0)
    inner = 3 * 9 + 4
    around = [z[inner + dy * 9 + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dx, dy) != (0, 0)]
    means = np.array(
        [z[np.argsort(cdist(xy[[i]], xy)[0], kind="stable")[1:]][: n_tied(xy, i, 6)].mean(axis=0) for i in range(63)]
    )
    np.testing.assert_allclose(means[inner], np.mean(around, axis=0), atol=1e-5)
    np.testing.assert_allclose(found[np.argsort(order)][:, 4:], (means - means.mean(0)) / means.std(0), atol=1e-4)


def n_tied(xy: np.ndarray, spot: int, k: int) -> int:
    """How many others are as near as the k-th."""
    distance = np.sort(cdist(xy[[spot]], xy)[0])[1:]
    return int((distance <= distance[k - 1] + 1e-9).sum())
