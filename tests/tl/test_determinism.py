"""The same input gives the same result: bit for bit, or to rounding where work is cut or ordered otherwise."""

from collections.abc import Callable, Iterator
from typing import Any

import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from conftest import make_sections
from scipy import sparse

import bleep_sc as bl
from bleep_sc.models.search import nearest as retrieval

pytestmark = pytest.mark.filterwarnings("ignore:the model has nearly collapsed:UserWarning")

REMEMBERED = pytest.mark.usefixtures("remembered_colours")
"""Of what is compared with a first call, which describes the crops."""
MODELS = ("hybrid", "published", "regressor")
RETRIEVAL = ("hybrid", "published")
K = 12
ROUNDING = 1e-5
"""What a value may move by where work is cut or ordered otherwise."""
TIE = 1e-6
"""Distances nearer to each other than this may change places."""


@pytest.fixture(scope="module")
def references(hybrid_once: AnnData, fitted_once: AnnData) -> dict[str, AnnData]:
    """A reference of each kind; nobody may change them."""
    regressor = make_sections()
    with bl.settings.override(progress_bar=False, device="cpu", verbosity="error"):
        bl.tl.fit(regressor, method="regressor", encoder="color", max_epochs=5, batch_size=32)
    return {"hybrid": hybrid_once, "published": fitted_once, "regressor": regressor}


@pytest.fixture(scope="module")
def two_once() -> AnnData:
    """A query of two sections, its spots not in order of section; some on a lattice, where many are equally far."""
    query = make_sections(36, sections=("q1", "q2"), seed=5)
    query.obsm["spatial"][:36] = 100 * np.argwhere(np.ones((6, 6)))
    query.obs_names = [f"query{i}" for i in range(query.n_obs)]
    return query[np.random.default_rng(0).permutation(query.n_obs)].copy()


@pytest.fixture
def two(two_once: AnnData) -> AnnData:
    return two_once.copy()


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Set torch's number of threads for the length of a test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def imputed(query: AnnData, ref: AnnData, **more: Any) -> AnnData:
    """The query with an imputed layer; neighbours are K where there are any."""
    query = query.copy()
    bl.tl.impute(query, ref, k=K, **more)
    return query


def bits(adata: AnnData) -> dict[str, bytes]:
    """All arrays that `impute` or `embed` wrote."""
    arrays = {name: adata.obsm[name] for name in adata.obsm if "bleep" in name}
    if "bleep" in adata.layers:
        arrays["layer"] = adata.layers["bleep"]
    return {name: np.ascontiguousarray(values).tobytes() for name, values in arrays.items()}


def distance(image: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """1 - cosine of images (n, 1, d) and keys (n, k, d), in double precision."""
    image, keys = (values.astype(np.float64) for values in (image, keys))
    norms = np.linalg.norm(image, axis=-1) * np.linalg.norm(keys, axis=-1)
    return 1 - (image * keys).sum(axis=-1) / norms


def check_same(found: AnnData, expected: AnnData, ref: AnnData) -> None:
    """The same layer to rounding, and the same neighbours but for ties."""
    np.testing.assert_allclose(found.layers["bleep"], expected.layers["bleep"], rtol=0, atol=ROUNDING)
    assert ("bleep_neighbors" in found.obsm) == ("bleep_neighbors" in expected.obsm)
    if "bleep_neighbors" not in expected.obsm:
        return
    np.testing.assert_allclose(found.obsm["X_bleep_image"], expected.obsm["X_bleep_image"], rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(found.obsm["bleep_distances"], expected.obsm["bleep_distances"], rtol=0, atol=ROUNDING)
    keys, images = ref.obsm["X_bleep_expression"], expected.obsm["X_bleep_image"][:, None, :]
    here, there = (distance(images, keys[each.obsm["bleep_neighbors"]]) for each in (found, expected))
    other = found.obsm["bleep_neighbors"] != expected.obsm["bleep_neighbors"]
    assert (np.abs(here - there)[other] < TIE).all()
    assert other.mean() < 0.01, "these spots have hardly any ties"


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.slow
def test_the_same_call_gives_the_same_bits(
    model: str, n_threads: int, references: dict[str, AnnData], two: AnnData, threads: Callable[[int], None]
) -> None:
    threads(n_threads)
    first, second = (imputed(two, references[model]) for _ in range(2))
    assert bits(first) == bits(second)
    assert "layer" in bits(first)
    if model in RETRIEVAL:
        placed = [bl.tl.embed(two, references[model], copy=True) for _ in range(2)]
        assert bits(placed[0]) == bits(placed[1])
        assert bits(placed[0])["X_bleep_image"] == bits(first)["X_bleep_image"]
    for query in (first, second):
        bl.tl.evaluate(query, n_bootstrap=10)
    pd.testing.assert_frame_equal(first.var, second.var, check_exact=True)
    tables = [query.uns["bleep_scores"]["summary"] for query in (first, second)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


@pytest.mark.parametrize(
    "arguments", [pytest.param({}, marks=pytest.mark.slow), {"preset": "paper", "batch_size": 32}], ids=str
)
def test_training_by_two_threads_gives_the_same_bits(
    arguments: dict[str, Any], ref: AnnData, threads: Callable[[int], None]
) -> None:
    threads(2)
    ref.obsm["features"] = ref.obsm.pop("crops").reshape(ref.n_obs, -1)[:, ::37] / 255
    for key in ("a", "b"):
        bl.tl.fit(ref, **arguments, image_key="features", max_epochs=1, key_added=key)
    assert ref.uns["a"]["model"].tobytes() == ref.uns["b"]["model"].tobytes()
    assert np.array_equal(ref.obsm["X_a_expression"], ref.obsm["X_b_expression"])


@REMEMBERED
@pytest.mark.parametrize("model", MODELS)
def test_threads_change_no_more_than_rounding(
    model: str, references: dict[str, AnnData], two: AnnData, threads: Callable[[int], None]
) -> None:
    ref = references[model]
    threads(1)
    expected = imputed(two, ref)
    for n_threads in (2, 3):
        threads(n_threads)
        check_same(imputed(two, ref), expected, ref)


@REMEMBERED
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kept", ["in memory", "dask"])
@pytest.mark.slow
def test_blocks_change_no_more_than_rounding(
    model: str, kept: str, references: dict[str, AnnData], two: AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundredth of the least memory allowed stands for data a hundred times as large."""
    ref = references[model]
    expected = imputed(two, ref)
    scored = expected.copy()
    bl.tl.evaluate(scored, n_bootstrap=0)
    if kept == "dask":
        ref, two = as_dask(ref), two.copy()
        two.obsm["crops"] = da.from_array(two.obsm["crops"], chunks=(5, 16, 16, 3))
    monkeypatch.setattr(bl.settings, "_memory", 0.01)
    monkeypatch.setattr(retrieval, "_KEY_BLOCK", 7)
    monkeypatch.setattr(retrieval, "_COMPARED", 3)
    monkeypatch.setattr(retrieval, "_QUERY_BLOCK", 10)
    for batch_size in (7, 1000):
        check_same(imputed(two, ref, batch_size=batch_size), expected, references[model])
    again = expected.copy()
    bl.tl.evaluate(again, n_bootstrap=0)
    pd.testing.assert_frame_equal(again.var, scored.var, check_exact=False, rtol=0, atol=ROUNDING)


def as_dask(ref: AnnData) -> AnnData:
    """Its values and places in the space as dask arrays, whose chunks do not fit each other."""
    ref = ref.copy()
    x = sparse.csr_matrix(ref.X)
    ref.X = da.from_array(x, chunks=(9, -1))
    for name in [name for name in ref.obsm if name.startswith("X_bleep")]:
        ref.obsm[name] = da.from_array(ref.obsm[name], chunks=(11, -1))
    return ref


KINDS: dict[str, Callable[[sparse.csr_matrix], Any]] = {
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "csr array": sparse.csr_array,
    "unsorted csr": lambda x: _unsorted(x),
    "dense": lambda x: x.toarray(),
    "dense by columns": lambda x: np.asfortranarray(x.toarray()),
    "dask of dense": lambda x: da.from_array(x.toarray(), chunks=(9, 7)),
    "dask of csr": lambda x: da.from_array(x, chunks=(9, -1)),
}


def _unsorted(x: sparse.csr_matrix) -> sparse.csr_matrix:
    """The same, the entries of each row from right to left."""
    x = x.copy()
    for start, stop in zip(x.indptr[:-1], x.indptr[1:], strict=True):
        x.indices[start:stop], x.data[start:stop] = x.indices[start:stop][::-1].copy(), x.data[start:stop][::-1].copy()
    x.has_sorted_indices = False
    return x


@pytest.mark.slow
@REMEMBERED
@pytest.mark.parametrize("model", MODELS)
def test_the_kind_of_matrix_changes_no_more_than_rounding(
    model: str, references: dict[str, AnnData], two: AnnData
) -> None:
    expected = imputed(two, references[model])
    ref = references[model].copy()
    x, y = sparse.csr_matrix(ref.X), sparse.csr_matrix(two.X)
    for make in KINDS.values():
        ref.X, two.X = make(x), make(y)
        check_same(imputed(two, ref), expected, references[model])


@REMEMBERED
@pytest.mark.parametrize("kind", ["unsorted csr", "dense by columns", "dask of csr"])
def test_what_is_scored_may_be_of_any_kind(kind: str, references: dict[str, AnnData], two: AnnData) -> None:
    query = imputed(two, references["hybrid"])
    other = query.copy()
    bl.tl.evaluate(query, n_bootstrap=10)
    other.X = KINDS[kind](sparse.csr_matrix(other.X))
    other.layers["counts"] = KINDS[kind](sparse.csr_matrix(other.layers["counts"]))
    other.layers["bleep"] = KINDS[kind](sparse.csr_matrix(other.layers["bleep"]))
    bl.tl.evaluate(other, n_bootstrap=10)
    check_scores(other, query)


@REMEMBERED
@pytest.mark.parametrize("model", RETRIEVAL)
def test_expression_of_any_kind_is_embedded_alike(model: str, references: dict[str, AnnData], two: AnnData) -> None:
    expected = bl.tl.embed(two, references[model], copy=True)
    x = sparse.csr_matrix(two.X)
    for make in KINDS.values():
        two.X = make(x)
        check_places(bl.tl.embed(two, references[model], batch_size=5, copy=True), expected)


def check_places(found: AnnData, expected: AnnData) -> None:
    names = {name for name in expected.obsm if "bleep" in name}
    assert {"X_bleep_image", "X_bleep_expression"} <= names
    for name in names:
        np.testing.assert_allclose(found.obsm[name], expected.obsm[name], rtol=0, atol=ROUNDING, err_msg=name)


def check_scores(found: AnnData, expected: AnnData) -> None:
    """The same scores, by gene, by section and of all, intervals and ceilings included."""
    assert "bleep_pearson" in expected.var
    assert "noise_ceiling" in expected.var
    names = [name for name in expected.var if name.startswith("bleep_") or name == "noise_ceiling"]
    pd.testing.assert_frame_equal(
        found.var.loc[expected.var_names, names], expected.var[names], check_exact=False, rtol=0, atol=ROUNDING
    )
    for table in ("summary", "scores"):
        here, there = (each.uns["bleep_scores"][table] for each in (found, expected))
        pd.testing.assert_frame_equal(here, there, check_exact=False, rtol=0, atol=ROUNDING)


@pytest.fixture
def shuffled() -> Callable[[int], np.ndarray]:
    rng = np.random.default_rng(3)
    return lambda n: rng.permutation(n)


@REMEMBERED
@pytest.mark.parametrize("model", MODELS)
def test_spots_of_the_query_in_another_order(
    model: str, references: dict[str, AnnData], two: AnnData, shuffled: Callable[[int], np.ndarray]
) -> None:
    ref = references[model]
    expected = imputed(two, ref)
    bl.tl.evaluate(expected, n_bootstrap=10)
    order = shuffled(two.n_obs)
    found = imputed(two[order].copy(), ref)
    bl.tl.evaluate(found, n_bootstrap=10)
    check_same(found, expected[order], ref)
    check_scores(found, expected)
    if model in RETRIEVAL:
        check_places(bl.tl.embed(two[order].copy(), ref, copy=True), bl.tl.embed(two, ref, copy=True)[order])


@REMEMBERED
@pytest.mark.parametrize("model", RETRIEVAL)
def test_spots_of_the_reference_in_another_order(
    model: str, references: dict[str, AnnData], two: AnnData, shuffled: Callable[[int], np.ndarray]
) -> None:
    ref = references[model]
    expected = imputed(two, ref)
    order = shuffled(ref.n_obs)
    found = imputed(two, ref[order].copy())
    found.obsm["bleep_neighbors"] = order[found.obsm["bleep_neighbors"]]
    check_same(found, expected, ref)
    placed = ref[order].copy()
    bl.tl.embed(placed)
    check_places(placed, ref[order])


@REMEMBERED
@pytest.mark.parametrize("model", RETRIEVAL)
def test_spots_of_the_reference_that_are_the_query_in_another_order(
    model: str, references: dict[str, AnnData], shuffled: Callable[[int], np.ndarray]
) -> None:
    """Each finds its own profile, to leave it out, wherever it stands."""
    ref = references[model]
    expected = imputed(ref, ref)
    order = shuffled(ref.n_obs)
    found = imputed(ref[order].copy(), ref)
    assert found.uns["bleep"]["in_sample"]
    assert not (found.obsm["bleep_neighbors"] == order[:, None]).any()
    check_same(found, expected[order], ref)
    found = imputed(ref, ref[order].copy())
    found.obsm["bleep_neighbors"] = order[found.obsm["bleep_neighbors"]]
    assert not (found.obsm["bleep_neighbors"] == np.arange(ref.n_obs)[:, None]).any()
    check_same(found, expected, ref)


@REMEMBERED
@pytest.mark.parametrize("model", MODELS)
def test_genes_in_another_order(
    model: str, references: dict[str, AnnData], two: AnnData, shuffled: Callable[[int], np.ndarray]
) -> None:
    """Of the reference, of the query, and of both, each its own."""
    ref = references[model]
    expected = imputed(two, ref)
    bl.tl.evaluate(expected, n_bootstrap=10)
    here, there = shuffled(two.n_vars), shuffled(two.n_vars)
    for query, other in ((two, ref[:, there].copy()), (two[:, here].copy(), ref), (two[:, here].copy(), ref[:, there])):
        found = imputed(query, other)
        check_same(found[:, expected.var_names], expected, ref)
        if query is not two:  # scores are of the query's genes
            bl.tl.evaluate(found, n_bootstrap=10)
            check_scores(found, expected)
    if model in RETRIEVAL:
        check_places(bl.tl.embed(two[:, here].copy(), ref, copy=True), bl.tl.embed(two, ref, copy=True))


@REMEMBERED
@pytest.mark.filterwarnings("ignore:.*is not what the model 'bleep' makes:UserWarning")
def test_equally_near_profiles_come_in_the_order_of_the_reference(
    references: dict[str, AnnData], two: AnnData, threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each profile is there three times: of copies the one of the lowest row is nearest, whatever the blocks.

    Each points along an axis of the space, so that similarities are exact, and equal for copies.
    """
    ref = references["published"]
    n = ref.n_obs
    copies = ad.concat([ref, ref, ref], index_unique="-", merge="same", uns_merge="first")
    copies.obsm["X_bleep_expression"] = np.eye(256, dtype=np.float32)[np.tile(np.arange(n), 3)]
    query = two.copy()
    bl.tl.impute(query, copies, k=9)
    expected = query.obsm["bleep_neighbors"]
    assert (np.sort(expected.reshape(-1, 3, 3) % n, axis=-1) == expected[:, ::3, None] % n).all()
    assert (expected.reshape(-1, 3, 3) // n == np.arange(3)).all()
    for n_threads, keys, queries in ((1, 50, 7), (2, 33, 512), (3, 8192, 1)):
        threads(n_threads)
        monkeypatch.setattr(retrieval, "_KEY_BLOCK", keys)
        monkeypatch.setattr(retrieval, "_QUERY_BLOCK", queries)
        bl.tl.impute(query, copies, k=9)
        assert np.array_equal(query.obsm["bleep_neighbors"], expected)


@REMEMBERED
def test_training_depends_on_the_order_of_spots_and_says_so(ref: AnnData) -> None:
    other = ref[::-1].copy()
    for adata in (ref, other):
        bl.tl.fit(adata, max_epochs=2)
    assert ref.uns["bleep"]["model"].tobytes() != other.uns["bleep"]["model"].tobytes()
    assert "The order of the spots matters too." in " ".join(str(bl.tl.fit.__doc__).split())
