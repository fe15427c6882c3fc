"""Calls from several threads or processes at once give bit for bit what they give one after the other."""

import contextvars
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import lightning  # noqa: F401 - importing it adds filters of warnings
import numpy as np
import pytest
import torch
from anndata import AnnData
from conftest import PUBLISHED, import_path, make_sections, threads_left
from joblib.externals.loky import get_reusable_executor

import bleep_sc as bl
from bleep_sc._blocks import _run_job
from bleep_sc.models.nets import serialize
from bleep_sc.models.train.randomness import borrowed_random_state

pytestmark = [
    # so few spots and epochs; the filters of warnings are one list for all threads
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.usefixtures("nothing_shared_changes"),
]

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # processes do not find this file

N_THREADS = 4
RECIPES: dict[str, dict[str, Any]] = {
    "published": {**PUBLISHED, "max_epochs": 3},
    "default": {"members": 2, "hidden": 32, "max_epochs": 2},
    "network": {"method": "regressor", "encoder": "timm:test_resnet", "weights": None, "dropout": 0.3, "max_epochs": 1},
}


@pytest.fixture
def nothing_shared_changes() -> Iterator[None]:
    """Other threads begin from the settings of the process; at the end all is as it was."""
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    filters, threads = list(warnings.filters), threading.enumerate()
    level = bl.settings.verbosity
    yield
    assert {number: signal.getsignal(number) for number in signals} == signals
    assert list(warnings.filters) == filters
    assert threads_left(threads) == []
    assert bl.settings.verbosity == level


@pytest.fixture(scope="module")
def fitted_network() -> AnnData:
    """A reference with small models of each kind, which threads read together."""
    ref = make_sections(20)
    with bl.settings.override(verbosity="error", progress_bar=False, device="cpu"):
        for name, recipe in RECIPES.items():
            bl.tl.fit(ref, **recipe, key_added=name)
    return ref


def bits(adata: AnnData) -> dict[str, bytes]:
    """All that was learned, written and scored."""
    found = {
        f"{kind} {name}": np.asarray(value)
        for kind in ("obsm", "layers")
        for name, value in getattr(adata, kind).items()
        if name not in ("crops", "counts", None)  # newer anndata lists `X` as the layer None
    }
    found |= {f"var {name}": values.to_numpy() for name, values in adata.var.items() if values.dtype.kind == "f"}
    found |= {
        f"model {name}": entry["model"]
        for name, entry in adata.uns.items()
        if isinstance(entry, dict) and "model" in entry
    }
    return {name: np.ascontiguousarray(values).tobytes() for name, values in found.items()}


def whole_job(recipe: dict[str, Any], seed: int) -> dict[str, bytes]:
    """Train with a seed, embed, impute and score, on objects of its own."""
    with bl.settings.override(progress_bar=False, device="cpu"):
        ref = make_sections(16, seed=seed)
        query = make_sections(12, sections=("q",), seed=100 + seed)
        bl.tl.fit(ref, **recipe, random_state=seed)
        if recipe.get("method") != "regressor":
            bl.tl.embed(ref)
        bl.tl.impute(query, ref)
        bl.tl.evaluate(query, n_bootstrap=10, random_state=seed)
    return {f"ref {name}": value for name, value in bits(ref).items()} | bits(query)


def predicted(ref: AnnData, seed: int) -> dict[str, bytes]:
    """By each model of a reference that others read too."""
    query = make_sections(12, sections=("q",), seed=seed)
    with bl.settings.override(progress_bar=False, device="cpu"):
        for name in RECIPES:
            bl.tl.impute(query, ref, key=name, key_added=name)
        bl.tl.evaluate(query, layer="default", n_bootstrap=10)
        bl.tl.embed(query, ref, key="published", key_added="placed")
    return bits(query)


def at_once(job: Callable[[int], Any], n: int = N_THREADS) -> list[Any]:
    """The job's results for 0, 1, ..., each in a thread, all of which begin together."""
    start = threading.Barrier(n)

    def one(number: int) -> Any:
        start.wait()
        return job(number)

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(one, range(n)))


def assert_same(found: list[dict[str, bytes]], expected: list[dict[str, bytes]]) -> None:
    """Saying what differs, of which job."""
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert [name for name in one | other if one.get(name) != other.get(name)] == [], f"of job {number}"


@pytest.mark.slow
def test_threads_that_train_and_predict_by_other_recipes_and_seeds() -> None:
    names = ["published", "default", "network", "network"]
    expected = [whole_job(RECIPES[name], seed) for seed, name in enumerate(names)]
    assert len({found["ref model bleep"] for found in expected}) == N_THREADS, "each has a model of its own"
    assert_same(at_once(lambda seed: whole_job(RECIPES[names[seed]], seed)), expected)


@pytest.mark.slow
def test_threads_that_differ_in_the_seed() -> None:
    expected = [whole_job(RECIPES["network"], seed) for seed in range(N_THREADS)]
    assert_same(at_once(lambda seed: whole_job(RECIPES["network"], seed)), expected)


@pytest.mark.slow
def test_threads_that_read_one_reference(fitted_network: AnnData, unchanged: Callable[..., None]) -> None:
    unchanged(fitted_network)
    expected = [predicted(fitted_network, seed) for seed in range(N_THREADS)]
    assert_same(at_once(lambda seed: predicted(fitted_network, seed)), expected)


def test_loading_a_model_lets_another_thread_draw(fitted_network: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    """It neither waits for a training to end nor puts back the random numbers that a training took meanwhile."""
    read, drawn = serialize.load, []

    def while_another_draws(weights: bytes) -> Any:
        torch.rand(3)
        drawn.append(torch.get_rng_state())
        return read(weights)

    monkeypatch.setattr(serialize, "load", while_another_draws)
    query = make_sections(12, sections=("q",))
    with borrowed_random_state(), ThreadPoolExecutor(1) as pool:
        pool.submit(bl.tl.impute, query, fitted_network, key="default", device="cpu", progress_bar=False).result(60)
        assert torch.equal(torch.get_rng_state(), drawn[-1])
    assert "default" in query.layers


@pytest.mark.slow
def test_predictions_while_another_thread_trains(fitted_network: AnnData) -> None:
    alone, expected = whole_job(RECIPES["network"], 1), predicted(fitted_network, 1)
    ended, found = threading.Event(), []

    def predict() -> None:
        while not ended.is_set():
            found.append(predicted(fitted_network, 1))

    thread = threading.Thread(target=predict)
    thread.start()
    try:
        assert whole_job(RECIPES["network"], 1) == alone
    finally:
        ended.set()
        thread.join()
    assert found
    assert all(each == expected for each in found)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_joblib(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path(__file__).parents[1]  # of conftest, which a process imports
    monkeypatch.setenv("PYTHONPATH", import_path(here)["PYTHONPATH"])
    recipe = RECIPES["published"]
    expected = [whole_job(recipe, seed) for seed in range(2)]
    found = joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(whole_job)(recipe, seed) for seed in range(2))
    if backend == "loky":
        get_reusable_executor().shutdown(wait=True)
    assert found == expected


def test_settings_of_a_block_hold_in_its_thread_alone() -> None:
    inside, looked = threading.Event(), threading.Event()
    seen: dict[str, Any] = {}

    def one() -> None:
        with bl.settings.override(memory=17, device="meta", precision="32", progress_bar=False):
            bl.settings.memory = 18
            inside.set()
            looked.wait(10)
            seen["one"] = bl.settings.memory, bl.settings.device
        seen["after"] = bl.settings.memory, bl.settings.device

    before = bl.settings.memory, bl.settings.device, bl.settings.precision, bl.settings.progress_bar
    thread = threading.Thread(target=one)
    thread.start()
    assert inside.wait(10)
    assert (bl.settings.memory, bl.settings.device, bl.settings.precision, bl.settings.progress_bar) == before
    with bl.settings.override(memory=3):
        looked.set()
        thread.join()
        assert bl.settings.memory == 3
    assert seen["one"] == (18, "meta")
    assert seen["after"][0] == bl.settings.memory == before[0]


def test_a_block_reaches_threads_that_copy_its_context() -> None:
    with bl.settings.override(memory=17), ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: bl.settings.memory).result() != 17
        assert pool.submit(contextvars.copy_context().run, lambda: bl.settings.memory).result() == 17


def test_blocks_within_blocks() -> None:
    before = bl.settings.memory
    with bl.settings.override(memory=10):
        with bl.settings.override(memory=11, device="meta"):
            bl.settings.memory = 12
        assert bl.settings.memory == 10
        with bl.settings.override(device="meta"):
            bl.settings.memory = 13
        assert bl.settings.memory == 13, "it belongs to the outer block"
        assert bl.settings.device == "cpu"
    assert bl.settings.memory == before


def test_the_memory_of_a_worker_is_that_of_its_part() -> None:
    """A worker may be a thread of the user's own process."""
    before = bl.settings.memory
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(_run_job, lambda part: (part, bl.settings.memory), "part", 5.0).result() == ("part", 5.0)
        assert pool.submit(lambda: bl.settings.memory).result() == before
    assert bl.settings.memory == before


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["first in, first out", "last in, first out"])
def test_verbosity_comes_back_in_whatever_order_threads_leave(order: tuple[int, int]) -> None:
    before = bl.settings.verbosity
    blocks = [bl.settings.override(verbosity=level) for level in ("error", "debug")]
    for block in blocks:
        block.__enter__()
    assert bl.settings.verbosity == "debug"
    blocks[order[0]].__exit__(None, None, None)
    assert bl.settings.verbosity == ("debug" if order[0] == 0 else "error")
    blocks[order[1]].__exit__(None, None, None)
    assert bl.settings.verbosity == before


@pytest.mark.slow
def test_an_error_in_one_thread_leaves_the_turn_to_the_next() -> None:
    def job(number: int) -> Any:
        if number == 0:
            with pytest.raises(FloatingPointError, match="diverged"):
                whole_job({**RECIPES["published"], "lr": 1e30}, 0)
            return None
        return whole_job(RECIPES["published"], number)

    assert at_once(job, 2)[1] == whole_job(RECIPES["published"], 1)
