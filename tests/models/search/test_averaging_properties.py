"""Weights and averages are those of their formulas in double precision, whatever stands in them; by hypothesis."""

from collections.abc import Callable
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import pytest
import torch
from scipy import sparse

import bleep_sc as bl
from bleep_sc._blocks import LazyRows
from bleep_sc.models.search.averaging import average_profiles
from bleep_sc.models.search.weighting import neighbor_weights

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

QUICK = settings(
    max_examples=80, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
DISTANCES = st.sampled_from([0.0, 1e-38, 1e-12, 1e-7, 1e-6, 0.1, 0.5, 1.0, 2.0, 1e6, 1e30]) | st.floats(
    0, 2, width=32, allow_subnormal=False
)
TEMPERATURES = st.sampled_from([5e-324, 1e-300, 1e-12, 1e-4, 0.1, 1.0, 1e4, 1e300])


@st.composite
def distances(draw: st.DrawFn) -> np.ndarray:
    """Of up to 4 queries, ascending, as a search gives them."""
    k = draw(st.integers(1, 12))
    found = draw(st.lists(st.lists(DISTANCES, min_size=k, max_size=k), min_size=1, max_size=4))
    return np.sort(np.array(found, dtype=np.float32), axis=1)


@pytest.mark.parametrize("weighting", ["mean", "distance", "softmax"])
@QUICK
@given(distances(), TEMPERATURES)
def test_weights_are_those_of_the_formula(weighting: Any, found: np.ndarray, temperature: float) -> None:
    weights = neighbor_weights(found, weighting, temperature=temperature)
    assert weights.dtype == np.float32
    assert weights.shape == found.shape
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1, dtype=np.float64), 1, rtol=0, atol=1e-6)
    assert (np.diff(weights, axis=1) <= 0).all(), "a farther one weighs more"
    exact = found.astype(np.longdouble)
    if weighting == "mean":
        by_hand = np.ones_like(exact)
    elif weighting == "distance":
        by_hand = 1 / np.maximum(exact, np.longdouble(1e-6))
    else:
        by_hand = np.exp((exact[:, :1] - exact) / np.longdouble(temperature))
    by_hand /= by_hand.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(weights, by_hand.astype(np.float64), rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-6])
def test_the_nearest_alone_counts_at_a_tiny_temperature(temperature: float) -> None:
    found = np.array([[0.25, 0.25, 0.5], [0.0, 1e-3, 1e30]], dtype=np.float32)
    weights = neighbor_weights(found, "softmax", temperature=temperature)
    np.testing.assert_array_equal(weights, np.array([[0.5, 0.5, 0], [1, 0, 0]], dtype=np.float32))


class Average(NamedTuple):
    values: np.ndarray
    rows: np.ndarray
    weights: np.ndarray
    columns: np.ndarray | None


@st.composite
def averages(draw: st.DrawFn) -> Average:
    """Up to 15 profiles of up to 9 genes, of any type of number, and up to 8 queries."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    m, n_genes, n, k = (draw(st.integers(1, most)) for most in (15, 9, 8, 6))
    dtype = draw(st.sampled_from(["float32", "float64", "float16", "int32", "bool"]))
    scale = draw(st.sampled_from([1.0, 1e-30, 1e30])) if dtype in ("float32", "float64") else 1.0
    values = (scale * rng.poisson(0.7, size=(m, n_genes))).astype(dtype)
    rows = rng.integers(m, size=(n, k)).astype(np.int32)
    weights = rng.dirichlet(np.ones(k), size=n).astype(np.float32)
    columns = rng.integers(-1, n_genes, size=draw(st.integers(1, 12))) if draw(st.booleans()) else None
    return Average(values, rows, weights, columns)


def _lazily(make: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray, int], LazyRows]:
    def lazy(values: np.ndarray, chunk: int) -> LazyRows:
        return LazyRows(da.from_array(make(values), chunks=(chunk, -1)))

    return lazy


KINDS: dict[str, Callable[[np.ndarray, int], Any]] = {
    "dense": lambda values, _: values,
    "dense by columns": lambda values, _: np.asfortranarray(values),
    "csr": lambda values, _: _sparse(values),
    "csr array of long indices": lambda values, _: _long(sparse.csr_array(_sparse(values))),
    "lazy dense": _lazily(np.asarray),
    "lazy csr": _lazily(lambda values: _sparse(values)),
}


def _sparse(values: np.ndarray) -> sparse.csr_matrix:
    """SciPy has no half precision."""
    return sparse.csr_matrix(values.astype(np.float32) if values.dtype == np.float16 else values)


def _long(values: Any) -> Any:
    values.indptr, values.indices = values.indptr.astype(np.int64), values.indices.astype(np.int64)
    return values


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@settings(QUICK, max_examples=40)
@given(averages(), st.integers(1, 3), st.integers(1, 15), st.sampled_from([256.0, 1e-4]))
def test_averages_are_those_of_the_formula(
    kind: str, average: Average, threads: int, chunk: int, memory: float
) -> None:
    values, rows, weights, columns = average
    expected = np.einsum("nk,nkg->ng", weights.astype(np.float64), values.astype(np.float64)[rows])
    if columns is not None:
        expected = np.where(columns < 0, np.nan, expected[:, columns])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bl.settings, "_memory", memory)
            found = average_profiles(KINDS[kind](values, chunk), rows, weights, columns=columns)
    finally:
        torch.set_num_threads(before)
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    largest = float(np.abs(values.astype(np.float64)).max(initial=0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * largest)
