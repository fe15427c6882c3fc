from typing import Any, get_args

import dask.array as da
import numpy as np
import pytest
import torch
from scipy import sparse

import bleep_sc as bl
from bleep_sc._blocks import LazyRows
from bleep_sc.models.search.averaging import average_profiles
from bleep_sc.models.search.weighting import WEIGHTINGS, Weighting, neighbor_weights


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


def test_an_unknown_weighting_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^`weighting` must be one of 'mean', 'distance', 'softmax', found 'nearest'\.$"
    ):
        neighbor_weights(np.ones((2, 3), dtype=np.float32), "nearest")  # type: ignore[arg-type]


def test_the_weightings_are_those_of_the_signatures() -> None:
    assert tuple(WEIGHTINGS) == get_args(Weighting)


def test_weights_stay_finite_at_zero_and_tiny_temperature() -> None:
    distances = np.array([[0.0, 0.0, 1.0], [0.5, 0.5, 2.0]], dtype=np.float32)
    for weighting in ("distance", "softmax"):
        weights = neighbor_weights(distances, weighting, temperature=1e-4)
        assert np.isfinite(weights).all()
        np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("k", [1, 3, 4, 5, 8, 50])
def test_profiles_are_added_in_the_order_of_neighbours(kind: type, k: int) -> None:
    """However many a loop adds at a time: to the last digit, of single precision."""
    rng = np.random.default_rng(4)
    values = rng.normal(size=(60, 7)).astype(np.float32)
    rows, weights = rng.integers(60, size=(9, k), dtype=np.int32), rng.dirichlet(np.ones(k), size=9).astype(np.float32)
    expected = np.zeros((9, 7), dtype=np.float32)
    for j in range(k):
        expected += weights[:, j, None] * values[rows[:, j]]
    for n_threads in (1, 4):
        torch.set_num_threads(n_threads)
        assert np.array_equal(average_profiles(kind(values), rows, weights), expected)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "bool"])
def test_genes_come_in_the_order_asked_for_and_small_blocks_change_nothing(kind: type, dtype: str) -> None:
    rng = np.random.default_rng(2)
    values = rng.poisson(1.0, size=(40, 13)).astype(dtype)
    rows, columns = rng.integers(40, size=(30, 5), dtype=np.int32), np.array([3, -1, 12, 0])
    weights = rng.dirichlet(np.ones(5), size=30).astype(np.float32)
    expected = np.einsum("nk,nkg->ng", weights, values[rows].astype(float))
    with bl.settings.override(memory=1):  # of 13 genes all fit: blocks of queries are made by many genes
        wide = kind(np.tile(values, (1, 2000)))
        found = average_profiles(wide, rows, weights)
    np.testing.assert_allclose(found[:, :13], expected, atol=1e-5)
    np.testing.assert_allclose(found[:, -13:], expected, atol=1e-5)
    some = average_profiles(kind(values), rows, weights, columns=columns)
    assert np.isnan(some[:, 1]).all()
    np.testing.assert_allclose(some[:, [0, 2, 3]], expected[:, [3, 12, 0]], atol=1e-5)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("columns", [None, np.array([3, -1, 12, 0])])
def test_lazy_values_are_read_once_and_only_where_rows_are_needed(kind: type, columns: np.ndarray | None) -> None:
    rng = np.random.default_rng(3)
    values = rng.poisson(1.0, size=(40, 13)).astype(np.float32)
    read = []

    def make(block_info: Any = None) -> Any:
        (start, stop), _ = block_info[None]["array-location"]
        read.append(int(start))
        return kind(values[start:stop])

    chunks = ((9, 1, 12, 8, 10), (13,))
    lazy = LazyRows(da.map_blocks(make, chunks=chunks, dtype=np.float32, meta=kind(values[:0])))
    rows = rng.choice([*range(10), *range(22, 40)], size=(30, 5)).astype(np.int32)
    weights = rng.dirichlet(np.ones(5), size=30).astype(np.float32)
    with bl.settings.override(memory=1):
        found = average_profiles(lazy, rows, weights, columns=columns)
    np.testing.assert_allclose(found, average_profiles(kind(values), rows, weights, columns=columns), atol=1e-6)
    if kind is sparse.csr_matrix:  # of dense values as many are read at a time as memory allows
        assert sorted(read) == [0, 9, 22, 30]
