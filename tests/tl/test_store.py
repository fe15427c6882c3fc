"""Imputation of what does not fit into memory: lazy queries and references, and a layer that goes to disk."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import cloudpickle
import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import squidpy as sq
import zarr
from anndata import AnnData
from anndata.experimental import read_lazy
from conftest import PUBLISHED
from scipy import sparse

import bleep_sc as bl
from bleep_sc.io._reference_record import ENTRIES

pytestmark = pytest.mark.usefixtures("remembered_colours")

SMALL = 1
"""Memory in MB; the genes of `wide` are so many that chunks and blocks are of few spots."""


def write_zarr(adata: AnnData, path: Path) -> Path:
    """As `adata.write_zarr`, which warns of a coming format; a dask array's chunks become chunks on disk."""
    root = zarr.open_group(path, mode="w", zarr_format=2)
    ad.io.write_elem(root, "/", adata)
    if isinstance(adata.X, da.Array) and isinstance(adata.X._meta, np.ndarray):
        ad.io.write_elem(root, "X", adata.X, dataset_kwargs={"chunks": adata.X.chunksize})
    zarr.consolidate_metadata(root.store)
    return path


def read_in_chunks(adata: AnnData, path: Path, n: int = 17) -> AnnData:
    """From disk, where expression and embeddings are read by chunks of n spots."""
    return in_chunks(write_zarr(adata, path), n)


def in_chunks(path: Path, n: int = 17) -> AnnData:
    lazy = read_lazy(path)
    lazy.X = ad.experimental.read_elem_lazy(zarr.open_group(path, mode="r")["X"], chunks=(n, lazy.n_vars))
    for key in ("X_bleep_expression", "X_bleep_image"):
        if key in lazy.obsm:
            lazy.obsm[key] = lazy.obsm[key].rechunk({0: n})
    return lazy


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, AnnData], AnnData]:
    """`on_disk(name, adata)` reads in chunks what was written, the first time that it is asked for, under a name."""
    folder = tmp_path_factory.mktemp("written")

    def read(name: str, adata: AnnData) -> AnnData:
        path = folder / name
        return in_chunks(path if path.exists() else write_zarr(adata, path))

    return read


def wide(adata: AnnData, *, times: int = 150) -> AnnData:
    """The same with its genes many times over, each time weaker."""
    values = sparse.hstack([adata.X / (i + 1) for i in range(times)]).tocsr()
    out = AnnData(values, obs=adata.obs, obsm=dict(adata.obsm), uns=dict(adata.uns))
    out.var_names = [f"{gene}_{i}" if i else gene for i in range(times) for gene in adata.var_names]
    return out


def assert_alike(found: AnnData, expected: AnnData, name: str = "bleep") -> None:
    np.testing.assert_allclose(np.asarray(found.layers[name]), expected.layers[name], atol=1e-5)
    for key in (f"X_{name}_image", f"{name}_neighbors", f"{name}_distances"):
        assert (key in found.obsm) == (key in expected.obsm)
        if key in found.obsm:
            here, there = np.asarray(found.obsm[key]), expected.obsm[key]
            assert here.dtype == there.dtype
            np.testing.assert_allclose(here, there, atol=1e-4)
    of_model = {"model", "genes", "config", "history", *ENTRIES}
    assert set(found.uns[name]) >= {*expected.uns[name]} - of_model
    column = f"{name}_reliability"
    assert (column in found.obs) == (column in expected.obs)
    if column in found.obs:
        np.testing.assert_allclose(np.asarray(found.obs[column]), expected.obs[column], atol=1e-4)


def check_store(query: AnnData, expected: AnnData, path: Path) -> None:
    """The query has the layer lazily, and the store has all that was written, and is whole."""
    assert isinstance(query.layers["bleep"], da.Array)
    assert_alike(query, expected)
    stored = ad.read_zarr(path)
    assert_alike(stored, expected)
    assert stored.layers["bleep"].dtype == np.float32
    assert stored.X is None
    assert stored.obs_names.equals(expected.obs_names)
    assert stored.var_names.equals(expected.var_names)
    assert stored.obs["section"].tolist() == expected.obs["section"].tolist()
    assert np.array_equal(stored.obsm["spatial"], expected.obsm["spatial"])
    assert stored.uns["bleep"]["units"] == expected.uns["bleep"]["units"]
    assert "model" not in stored.uns["bleep"]
    np.testing.assert_allclose(np.asarray(read_lazy(path).layers["bleep"]), stored.layers["bleep"])
    assert "inputs" not in zarr.open_group(path, mode="r")


@pytest.fixture(params=["published", "default"])
def model(request: pytest.FixtureRequest, fitted: AnnData, hybrid: AnnData) -> AnnData:
    """A reference with the published BLEEP, and one with the default recipe."""
    return fitted if request.param == "published" else hybrid


def name_of(request: pytest.FixtureRequest) -> str:
    """Of the reference."""
    return str(request.node.callspec.params["model"])


@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize("where", ["memory", "disk"])
@pytest.mark.slow
def test_equals_the_layer_in_memory(
    model: AnnData,
    query: AnnData,
    where: str,
    kind: str,
    on_disk: Callable[[str, AnnData], AnnData],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    ref, query = wide(model), wide(query)
    if kind == "dense":
        ref.X = ref.X.toarray()
    expected = query.copy()
    bl.tl.impute(expected, ref, k=9)
    if where == "disk":
        ref, query = on_disk(f"wide {kind} {name_of(request)}", ref), on_disk("wide query", query)
    with bl.settings.override(memory=SMALL):
        bl.tl.impute(query, ref, k=9, store=tmp_path / "imputed.zarr")
    assert query.layers["bleep"].numblocks == (2, 18)
    check_store(query, expected, tmp_path / "imputed.zarr")
    assert np.array_equal(query.obsm["bleep_neighbors"], expected.obsm["bleep_neighbors"])


@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.slow
def test_a_reference_on_disk_needs_no_store(
    model: AnnData,
    query: AnnData,
    kind: str,
    on_disk: Callable[[str, AnnData], AnnData],
    request: pytest.FixtureRequest,
) -> None:
    if kind == "dense":
        model.X = model.X.toarray()
    expected, unread = query.copy(), query.copy()
    bl.tl.impute(expected, model, k=9, weighting="softmax")
    mask = np.arange(model.n_obs) >= 0
    lazy = on_disk(f"{kind} {name_of(request)}", model)
    for ref in (lazy, lazy[mask]):
        bl.tl.impute(query, ref, k=9, weighting="softmax")
        assert isinstance(query.layers["bleep"], np.ndarray)
        assert_alike(query, expected)
    both = on_disk("query", unread)
    bl.tl.impute(both, lazy, k=9, weighting="softmax")
    assert_alike(both, expected)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", None])
@pytest.mark.slow
def test_lazy_crops_are_described_by_the_users_scheduler(
    model: AnnData, query: AnnData, scheduler: str | None, tmp_path: Path
) -> None:
    expected = query.copy()
    bl.tl.impute(expected, model, k=9)
    query.obsm["crops"] = da.from_array(query.obsm["crops"], chunks=(9, 8, 16, 3))
    with dask.config.set(scheduler=scheduler):
        bl.tl.impute(query, model, k=9, store=tmp_path / "imputed.zarr")
    check_store(query, expected, tmp_path / "imputed.zarr")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*look unlike the reference:UserWarning")  # of noise, which they are
def test_crops_cut_on_demand(fitted: AnnData, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = sq.im.ImageContainer(rng.integers(256, size=(200, 200, 3), dtype=np.uint8))
    query = bl.pp.blank(fitted, spatial=rng.uniform(20, 180, size=(150, 2)), library_id="q", spot_diameter=16.0)
    query.obs["section"] = "q"
    crops = {"size": 16, "um": 100, "mpp": 100 / 16, "progress_bar": False}
    bl.pp.crops(query, image, **crops)
    expected = query.copy()
    bl.tl.impute(expected, fitted, k=5)
    bl.pp.crops(query, image, **crops, lazy=True)
    with dask.config.set(scheduler="threads"):
        bl.tl.impute(query, fitted, k=5, store=tmp_path / "imputed.zarr")
    check_store(query, expected, tmp_path / "imputed.zarr")
    assert "spatial" in ad.read_zarr(tmp_path / "imputed.zarr").uns


@pytest.mark.slow
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_the_own_profile_is_left_out(
    model: AnnData,
    where: str,
    on_disk: Callable[[str, AnnData], AnnData],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    expected = model.copy()
    bl.tl.impute(expected, model, k=5)
    ref = on_disk(f"csr {name_of(request)}", model) if where == "disk" else model
    bl.tl.impute(ref, ref, k=5, store=tmp_path / "imputed.zarr")
    check_store(ref, expected, tmp_path / "imputed.zarr")
    assert ref.uns["bleep"]["in_sample"] is True
    assert not (ref.obsm["bleep_neighbors"] == np.arange(ref.n_obs)[:, None]).any()
    assert "model" in ref.uns["bleep"]


@pytest.mark.slow
def test_genes_are_matched_by_name(
    model: AnnData,
    query: AnnData,
    on_disk: Callable[[str, AnnData], AnnData],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    some = query[:, np.random.default_rng(0).permutation(30)[:20]].copy()
    some.var_names = [*some.var_names[:15], *(f"other{i}" for i in range(5))]
    expected = some.copy()
    bl.tl.impute(expected, model, k=5)
    assert np.isnan(expected.layers["bleep"][:, 15:]).all()
    ref = on_disk(f"csr {name_of(request)}", model)
    bl.tl.impute(some, ref, k=5, store=tmp_path / "imputed.zarr")
    check_store(some, expected, tmp_path / "imputed.zarr")


@pytest.mark.parametrize("method", ["ridge", "coordinates", "mean", "knn", "regressor"])
@pytest.mark.parametrize("crops", ["memory", "lazy"])
@pytest.mark.slow
def test_every_method_of_single_spots(ref: AnnData, query: AnnData, method: str, crops: str, tmp_path: Path) -> None:
    network = {"encoder": "timm:test_resnet", "weights": None, "max_epochs": 1} if method == "regressor" else {}
    bl.tl.fit(ref, method=method, **network)
    expected = query.copy()
    bl.tl.impute(expected, ref)
    if crops == "lazy":
        query.obsm["crops"] = da.from_array(query.obsm["crops"], chunks=(9, -1, -1, -1))
    bl.tl.impute(query, ref, store=tmp_path / "imputed.zarr")
    check_store(query, expected, tmp_path / "imputed.zarr")


@pytest.mark.slow
def test_copy_and_another_name(model: AnnData, query: AnnData, unchanged: Callable[..., None], tmp_path: Path) -> None:
    unchanged(query, model)
    done = bl.tl.impute(query, model, k=5, key_added="mine", store=str(tmp_path / "imputed.zarr"), copy=True)
    assert done is not None
    assert isinstance(done.layers["mine"], da.Array)
    assert set(ad.read_zarr(tmp_path / "imputed.zarr").obsm) == {
        "spatial",
        "X_mine_image",
        "mine_neighbors",
        "mine_distances",
    }


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.slow
def test_a_failure_half_way_leaves_nothing(
    error: type[BaseException],
    model: AnnData,
    query: AnnData,
    unchanged: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    query, ref = wide(query), wide(model)
    unchanged(query, ref)
    write, calls = zarr.Array.__setitem__, []

    def breaking(array: zarr.Array, where: Any, values: Any) -> None:
        if array.path == "layers/bleep":
            calls.append(len(list(tmp_path.iterdir())))
            if len(calls) == 2:
                raise error("the disk is full")
        write(array, where, values)

    monkeypatch.setattr(zarr.Array, "__setitem__", breaking)
    with bl.settings.override(memory=SMALL), pytest.raises(error, match="the disk is full"):
        bl.tl.impute(query, ref, k=5, store=tmp_path / "imputed.zarr")
    assert calls == [1, 1]
    assert not list(tmp_path.iterdir())


@pytest.mark.odd
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_values_on_disk_are_named(fitted: AnnData, query: AnnData, bad: float, tmp_path: Path) -> None:
    fitted.X.data[-1] = bad
    ref = read_in_chunks(fitted, tmp_path / "ref.zarr")
    with pytest.raises(ValueError, match=r"`ref\.X` holds NaN or infinite"):
        bl.tl.impute(query, ref, k=96, store=tmp_path / "imputed.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["ref.zarr"]


@pytest.mark.odd
def test_rows_on_disk_without_an_embedding_are_named(fitted: AnnData, query: AnnData, tmp_path: Path) -> None:
    fitted.obsm["X_bleep_expression"][3:5] = np.nan
    ref = read_in_chunks(fitted, tmp_path / "ref.zarr")
    with pytest.raises(ValueError, match=r"2 of 96 spots.*bleep_sc\.tl\.embed"):
        bl.tl.impute(query, ref, k=5)


@pytest.mark.filterwarnings("ignore:the model has nearly collapsed:UserWarning")
@pytest.mark.slow
def test_embeddings_of_another_model_are_warned_of(fitted: AnnData, query: AnnData, tmp_path: Path) -> None:
    other = fitted.copy()
    bl.tl.fit(other, **PUBLISHED, max_epochs=3, random_state=7)
    fitted.obsm["X_bleep_expression"] = other.obsm["X_bleep_expression"]
    with pytest.warns(UserWarning, match=r"X_bleep_expression.*another model"):
        bl.tl.impute(query, read_in_chunks(fitted, tmp_path / "ref.zarr"), k=5)


@pytest.mark.odd
@pytest.mark.slow
def test_what_cannot_be_stored_is_refused_before_any_work(
    ref: AnnData, fitted: AnnData, query: AnnData, unchanged: Callable[..., None], tmp_path: Path
) -> None:
    (tmp_path / "there.zarr").mkdir()
    unchanged(query, fitted)
    with pytest.raises(FileExistsError, match=r"there\.zarr.*never overwritten"):
        bl.tl.impute(query, fitted, k=5, store=tmp_path / "there.zarr")
    with pytest.raises(FileNotFoundError, match=r"folder .*nowhere.*does not exist"):
        bl.tl.impute(query, fitted, k=5, store=tmp_path / "nowhere" / "imputed.zarr")
    with pytest.raises(TypeError, match=r"`store` must be a path.*bool"):
        bl.tl.impute(query, fitted, k=5, store=True)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`store`.*pynndescent.*exact"):
        bl.tl.impute(query, fitted, k=5, search="pynndescent", store=tmp_path / "imputed.zarr")
    bl.tl.fit(ref, method="histogene", max_epochs=1)
    with pytest.raises(ValueError, match=r"`store`.*histogene.*neighbouring spots together"):
        bl.tl.impute(query, ref, store=tmp_path / "imputed.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["there.zarr"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two workers, each a process of one thread."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.mark.slow
def test_a_cluster_gives_the_same_layer(model: AnnData, query: AnnData, cluster: Any, tmp_path: Path) -> None:
    """With the reference in memory and on disk, and crops of each kind."""
    query, ref = wide(query), wide(model)
    expected = query.copy()
    bl.tl.impute(expected, ref, k=9)
    lazy = query.copy()
    lazy.obsm["crops"] = da.from_array(lazy.obsm["crops"], chunks=(9, -1, -1, -1))
    on_disk = read_in_chunks(ref, tmp_path / "ref.zarr")
    with bl.settings.override(memory=SMALL):
        for number, (each, source) in enumerate([(query, ref), (query, on_disk), (lazy, ref), (lazy, on_disk)]):
            bl.tl.impute(each, source, k=9, store=tmp_path / f"{number}.zarr")
            check_store(each, expected, tmp_path / f"{number}.zarr")
    # the caller's setting goes with each task, and stays nowhere
    assert cluster.run(lambda: bl.settings.memory) == dict.fromkeys(cluster.run(int), bl.settings.memory)


@pytest.mark.slow
def test_what_a_cluster_holds_is_refused(fitted: AnnData, query: AnnData, cluster: Any, tmp_path: Path) -> None:
    fitted.X = da.from_array(fitted.X.toarray(), chunks=(50, 30)).persist()
    with pytest.raises(ValueError, match=r"dask array \(96, 30\) was persisted.*before `\.persist\(\)`"):
        bl.tl.impute(query, fitted, k=5, store=tmp_path / "imputed.zarr")


@pytest.mark.slow
def test_a_failing_worker_leaves_nothing(fitted: AnnData, query: AnnData, cluster: Any, tmp_path: Path) -> None:
    fitted.X.data[-1] = np.nan
    ref = read_in_chunks(fitted, tmp_path / "ref.zarr")
    with pytest.raises(ValueError, match=r"`ref\.X` holds NaN or infinite"):
        bl.tl.impute(query, ref, k=96, store=tmp_path / "imputed.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["ref.zarr"]
    assert "bleep" not in query.layers


# workers cannot import a module of tests
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def forget_peak() -> float:
    """The memory of this process now, in MB; its peak is measured again from here."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> float:
    """Most memory that this process ever had, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks of memory are read as Linux tells them")
@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_no_worker_holds_more_than_its_bound(cluster: Any, kind: str, tmp_path: Path) -> None:
    """Layer and reference are 200 MB each, the bound is 64 MB."""
    n, n_genes, width, k, memory = 20_000, 2_500, 16, 10, 32
    rng = np.random.default_rng(0)
    some = AnnData(
        sparse.csr_matrix(rng.poisson(0.5, size=(100, n_genes)).astype(np.float32)),
        obsm={"features": rng.normal(size=(100, width)).astype(np.float32)},
    )
    bl.tl.fit(some, method="knn", image_key="features")
    values = da.random.default_rng(0).poisson(0.5, size=(n, n_genes), chunks=(400, n_genes)).astype(np.float32)
    ref = AnnData(
        values if kind == "dense" else values.map_blocks(sparse.csr_matrix, meta=sparse.csr_matrix((0, 0))),
        obsm={"X_bleep_image": rng.normal(size=(n, width)).astype(np.float32)},
        uns={"bleep": {part: some.uns["bleep"][part] for part in ("model", "genes", "config")}},
    )
    query = AnnData(
        obs=pd.DataFrame(index=[f"query{i}" for i in range(n)]),
        var=ref.var,
        obsm={"features": rng.normal(size=(n, width)).astype(np.float32)},
    )
    lazy = read_lazy(write_zarr(ref, tmp_path / "ref.zarr"))
    with bl.settings.override(memory=memory):
        # on a few chunks first, so that what each worker imports and compiles does not count
        bl.tl.impute(query[:4000].copy(), lazy, k=k, store=tmp_path / "warm.zarr")
        before = cluster.run(forget_peak)
        bl.tl.impute(query, lazy, k=k, store=tmp_path / "imputed.zarr")
        grown = {worker: now - before[worker] for worker, now in cluster.run(peak).items()}
    assert query.layers["bleep"].nbytes >= 200e6
    assert max(grown.values()) < 2 * memory
    rows, layer = query.obsm["bleep_neighbors"], query.layers["bleep"]
    for spot in (0, n // 2, n - 1):
        near = lazy.X[np.sort(rows[spot])].compute()
        np.testing.assert_allclose(layer[spot].compute(), np.asarray(near.mean(axis=0)).ravel(), atol=1e-5)
