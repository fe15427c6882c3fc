import functools
import gc
import importlib.metadata
import os
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # they share the cores; said before torch starts
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse

import bleep_sc as bl
from bleep_sc._logging import logger


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real sections: `$BLEEP_SC_DATA`, else `../shared/data` beside the checkout."""
    folder = Path(os.environ.get("BLEEP_SC_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not (folder / "her2st" / "C6.h5ad").exists():
        reason = f"the real sections are not at {folder}: set BLEEP_SC_DATA to the folder that holds her2st/"
        if os.environ.get("BLEEP_SC_REQUIRE_DATA"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


ASKED_OF_ALIGNMENT = ("test_alignment", "test_main_job", "test_sources_end_to_end", "test_tutorials")
"""Modules whose fits compare places and images as a user's do."""


@pytest.fixture(scope="module", autouse=True)
def alignment_unasked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fits are many here, and each would compare 40 ways to lay its spots on the image: a tenth of a second a section.

    The check has tests of its own.
    """
    with pytest.MonkeyPatch.context() as patch:
        if request.module.__name__.rpartition(".")[2] not in ASKED_OF_ALIGNMENT:
            patch.setattr("bleep_sc.tl._inputs.alignment.warn_of_alignment", lambda *_, **__: None)
        yield


@pytest.fixture(scope="module", autouse=True)
def collected() -> None:
    """Lightning collects garbage after a training: to look through all modules and tests each time takes seconds."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def installed_once() -> Iterator[None]:
    """What is installed stays the same: Lightning goes through all packages at the start of each training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.metadata, "entry_points", functools.cache(importlib.metadata.entry_points))
        yield


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """No progress bars in test output; every test starts from the default settings."""
    with bl.settings.override(progress_bar=False, device="cpu", precision="auto", verbosity="info"):
        yield


N_THREADS = torch.get_num_threads()


@pytest.fixture(autouse=True)
def own_number_of_threads() -> Iterator[None]:
    """The first loop that numba runs in parallel, for scanpy and others, sets torch's number too, in its own thread."""
    torch.set_num_threads(N_THREADS)
    yield
    torch.set_num_threads(N_THREADS)


def import_path(*folders: Path) -> dict[str, str]:
    """The environment of a process that also imports from these folders, before all else."""
    return {"PYTHONPATH": os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])])}


def threads_left(before: list[threading.Thread]) -> list[str]:
    """Names of threads begun since that do not end by themselves; some pools, joblib's say, do not wait for theirs."""
    begun = [thread for thread in threading.enumerate() if thread not in before]
    for thread in begun:
        thread.join(timeout=10)
    return [thread.name for thread in begun if thread.is_alive()]


def global_random_state() -> dict[str, Any]:
    """Python's, NumPy's and torch's (CPU)."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    return {
        "Python": random.getstate(),
        "NumPy": (kind, keys.tobytes(), *rest),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }


@pytest.fixture(autouse=True)
def global_random_state_untouched(request: pytest.FixtureRequest) -> Iterator[None]:
    """No function may move a global random state: Python's, NumPy's or torch's."""
    before = global_random_state()
    yield
    after = global_random_state()
    moved = [name for name, state in before.items() if state != after[name]]
    if "cluster" in request.fixturenames and "Python" in moved:
        moved.remove("Python")  # distributed draws its pauses from it, in a thread of its own, whenever it likes
    assert not moved, f"the test moved the global random state of {' and '.join(moved)}"


@pytest.fixture
def torch_seeded() -> Iterator[None]:
    """For tests of what draws from torch's global random state by design: seeded, and put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What bleep_sc logs; its logger does not propagate, so pytest's handler is attached to it."""
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def make_sections(n: int = 48, *, sections: tuple[str, ...] = ("s1", "s2"), size: int = 16, seed: int = 0) -> AnnData:
    """Spots whose crops have a hue and a stripe width that their genes follow; quick to learn, no real tissue."""
    rng = np.random.default_rng(seed)
    total = n * len(sections)
    hue, width = rng.uniform(size=(2, total))
    x = np.arange(size)
    stripes = 0.5 + 0.5 * np.sin(2 * np.pi * x[None, :] * (1 + 3 * width[:, None]) / size)
    colour = np.stack([0.9 - 0.5 * hue, 0.5 + 0 * hue, 0.4 + 0.5 * hue], axis=1)
    crops = colour[:, None, None, :] * (0.6 + 0.4 * stripes[:, None, :, None])
    crops = np.clip(255 * (crops + 0.02 * rng.normal(size=(total, size, size, 3))), 0, 255).astype(np.uint8)
    slopes = np.stack([np.linspace(-2, 2, 30), np.tile([-1.5, 1.5], 15)])
    mean = 8 * np.exp(np.stack([hue, width], axis=1) @ slopes - slopes.sum(axis=0) / 2)
    counts = rng.poisson(mean).astype(np.float32)
    scaled = counts / counts.sum(axis=1, keepdims=True) * 1e4
    return AnnData(
        sparse.csr_matrix(np.log1p(scaled)),
        obs=pd.DataFrame({"section": pd.Categorical(np.repeat(sections, n))}, index=[f"spot{i}" for i in range(total)]),
        var=pd.DataFrame(index=[f"g{i}" for i in range(30)]),
        layers={"counts": sparse.csr_matrix(counts)},
        obsm={"crops": crops, "spatial": rng.uniform(0, 1000, size=(total, 2))},
        uns={
            "crops": {
                s: {
                    "size": size,
                    "size_um": 100.0,
                    "spot_diameters": 1.0,
                    "um_per_px": 100 / size,
                    "library_key": "section",
                }
                for s in sections
            }
        },
    )


def _pandas_takes(name: str) -> bool:
    try:
        pd.DataFrame(index=[name])
    except UnicodeEncodeError:
        return False
    return True


HALF_CHARACTERS = ["\ud800"] if _pandas_takes("\ud800") else []
"""Text that no file can hold; from version 3 pandas refuses it as a name, so it cannot reach us."""


@pytest.fixture
def ref() -> AnnData:
    """Two small sections, not yet trained on."""
    return make_sections()


@pytest.fixture
def query() -> AnnData:
    """A third section of the same kind."""
    query = make_sections(40, sections=("q",), seed=1)
    query.obs_names = [f"query{i}" for i in range(query.n_obs)]
    return query


_COLOURS: dict[tuple[tuple[int, ...], bytes], np.ndarray] = {}


@pytest.fixture
def remembered_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colour features of crops that were described before are not computed again: half the time of a tiny model."""
    from bleep_sc.models.encoders.color import FEATURE_SET, color_features
    from bleep_sc.models.encoders.record import ByHand
    from bleep_sc.models.encoders.registry import COLOR, ENCODERS

    def remembered(crops: Any, *, progress_bar: bool) -> np.ndarray:
        if not isinstance(crops, np.ndarray):
            return color_features(crops, progress_bar=progress_bar)
        seen = crops.shape, crops.tobytes()
        if seen not in _COLOURS:
            _COLOURS[seen] = color_features(crops, progress_bar=progress_bar)
        return _COLOURS[seen].copy()

    monkeypatch.setitem(ENCODERS, COLOR, replace(ENCODERS[COLOR], by_hand=ByHand(remembered, FEATURE_SET)))


@pytest.fixture
def small_network(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a network that reads crops frozen at 16 pixels, as the tests cut them, and in one view: quick."""
    from bleep_sc.models.encoders.registry import ENCODERS, encoder_named

    name = "timm:test_resnet"
    monkeypatch.setitem(ENCODERS, name, replace(encoder_named(name), input_px=16, symmetries=1))
    return name


def never_read(crops: np.ndarray) -> da.Array:
    """The same crops, lazily: the test fails as soon as any of them is read."""

    def fail(_: np.ndarray) -> np.ndarray:
        pytest.fail("the crops were read")

    return da.from_array(crops, chunks=(16, -1, -1, -1)).map_blocks(fail, meta=crops[:0])


PUBLISHED: dict[str, Any] = {"preset": "paper", "encoder": "color", "accumulate": 1, "patience": 10, "batch_size": 32}
"""The published BLEEP as the tests train it: on colour features, single steps, stopped early."""


@pytest.fixture(scope="session")
def fitted_once() -> AnnData:
    """A reference with the published BLEEP on colour features; do not change it, take `fitted`."""
    ref = make_sections()
    with bl.settings.override(progress_bar=False, device="cpu", verbosity="error"):
        bl.tl.fit(ref, **PUBLISHED, max_epochs=30)
    return ref


@pytest.fixture
def fitted(fitted_once: AnnData) -> AnnData:
    """A reference with the published BLEEP, free to change."""
    return fitted_once.copy()


@pytest.fixture(scope="session")
def hybrid_once() -> AnnData:
    """A reference with BLEEP's default recipe; do not change it, take `hybrid`."""
    ref = make_sections()
    with bl.settings.override(progress_bar=False, device="cpu", verbosity="error"):
        bl.tl.fit(ref, max_epochs=10)
    return ref


@pytest.fixture
def hybrid(hybrid_once: AnnData) -> AnnData:
    """A reference with BLEEP's default recipe, free to change."""
    return hybrid_once.copy()


@pytest.fixture(scope="session")
def calibrated_once() -> tuple[AnnData, AnnData]:
    """A calibrated reference of three patients, and a query of a fourth that it has imputed; take `calibrated`."""
    tissue = make_sections(60, sections=("A1", "A2", "B1", "C1", "D1"))
    tissue.obs["patient"] = tissue.obs["section"].astype(str).str[0]
    rng = np.random.default_rng(5)
    tissue.obs["region"] = rng.choice(["core", "edge", "rim", "bed"], size=tissue.n_obs)
    own = (tissue.obs["patient"] == "D").to_numpy()
    ref, query = tissue[~own].copy(), tissue[own].copy()
    with bl.settings.override(progress_bar=False, device="cpu", verbosity="error"):
        bl.tl.fit(ref, max_epochs=5)
        bl.tl.calibrate(ref, n_turns=20)
        bl.tl.impute(query, ref)
    return ref, query


@pytest.fixture
def calibrated(calibrated_once: tuple[AnnData, AnnData]) -> tuple[AnnData, AnnData]:
    """A calibrated reference and its query, free to change."""
    ref, query = calibrated_once
    return ref.copy(), query.copy()


def snapshot(adata: AnnData) -> dict[str, Any]:
    """All that is in an object, in a form that compares equal only if nothing changed."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: plain(part) for name, part in value.items()}
        if sparse.issparse(value):
            return (type(value).__name__, value.shape, value.data.tobytes(), value.indices.tobytes())
        if isinstance(value, pd.DataFrame):
            return value.to_csv()
        if hasattr(value, "compute"):
            return (value.shape, str(value.dtype))
        if isinstance(value, np.ndarray):
            return (value.shape, str(value.dtype), value.tolist() if value.dtype == object else value.tobytes())
        return value

    parts = {"obs": adata.obs, "var": adata.var, "X": adata.X, "uns": dict(adata.uns)}
    for name in ("obsm", "varm", "layers", "obsp"):
        parts[name] = dict(getattr(adata, name))
    return plain(parts)


@pytest.fixture
def unchanged() -> Iterator[Callable[..., None]]:
    """`unchanged(adata, ...)` says that these objects must be at the end of the test as they are now."""
    before: list[tuple[AnnData, dict[str, Any]]] = []
    yield lambda *objects: before.extend((adata, snapshot(adata)) for adata in objects)
    for adata, state in before:
        assert snapshot(adata) == state, "the object was changed"
