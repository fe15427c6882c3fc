"""Expression as scores on components of its variation within sections, and back."""

import dask.array as da
import numpy as np
import pytest
from scipy import sparse
from sklearn.decomposition import PCA

from bleep_sc._blocks import LazyRows
from bleep_sc.methods.hybrid.components import Components, Decoder


@pytest.fixture
def expression() -> tuple[np.ndarray, np.ndarray]:
    """Three sections with levels of their own, float32, and their names."""
    rng = np.random.default_rng(0)
    sections = np.repeat(["a", "b", "c"], [30, 40, 50]).astype(object)[rng.permutation(120)]
    level = {name: rng.uniform(0, 9, size=15) for name in "abc"}
    values = rng.normal(size=(120, 4)) @ rng.normal(size=(4, 15)) + 0.1 * rng.normal(size=(120, 15))
    return (values + np.array([level[name] for name in sections])).astype(np.float32), sections


def centred(values: np.ndarray, sections: np.ndarray) -> np.ndarray:
    out = values.astype(np.float64)
    for name in set(sections):
        out[sections == name] -= out[sections == name].mean(axis=0)
    return out


def test_components_are_scikit_learns_of_section_centred_expression(
    expression: tuple[np.ndarray, np.ndarray],
) -> None:
    values, sections = expression
    components = Components.learn(values, sections, n_components=4, seed=0)
    pca = PCA(4).fit(centred(values, sections))
    signs = np.sign((components.loadings * pca.components_).sum(axis=1))
    np.testing.assert_allclose(components.loadings * signs[:, None], pca.components_, atol=1e-5)
    scores, centers = components.scores(values, sections)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores * signs, pca.transform(centred(values, sections)), atol=1e-4)
    assert set(centers) == {"a", "b", "c"}
    for name, center in centers.items():
        mean = values[sections == name].mean(axis=0, dtype=np.float64)
        np.testing.assert_allclose(center, components.loadings @ mean, atol=1e-5)
        np.testing.assert_allclose(scores[sections == name].mean(axis=0), 0, atol=1e-5)


def test_levels_of_sections_make_no_component(expression: tuple[np.ndarray, np.ndarray]) -> None:
    values, sections = expression
    shifted = values + 100 * (sections == "b")[:, None].astype(np.float32)
    before, after = (Components.learn(v, sections, n_components=4, seed=0) for v in (values, shifted))
    np.testing.assert_allclose(np.abs((before.loadings * after.loadings).sum(axis=1)), 1, atol=1e-4)
    pooled = Components.learn(shifted, None, n_components=1, seed=0)
    np.testing.assert_allclose(np.abs(pooled.loadings), 15**-0.5, atol=0.03)


def test_a_part_of_a_known_section_keeps_its_scores(expression: tuple[np.ndarray, np.ndarray]) -> None:
    values, sections = expression
    components = Components.learn(values, sections, n_components=4, seed=0)
    scores, centers = components.scores(values, sections)
    some = np.flatnonzero(values[:, 0] > np.median(values[:, 0]))
    part, used = components.scores(values[some], sections[some], centers=centers)
    np.testing.assert_allclose(part, scores[some], atol=1e-6)
    assert {name: used[name].tolist() for name in used} == {name: centers[name].tolist() for name in used}
    by_itself, _ = components.scores(values[some], sections[some])
    assert np.abs(by_itself - scores[some]).max() > 0.1, "the test shows nothing"
    # a section that is not known is centred by itself
    named = sections[some].copy()
    named[named == "b"] = "new"
    mixed, _ = components.scores(values[some], named, centers=centers)
    np.testing.assert_array_equal(mixed[named == "new"], by_itself[named == "new"])
    np.testing.assert_array_equal(mixed[named != "new"], part[named != "new"])


@pytest.mark.parametrize(("shape", "expected"), [((120, 15), 14), ((8, 15), 7), ((120, 2), 1), ((120, 1), 1)])
def test_no_more_components_than_there_can_be(
    shape: tuple[int, int], expected: int, expression: tuple[np.ndarray, np.ndarray]
) -> None:
    values, sections = (part[: shape[0]] for part in expression)
    found = Components.learn(values[:, : shape[1]], sections, n_components=20, seed=0)
    assert found.loadings.shape == (expected, shape[1])
    assert np.isfinite(found.loadings).all()


def test_expression_that_does_not_vary_has_scores_of_zero() -> None:
    components = Components.learn(np.ones((20, 6), dtype=np.float32), None, n_components=3, seed=0)
    scores, _ = components.scores(np.ones((20, 6), dtype=np.float32), None)
    assert scores.shape == (20, 3)
    np.testing.assert_allclose(scores, 0, atol=1e-6)


def test_decoding_is_least_squares() -> None:
    rng = np.random.default_rng(0)
    scores = (rng.normal(size=(80, 5)) * [3, 2, 2, 1, 1] + 3).astype(np.float32)
    values = np.maximum(rng.normal(size=(80, 12)) + scores @ rng.normal(size=(5, 12)), 0).astype(np.float32)
    design = np.hstack([np.ones((80, 1)), scores.astype(np.float64)])
    solution = np.linalg.lstsq(design, values.astype(np.float64), rcond=None)[0]
    new = rng.normal(size=(7, 5))
    expected = np.maximum(np.hstack([np.ones((7, 1)), new]) @ solution, 0)
    for kind in (np.asarray, sparse.csr_matrix):
        found = Decoder.learn(scores, kind(values)).decode(new, np.arange(values.shape[1]))
        assert found.dtype == np.float32
        # the ridge that keeps it finite is a millionth of the mean variance
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_sparse_and_dense_decode_alike() -> None:
    rng = np.random.default_rng(0)
    scores, values = rng.normal(size=(80, 5)), rng.poisson(0.3, size=(80, 12)).astype(np.float32)
    new = rng.normal(size=(7, 5))
    dense, thin = (
        Decoder.learn(scores, kind(values)).decode(new, np.arange(values.shape[1]))
        for kind in (np.asarray, sparse.csr_matrix)
    )
    np.testing.assert_allclose(dense, thin, atol=1e-6)


def test_scores_that_hardly_vary_do_not_blow_up() -> None:
    """One spot, or spots alike: the decoded expression is their mean."""
    rng = np.random.default_rng(0)
    values = rng.poisson(2, size=(5, 12)).astype(np.float32)
    alike = np.ones((5, 3), dtype=np.float32) * 4
    found = Decoder.learn(alike, values).decode(alike + 1, np.arange(values.shape[1]))
    np.testing.assert_allclose(found, np.tile(values.mean(axis=0), (5, 1)), atol=1e-5)
    one = Decoder.learn(alike[:1], values[:1])
    np.testing.assert_allclose(one.decode(alike[:2] + 100, np.arange(values.shape[1])), values[[0, 0]], atol=1e-5)


def test_genes_are_decoded_in_the_order_asked_for() -> None:
    rng = np.random.default_rng(0)
    scores, values = rng.normal(size=(30, 3)), rng.normal(size=(30, 6))
    decoder = Decoder.learn(scores, values)
    whole, some = decoder.decode(scores, np.arange(6)), decoder.decode(scores, np.array([4, -1, 0]))
    assert np.isnan(some[:, 1]).all()
    np.testing.assert_allclose(some[:, [0, 2]], whole[:, [4, 0]], atol=1e-6)


def test_nothing_below_zero_is_decoded_unless_the_reference_has_such() -> None:
    rng = np.random.default_rng(0)
    scores, values = rng.normal(size=(30, 3)), rng.poisson(1, size=(30, 6)).astype(float)
    found = Decoder.learn(scores, values).decode(3 * scores, np.arange(6))
    assert found.min() == 0
    assert Decoder.learn(scores, values - 1).decode(3 * scores, np.arange(6)).min() < -1


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_a_lazy_reference_decodes_alike(kind: type) -> None:
    """24 chunks of one to ten spots: their sums are added in two rounds."""
    rng = np.random.default_rng(0)
    scores, values = rng.normal(size=(120, 3)).astype(np.float32), rng.poisson(1, size=(120, 6)).astype(np.float32)
    sizes = (10, 1, 9, 4, 1, 5) * 4
    lazy = LazyRows(da.from_array(values, chunks=(sizes, 6)).map_blocks(kind, meta=kind(values[:0])))
    expected, found = Decoder.learn(scores, kind(values)), Decoder.learn(scores, lazy)
    assert found.minimum == expected.minimum == 0
    np.testing.assert_allclose(found.mean, expected.mean, atol=1e-12)
    np.testing.assert_allclose(found.loadings, expected.loadings, atol=1e-12)
