from collections.abc import Callable

import numpy as np
import pytest
from scipy import sparse

from bleep_sc.models import retrieval
from bleep_sc.models.retrieval import average_profiles, nearest, nearest_approximately, neighbor_weights


@pytest.fixture
def space() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(10, 32))
    query = centres[rng.integers(10, size=70)] + rng.normal(size=(70, 32)) / 2
    keys = centres[rng.integers(10, size=300)] + rng.normal(size=(300, 32)) / 2
    return query.astype(np.float32), keys.astype(np.float32)


def cosine(query: np.ndarray, keys: np.ndarray) -> np.ndarray:
    return np.array([[q @ s / np.linalg.norm(q) / np.linalg.norm(s) for s in keys] for q in query.astype(np.float64)])


def test_nearest_are_the_true_top_k(space: tuple[np.ndarray, np.ndarray]) -> None:
    query, keys = space
    rows, distances = nearest(query, keys, 50)
    full = cosine(query, keys)
    assert rows.dtype == np.int32
    assert np.array_equal(rows, np.argsort(-full, axis=1)[:, :50])
    np.testing.assert_allclose(distances, 1 - np.take_along_axis(full, rows, axis=1), atol=1e-5)
    assert (np.diff(distances, axis=1) >= 0).all()


def test_blocks_change_nothing(space: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    query, keys = space
    own = np.where(np.arange(70) % 2, np.arange(70), -1)
    whole = nearest(query, keys, 20, leave_out=own)
    monkeypatch.setattr(retrieval, "_QUERY_BLOCK", 16)
    monkeypatch.setattr(retrieval, "_KEY_BLOCK", 7)
    blocked = nearest(query, keys, 20, leave_out=own)
    assert np.array_equal(whole[0], blocked[0])
    np.testing.assert_allclose(whole[1], blocked[1], atol=1e-6)


# pynndescent compiles for half a minute and more the first time in a process
@pytest.mark.parametrize("search", [nearest, pytest.param(nearest_approximately, marks=pytest.mark.slow)])
def test_left_out_rows_are_never_retrieved(
    space: tuple[np.ndarray, np.ndarray], search: Callable[..., tuple[np.ndarray, np.ndarray]]
) -> None:
    _, keys = space
    own = np.arange(len(keys))
    rows, _ = search(keys, keys, 10, leave_out=own)
    assert rows.shape == (len(keys), 10)
    assert not (rows == own[:, None]).any()


@pytest.mark.slow
def test_approximate_search_finds_most(space: tuple[np.ndarray, np.ndarray]) -> None:
    query, keys = space
    exact, _ = nearest(query, keys, 20)
    rows, distances = nearest_approximately(query, keys, 20)
    recall = np.mean([len(set(a) & set(b)) / 20 for a, b in zip(exact, rows, strict=True)])
    assert recall > 0.9
    assert rows.dtype == np.int32
    assert distances.dtype == np.float32


@pytest.mark.parametrize("weighting", ["mean", "distance", "softmax"])
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_average_equals_a_loop(weighting: str, kind: type) -> None:
    rng = np.random.default_rng(1)
    values = rng.poisson(1.0, size=(40, 13)).astype(np.float32)
    rows = rng.permuted(np.tile(np.arange(40), (9, 1)), axis=1)[:, :6].astype(np.int32)
    distances = np.sort(rng.uniform(0, 2, size=(9, 6)).astype(np.float32), axis=1)
    by_hand = {
        "mean": lambda d: np.ones(6),
        "distance": lambda d: 1 / d,
        "softmax": lambda d: np.exp((1 - d) / 0.3),
    }[weighting]
    expected = []
    for q in range(9):
        weights = by_hand(distances[q].astype(np.float64))
        expected.append(sum(w * values[r] for w, r in zip(weights, rows[q], strict=True)) / weights.sum())
    ours = average_profiles(kind(values), rows, neighbor_weights(distances, weighting, temperature=0.3))
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_weights_stay_finite_at_zero_and_tiny_temperature() -> None:
    distances = np.array([[0.0, 0.0, 1.0], [0.5, 0.5, 2.0]], dtype=np.float32)
    for weighting in ("distance", "softmax"):
        weights = neighbor_weights(distances, weighting, temperature=1e-4)
        assert np.isfinite(weights).all()
        np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
