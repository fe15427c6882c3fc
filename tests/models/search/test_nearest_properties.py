"""The search finds what comparing everything with everything in double precision finds; sought by hypothesis."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import dask.array as da
import numpy as np
import pytest
import torch

from bleep_sc.models.search import nearest as retrieval
from bleep_sc.models.search.nearest import nearest

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

QUICK = settings(
    max_examples=80, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
TIE = 1e-6
"""Distances nearer to each other than this may change places, unless the keys are the same."""

VALUES = {
    "any": lambda rng, shape: rng.normal(size=shape),
    "whole": lambda rng, shape: rng.integers(-1, 2, size=shape),
    "nearly alike": lambda rng, shape: 1 + 1e-3 * rng.normal(size=shape),
    "alike": lambda rng, shape: np.ones(shape),
    "zero": lambda rng, shape: np.zeros(shape),
}
SCALES = (1.0, 1e-3, 1e4, 1e-16, 1e-28, 1e16, 1e30)
"""Squares of the last four do not fit single precision."""


class Problem(NamedTuple):
    query: np.ndarray
    keys: np.ndarray
    k: int
    leave_out: np.ndarray | None


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Up to 12 queries and 40 keys, some of them the same, some nothing but zeros, of very different lengths."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, m, width = draw(st.integers(1, 12)), draw(st.integers(2, 40)), draw(st.integers(1, 20))
    kinds = draw(st.tuples(st.sampled_from(list(VALUES)), st.sampled_from(list(VALUES))))
    query, keys = (
        VALUES[kind](rng, (size, width)).astype(np.float64) for kind, size in zip(kinds, (n, m), strict=True)
    )
    keys = keys[rng.integers(draw(st.integers(1, m)), size=m)]  # the fewer different ones, the more often each
    if draw(st.booleans()):
        keys[rng.uniform(size=m) < 0.2] = 0
        query[rng.uniform(size=n) < 0.2] = 0
    scales = draw(st.lists(st.sampled_from(SCALES), min_size=1, max_size=3))
    query, keys = (values * rng.choice(scales, size=(len(values), 1)) for values in (query, keys))
    leave_out = rng.integers(-1, m, size=n) if draw(st.booleans()) else None
    most = m - (leave_out is not None)
    k = draw(st.integers(1, most) | st.just(most))
    return Problem(query.astype(np.float32), keys.astype(np.float32), k, leave_out)


@contextmanager
def blocks(queries: int, keys: int, *, compiled: bool) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "_QUERY_BLOCK", queries)
        patch.setattr(retrieval, "_KEY_BLOCK", keys)
        patch.setattr(retrieval, "_COMPARED", max(1, keys // 3))
        if not compiled:
            patch.setattr(retrieval, "_keep_best_compiled", retrieval._keep_best)
        yield


def unit(values: np.ndarray) -> np.ndarray:
    """In double precision; of a zero vector nothing but zeros, so that its cosine with all others is 0."""
    values = values.astype(np.float64)
    norm = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(norm > 0, norm, 1)


def check(problem: Problem, rows: np.ndarray, distances: np.ndarray) -> None:
    query, keys, k, leave_out = problem
    assert rows.shape == distances.shape == (len(query), k)
    assert rows.dtype == np.int32
    assert distances.dtype == np.float32
    assert ((rows >= 0) & (rows < len(keys))).all()
    true = 1 - unit(query) @ unit(keys).T
    if leave_out is not None:
        assert not (rows == leave_out[:, None]).any(), "a row that must be left out"
        true[np.flatnonzero(leave_out >= 0), leave_out[leave_out >= 0]] = np.inf
    found = np.take_along_axis(true, rows, axis=1)
    np.testing.assert_allclose(distances, np.maximum(found, 0), rtol=0, atol=TIE)
    assert (distances >= 0).all()
    assert (np.diff(distances, axis=1) >= 0).all()
    np.testing.assert_allclose(found, np.sort(true, axis=1)[:, :k], rtol=0, atol=TIE)
    for some in rows:
        assert len(set(some)) == k, "a row twice"


@pytest.mark.slow
@QUICK
@given(problems(), st.integers(1, 13), st.integers(1, 41), st.booleans())
def test_any_search_finds_the_nearest(problem: Problem, queries: int, keys: int, compiled: bool) -> None:  # noqa: FBT001
    with blocks(queries, keys, compiled=compiled):
        rows, distances = nearest(problem.query, problem.keys, problem.k, leave_out=problem.leave_out)
    check(problem, rows, distances)


@pytest.mark.slow
@QUICK
@given(problems(), st.integers(1, 13), st.integers(1, 41), st.booleans())
def test_of_equal_keys_the_lowest_rows_are_found(
    problem: Problem,
    queries: int,
    keys: int,
    compiled: bool,  # noqa: FBT001
) -> None:
    """Each key points along one axis, so that its similarity is exact and equal for all that do."""
    query, there, k, leave_out = problem
    width = query.shape[1]
    axis = np.argmax(np.abs(there), axis=1)
    exact = np.sign(there[:, :1] + 0.5) * np.eye(width, dtype=np.float32)[axis]
    with blocks(queries, keys, compiled=compiled):
        rows, distances = nearest(query, exact, k, leave_out=leave_out)
    check(Problem(query, exact, k, leave_out), rows, distances)
    _, which = np.unique(exact, axis=0, return_inverse=True)
    which = which.reshape(-1)
    banned = np.full(len(rows), -1) if leave_out is None else leave_out
    for some, own in zip(rows, banned, strict=True):
        for key in np.unique(which[some]):
            here = some[which[some] == key]
            possible = np.flatnonzero((which == key) & (np.arange(len(which)) != own))
            assert here.tolist() == possible[: len(here)].tolist()


@pytest.mark.slow
@QUICK
@given(problems(), st.integers(1, 13), st.integers(1, 41), st.integers(1, 3), st.integers(1, 41))
def test_blocks_threads_and_dask_change_nothing_but_ties(
    problem: Problem, queries: int, keys: int, threads: int, chunk: int
) -> None:
    query, all_keys, k, leave_out = problem
    rows, distances = nearest(query, all_keys, k, leave_out=leave_out)
    again = nearest(query, all_keys, k, leave_out=leave_out)
    assert np.array_equal(rows, again[0])
    assert np.array_equal(distances, again[1])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with blocks(queries, keys, compiled=True):
            lazy = da.from_array(all_keys, chunks=(chunk, -1))
            found = nearest(query, lazy, k, leave_out=leave_out)
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(found[1], distances, rtol=0, atol=TIE)
    true = 1 - unit(query) @ unit(all_keys).T
    here, there = (np.take_along_axis(true, each, axis=1) for each in (found[0], rows))
    np.testing.assert_allclose(here, there, rtol=0, atol=TIE)
