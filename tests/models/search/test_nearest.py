from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from bleep_sc._blocks import one_after_another
from bleep_sc.models.search import nearest as retrieval
from bleep_sc.models.search.nearest import nearest, nearest_approximately, quicker_search


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
    monkeypatch.setattr(retrieval, "_COMPARED", 3)
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


@pytest.mark.parametrize("keep", [retrieval._keep_best_compiled, retrieval._keep_best])
@pytest.mark.parametrize("n_threads", [1, 2, 3, 5])
def test_of_equal_keys_the_lowest_rows_are_found(
    keep: Callable[..., None], n_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each key is there many times, as spots of one profile are, in blocks of all threads; also all are alike."""
    monkeypatch.setattr(retrieval, "_keep_best_compiled", keep)
    monkeypatch.setattr(retrieval, "_KEY_BLOCK", 70)
    monkeypatch.setattr(retrieval, "_COMPARED", 40)
    monkeypatch.setattr(retrieval, "_FEW_QUERIES", 3)
    # of whole numbers products are exact, whatever their order
    rng = np.random.default_rng(0)
    query = rng.permuted(np.tile([1, 1, 1, 1, 0, 0, 0, 0], (20, 1)), axis=1).astype(np.float32)
    keys = rng.permuted(np.tile([1, 1, 1, 1, 0, 0, 0, 0], (300, 1)), axis=1).astype(np.float32)
    torch.set_num_threads(n_threads)
    rows, distances = nearest(query, keys, 50)
    alike, _ = nearest(query, np.ones((300, 8), dtype=np.float32), 299)
    assert np.array_equal(rows, np.argsort(-(query @ keys.T), axis=1, kind="stable")[:, :50])
    assert np.array_equal(distances, 1 - np.sort(query @ keys.T / 4, axis=1)[:, :-51:-1])
    assert np.array_equal(alike, np.tile(np.arange(299), (20, 1)))


def test_the_number_of_threads_changes_no_digit(space: tuple[np.ndarray, np.ndarray]) -> None:
    query, keys = space
    found = []
    for n_threads in (1, 2, 3, 8):
        torch.set_num_threads(n_threads)
        found.append(nearest(query, keys, 50, leave_out=np.arange(70)))
    for rows, distances in found[1:]:
        assert np.array_equal(rows, found[0][0])
        assert np.array_equal(distances, found[0][1])


@pytest.mark.parametrize(("n", "expected"), [(1, 16), (100, 16), (1000, 125), (2560, 320), (5000, 313)])
def test_blocks_of_queries_are_alike_in_size(n: int, expected: int) -> None:
    """Enough of them to share out, and none of so few queries that a product is slow."""
    assert retrieval.block_of(torch.device("cpu"), n) == (expected, 8192)


def test_the_path_of_a_gpu_finds_the_same(
    space: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    query, keys = space
    own = np.where(np.arange(70) % 2, np.arange(70), -1)
    compiled = nearest(query, keys, 299, leave_out=own)
    monkeypatch.setattr(retrieval, "_keep_best_compiled", retrieval._keep_best)
    monkeypatch.setattr(retrieval, "_on_cores", lambda: nullcontext(one_after_another))
    monkeypatch.setattr(retrieval, "_KEY_BLOCK", 31)
    by_torch = nearest(query, keys, 299, leave_out=own)
    assert np.array_equal(compiled[0], by_torch[0])
    np.testing.assert_allclose(compiled[1], by_torch[1], atol=1e-6)


def test_keys_may_be_dask(space: tuple[np.ndarray, np.ndarray]) -> None:
    import dask.array as da

    query, keys = space
    assert np.array_equal(nearest(query, da.from_array(keys, chunks=64), 9)[0], nearest(query, keys, 9)[0])


def test_an_index_is_built_only_for_many_queries_of_a_large_reference() -> None:
    cpu = torch.device("cpu")
    assert quicker_search(5_000, 50_000, 256, cpu) == "exact"
    assert quicker_search(2_000, 1_000_000, 256, cpu) == "exact"
    assert quicker_search(500_000, 1_000_000, 256, cpu) == "pynndescent"
    assert quicker_search(500_000, 1_000_000, 256, torch.device("cuda")) == "exact"
