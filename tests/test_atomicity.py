"""However a call ends, by Ctrl-C, a full disk or an error of the user's own code, nothing is left half done."""

import errno
import logging
import os
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import anndata
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy  # noqa: F401 - its import sets variables of the environment
import torch
from anndata import AnnData
from conftest import global_random_state, make_sections, snapshot, threads_left

import bleep_sc as bl
from bleep_sc.models.train import loop as training
from bleep_sc.tl import _alignment
from bleep_sc.tl._study._curve import run as curve_run

pytestmark = [
    pytest.mark.usefixtures("remembered"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

HERE = str(Path(bl.__file__).parent)
WRITERS = (HERE, *(str(Path(module.__file__).parent) for module in (anndata, pd)))
"""Whose code runs while results are written."""
ERRORS: tuple[Callable[[], BaseException], ...] = (
    KeyboardInterrupt,
    MemoryError,
    lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
)
ENDS = (KeyboardInterrupt, MemoryError, OSError)


class Stop:
    """Ends what runs in a ``with`` block at its n-th step: where Python itself would let a signal through.

    Steps are the beginnings of functions and the ends of calls to compiled ones, in code within `folders`.
    """

    def __init__(self, folders: tuple[str, ...], at: int = 0, error: Callable[[], BaseException] = KeyboardInterrupt):
        self.folders = folders
        self.at = at
        self.error = error
        self.steps = 0

    def __enter__(self) -> "Stop":
        sys.setprofile(self._step)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _step(self, frame: FrameType, event: str, _: Any) -> None:
        if event not in ("call", "c_return") or not frame.f_code.co_filename.startswith(self.folders):
            return
        if frame.f_code.co_name in ("__del__", "<genexpr>"):  # errors of what is thrown away are only printed
            return
        self.steps += 1
        if self.steps == self.at:
            raise self.error()


@pytest.fixture
def remembered(monkeypatch: pytest.MonkeyPatch, remembered_colours: None) -> None:
    """What takes long and touches no object is computed once, and takes no time."""
    monkeypatch.setattr(_alignment, "_lay_out", _remember(_alignment._lay_out))
    monkeypatch.setattr(curve_run, "perf_counter", lambda: 0.0)  # no two trainings take the same time


_RESULTS: dict[Any, Any] = {}


def _remember(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    def call(values: np.ndarray, *args: Any, **kwargs: Any) -> np.ndarray:
        key = function.__name__, values.tobytes(), str(args), str(kwargs)
        if key not in _RESULTS:
            _RESULTS[key] = function(values, *args, **kwargs)
        return _RESULTS[key].copy()

    return call


def globals_now() -> dict[str, Any]:
    """What is the process's own, and no call may leave otherwise."""
    return {
        "signals": {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)},
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()),
        "autocast": (
            torch.is_autocast_enabled("cpu"),
            torch.get_autocast_dtype("cpu"),
            torch.is_autocast_cache_enabled(),
        ),
        "numbers": (torch.get_default_dtype(), torch.get_float32_matmul_precision(), np.geterr()),
        "warnings": list(warnings.filters),
        "settings": repr(bl.settings),
        "levels": {
            name: logging.getLogger(name).level for name in ("lightning.pytorch", "lightning.fabric", "harmonypy")
        },
        "matplotlib": dict(matplotlib.rcParams),
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "random": global_random_state(),
    }


def state(adata: AnnData) -> dict[str, Any]:
    """To the bit, with the order of columns and what kind they are."""
    return snapshot(adata) | {axis: _described(getattr(adata, axis)) for axis in ("obs", "var")}


def _described(frame: pd.DataFrame) -> Any:
    return frame.to_csv(), [str(kind) for kind in frame.dtypes]


def reference() -> AnnData:
    """Two sections of 20 spots, of which each is a patient's."""
    ref = make_sections(20, size=8)
    ref.obs["patient"] = ref.obs["section"]
    ref.obsm["X_made"] = ref.obsm["crops"].mean(axis=(1, 2)).astype(np.float32)
    return ref


def three_patients() -> AnnData:
    adata = make_sections(20, sections=("s1", "s2", "s3"), size=8)
    adata.obs["patient"] = adata.obs["section"]
    return adata


def slide() -> AnnData:
    query = make_sections(12, sections=("q",), size=8, seed=1)
    query.obs_names = [f"query{i}" for i in range(query.n_obs)]
    query.obsm["X_made"] = query.obsm["crops"].mean(axis=(1, 2)).astype(np.float32)
    return query


def with_picture() -> AnnData:
    adata = slide()
    del adata.obsm["crops"], adata.uns["crops"]
    adata.uns["spatial"] = {
        "q": {
            "images": {"hires": np.full((1010, 1010, 3), 200, dtype=np.uint8)},
            "scalefactors": {"tissue_hires_scalef": 1.0, "spot_diameter_fullres": 10.0},
        }
    }
    return adata


KINDS: Mapping[str, dict[str, Any]] = {
    "default": {"max_epochs": 1, "members": 1, "hidden": 8, "image_key": "X_made"},
    "paper": {"preset": "paper", "max_epochs": 1, "image_key": "X_made"},
    "ridge": {"method": "ridge", "alpha": 1.0, "image_key": "X_made"},
    "knn": {"method": "knn", "image_key": "X_made"},
}


@cache
def _fitted(kind: str) -> AnnData:
    with bl.settings.override(progress_bar=False, device="cpu", verbosity="error"):
        return bl.tl.fit(reference(), **KINDS[kind], copy=True)


def fitted(kind: str) -> AnnData:
    return _fitted(kind).copy()


def imputed(kind: str = "knn") -> AnnData:
    return bl.tl.impute(slide(), fitted(kind), copy=True)


def partly_measured() -> AnnData:
    query = imputed()
    query.obs["is_measured"] = np.arange(query.n_obs) % 2 == 0
    return query


def labelled(query: AnnData) -> AnnData:
    query.obs["region"] = np.where(np.arange(query.n_obs) % 2, "a", "b")
    return query


def calibrated() -> AnnData:
    return bl.tl.calibrate(fitted("default"), n_turns=0, levels=[0.5], copy=True)


def embedded() -> AnnData:
    return bl.tl.embed(slide(), fitted("paper"), copy=True)


def evaluated() -> AnnData:
    return bl.tl.evaluate(imputed(), n_bootstrap=0, copy=True)


def written(kind: str, folder: Path) -> Path:
    bl.io.write_model(fitted(kind), folder / kind)
    return folder / kind


Call = tuple[Callable[[], AnnData], Callable[[AnnData], Any]]


def calls(folder: Path) -> dict[str, Call]:
    """Every function that writes into an object: the object, where it can with earlier results, and the call."""
    return {
        "crops": (with_picture, lambda a: bl.pp.crops(a, size=8, mpp=0.5)),
        "check_alignment": (reference, bl.pp.check_alignment),
        "select_genes": (reference, lambda a: bl.pp.select_genes(a, n_top_genes=10, batch_key="section")),
        "harmonize": (reference, lambda a: bl.pp.harmonize(a, batch_key="section")),
        "fit ridge": (lambda: fitted("default"), lambda a: bl.tl.fit(a, **KINDS["ridge"])),
        "fit knn": (reference, lambda a: bl.tl.fit(a, **KINDS["knn"])),
        "fit paper": (lambda: fitted("default"), lambda a: bl.tl.fit(a, **KINDS["paper"])),
        "fit default": (lambda: fitted("knn"), lambda a: bl.tl.fit(a, **KINDS["default"])),
        "encode": (reference, lambda a: bl.tl.encode(a, encoder="color")),
        "embed": (slide, lambda a: bl.tl.embed(a, fitted("default"))),
        "impute knn": (slide, lambda a: bl.tl.impute(a, fitted("knn"))),
        "impute default": (slide, lambda a: bl.tl.impute(a, fitted("default"))),
        "impute ridge": (imputed, lambda a: bl.tl.impute(a, fitted("ridge"))),
        "impute measured": (partly_measured, lambda a: bl.tl.impute(a, fitted("knn"), measured="is_measured")),
        "cross_validate": (
            reference,
            lambda a: bl.tl.cross_validate(a, methods=["mean"], metrics=["pearson"], n_bootstrap=0),
        ),
        "sweep": (
            three_patients,
            lambda a: bl.tl.sweep(a, {"alpha": [1, 10]}, method="coordinates", metrics=["pearson"], n_bootstrap=0),
        ),
        "learning_curve": (
            reference,
            lambda a: bl.tl.learning_curve(
                a,
                **{"group_key": "section", "sizes": [16, 20], "draws": 1, "n_bootstrap": 0, "metrics": ["pearson"]},
                method_kwargs={"image_key": "X_made", "alpha": 1.0},
            ),
        ),
        "evaluate": (imputed, lambda a: bl.tl.evaluate(a, metrics=["pearson"], n_bootstrap=0)),
        "noise_ceiling": (reference, lambda a: bl.tl.noise_ceiling(a, n_splits=1)),
        "calibrate": (lambda: fitted("default"), lambda a: bl.tl.calibrate(a, n_turns=20, levels=[0.5])),
        "intervals": (
            lambda: imputed("default"),
            lambda a: bl.tl.intervals(a, calibrated(), level=0.5, key_added="bounds"),
        ),
        "evaluate_regions": (
            lambda: labelled(imputed()),
            lambda a: bl.tl.evaluate_regions(a, labels="region", markers={"a": list(a.var_names[:3])}),
        ),
        "gene_strata": (
            reference,
            lambda a: bl.tl.gene_strata(
                a, by="expression", method_kwargs={"image_key": "X_made", "alpha": 1.0}, n_bootstrap=0
            ),
        ),
        "predictability": (reference, lambda a: bl.tl.predictability(a, n_turns=20)),
        "alignment": (embedded, lambda a: bl.tl.alignment(a, layout="tsne")),
        "read_model": (lambda: fitted("default"), lambda a: bl.io.read_model(a, written("knn", folder))),
    }


NAMES = list(calls(Path()))


def steps_of(make: Callable[[], AnnData], run: Callable[[AnnData], Any], folders: tuple[str, ...]) -> int:
    adata = make()
    with Stop(folders) as counted:
        run(adata)
    return counted.steps


def assert_whole(case: Call, points: Mapping[tuple[str, ...], Callable[[int], Any]]) -> None:
    """Ended at these steps, of so many, the call leaves the object as it was, or as it is after the last write."""
    make, run = case
    adata = make()
    before = state(adata)
    run(adata)  # all is imported, and what is only computed once is known
    after = state(adata)
    assert after != before
    process, threads = globals_now(), threading.enumerate()
    adata, stopped, undone = make(), 0, 0
    for folders, choose in points.items():
        total = steps_of(make, run, folders)
        for number, at in enumerate(choose(total)):
            stop = Stop(folders, at, ERRORS[number % len(ERRORS)])
            error = None
            try:
                with stop:
                    run(adata)
            except BaseException as err:  # noqa: BLE001 - KeyboardInterrupt among them
                error = err.with_traceback(None)
            where = f"{error!r} at step {at} of {total}"
            assert globals_now() == process, where
            assert threads_left(threads) == [], where
            found = state(adata)
            stopped += error is not None
            if found != before:
                assert found == after, where
                assert error is None or at > 0.5 * total, where
                adata = make()
            else:
                undone += 1
    assert stopped
    assert undone


def spread(n: int) -> Callable[[int], list[int]]:
    return lambda total: [1 + (2 * i + 1) * (total - 1) // (2 * n) for i in range(n)]


def late(n: int, base: float) -> Callable[[int], list[int]]:
    """So many of the last steps, where results are written: the denser the later."""
    return lambda total: sorted({max(1, total - round(base**i) + 1) for i in range(n)})


LONG = ("fit default", "fit paper", "cross_validate", "learning_curve", "sweep")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_end_anywhere(name: str, tmp_path: Path) -> None:
    assert_whole(calls(tmp_path)[name], {(HERE,): spread(1), WRITERS: late(5, 4)})


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_end_anywhere_else(name: str, tmp_path: Path) -> None:
    some, many = (1, late(4, 5)) if name in LONG else (4, late(14, 1.6))
    assert_whole(calls(tmp_path)[name], {(HERE,): spread(some), WRITERS: many})


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_store_is_there_only_if_the_query_has_it(tmp_path: Path) -> None:
    """Ended anywhere, also after the store got its name: both have the result, or neither."""
    query, ref = slide(), fitted("knn")
    before = state(query)

    def run(name: str) -> None:
        bl.tl.impute(query, ref, store=tmp_path / name / "imputed.zarr", k=3)

    (tmp_path / "first").mkdir()
    run("first")
    query, seen = slide(), set()
    with Stop((*WRITERS, shutil.__file__)) as counted:
        (tmp_path / "counted").mkdir()
        run("counted")
    total = counted.steps
    for number, at in enumerate([*late(4, 6)(total), *spread(1)(total)]):
        query = slide()
        (tmp_path / str(at)).mkdir()
        with Stop((*WRITERS, shutil.__file__), at, ERRORS[number % 3]), suppress(*ENDS):
            run(str(at))
        there = [path.name for path in (tmp_path / str(at)).iterdir()]
        assert there == (["imputed.zarr"] if "bleep" in query.layers else []), f"step {at} of {total}"
        if there:
            stored = anndata.read_zarr(tmp_path / str(at) / there[0]).layers["bleep"]
            np.testing.assert_array_equal(query.layers["bleep"].compute(), stored)
        else:
            assert state(query) == before
        seen.add(bool(there))
    assert False in seen


@pytest.mark.slow
def test_a_report_is_there_whole_or_as_it_was(tmp_path: Path) -> None:
    """Ended anywhere: the earlier page or the new one, nothing beside it, and objects and process untouched."""
    query, ref = imputed(), fitted("knn")
    before = state(query), state(ref)
    path = tmp_path / "report.html"

    def run(gene: str) -> str:
        bl.report(query, ref, path=path, genes=gene)
        return path.read_text()

    new, earlier = run("g1"), run("g0")
    assert new != earlier
    process, threads, seen = globals_now(), threading.enumerate(), set()
    with Stop((HERE,)) as counted:
        run("g0")
    for number, at in enumerate([*spread(4)(counted.steps), *late(4, 6)(counted.steps)]):
        with Stop((HERE,), at, ERRORS[number % 3]), suppress(*ENDS):
            run("g1")
        assert [found.name for found in tmp_path.iterdir()] == ["report.html"], f"step {at} of {counted.steps}"
        seen.add(path.read_text())
        assert seen <= {earlier, new}
        path.write_text(earlier)
        assert (state(query), state(ref)) == before
        assert globals_now() == process
        assert threads_left(threads) == []
        assert plt.get_fignums() == []
    assert earlier in seen


@pytest.mark.odd
@pytest.mark.skipif(sys.platform == "win32", reason="files are limited on other systems")
@pytest.mark.parametrize("what", ["model", "store", "checkpoints", "report"])
def test_a_disk_that_is_full(what: str, tmp_path: Path, unchanged: Callable[..., None]) -> None:
    """The earlier model and the earlier checkpoints stay as they were, and nothing half written is left."""
    import resource

    ref, other, query, made = fitted("knn"), fitted("paper"), slide(), imputed()
    arguments = KINDS["paper"] | {"checkpoint_dir": tmp_path}
    fresh = reference()
    runs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "model": (lambda: bl.io.write_model(ref, tmp_path), lambda: bl.io.write_model(other, tmp_path)),
        "store": (lambda: None, lambda: bl.tl.impute(query, ref, store=tmp_path / "imputed.zarr")),
        "checkpoints": (
            lambda: bl.tl.fit(fresh, **arguments, copy=True),
            lambda: bl.tl.fit(fresh, **(arguments | {"max_epochs": 2})),
        ),
        "report": (
            lambda: bl.report(made, path=tmp_path / "report.html", genes="g0"),
            lambda: bl.report(made, path=tmp_path / "report.html", genes="g1"),
        ),
    }
    earlier, run = runs[what]
    earlier()
    before = files(tmp_path)
    unchanged(ref, other, query, fresh)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        with pytest.raises(OSError, match=r"File too large"):
            run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files(tmp_path) == before
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    if what == "model":
        bl.io.read_model(target := reference(), tmp_path)
        np.testing.assert_array_equal(target.uns["bleep"]["model"], ref.uns["bleep"]["model"])
    elif what == "checkpoints":
        found = bl.tl.fit(fresh, **(arguments | {"max_epochs": 2}), copy=True)
        expected = bl.tl.fit(fresh, **(KINDS["paper"] | {"max_epochs": 2}), copy=True)
        assert snapshot(found)["uns"] == snapshot(expected)["uns"]


@pytest.mark.slow
def test_a_training_with_checkpoints_goes_on_from_any_end(tmp_path: Path) -> None:
    arguments = KINDS["paper"] | {"max_epochs": 3}
    fresh = reference()
    before, expected = state(fresh), state(bl.tl.fit(fresh, **arguments, copy=True))
    with Stop((HERE,)) as counted:
        bl.tl.fit(fresh, **arguments, checkpoint_dir=tmp_path / "whole", copy=True)
    for number, at in enumerate(spread(3)(counted.steps)):
        folder = tmp_path / str(at)
        with Stop((HERE,), at, ERRORS[number % 3]), pytest.raises(BaseException) as caught:
            bl.tl.fit(fresh, **arguments, checkpoint_dir=folder)
        # Lightning may have an error of its own while it tidies up, which does not hide this one
        assert isinstance(caught.value, ENDS) or isinstance(caught.value.__context__, (MemoryError, OSError))
        assert state(fresh) == before
        left = [path.name for path in folder.iterdir()] if folder.exists() else []
        assert all(name.endswith(".safetensors") for name in left), left
        assert state(bl.tl.fit(fresh, **arguments, checkpoint_dir=folder, copy=True)) == expected


@pytest.mark.parametrize("method", ["__iter__", "__len__"])
def test_ctrl_c_is_itself_wherever_it_comes(
    method: str, monkeypatch: pytest.MonkeyPatch, unchanged: Callable[..., None]
) -> None:
    """Also before Lightning has begun to read, when its own tidying up fails over that."""
    ref = reference()
    unchanged(ref)
    process, threads = globals_now(), threading.enumerate()

    def interrupted(_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training._Feed, method, interrupted)
    with pytest.raises(KeyboardInterrupt):
        bl.tl.fit(ref, **KINDS["paper"])
    assert globals_now() == process
    assert threads_left(threads) == []


class Own(torch.nn.Module):
    """A user's encoder, in training mode, that fails at its n-th call."""

    def __init__(self, fails: int, error: BaseException) -> None:
        super().__init__()
        self.calls, self.fails, self.error = 0, fails, error

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == self.fails:
            raise self.error
        return images.mean(dim=(2, 3))


class OfTheUser(Exception):
    """What no part of the package knows."""


@pytest.mark.odd
@pytest.mark.parametrize("error", [OfTheUser("mine"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("function", ["fit", "embed", "impute", "impute to a store", "cross_validate"])
def test_an_error_of_the_users_encoder_comes_out(
    function: str, error: BaseException, unchanged: Callable[..., None], tmp_path: Path
) -> None:
    ref, query = reference(), slide()
    arguments: dict[str, Any] = {"method": "knn", "encoder": Own(0, error)}
    model = bl.tl.fit(ref, **arguments, copy=True)
    failing = Own(2, error)
    if function in ("fit", "cross_validate"):
        failing.fails = 1
    runs: dict[str, Callable[[], Any]] = {
        "fit": lambda: bl.tl.fit(ref, method="knn", encoder=failing),
        "embed": lambda: bl.tl.embed(query, model, encoder=failing, batch_size=8),
        "impute": lambda: bl.tl.impute(query, model, encoder=failing, batch_size=8),
        "impute to a store": lambda: bl.tl.impute(
            query, model, encoder=failing, batch_size=8, store=tmp_path / "imputed.zarr"
        ),
        "cross_validate": lambda: bl.tl.cross_validate(
            ref, methods=["knn"], method_kwargs={"knn": {"encoder": failing}}, n_bootstrap=0
        ),
    }
    unchanged(ref, query, model)
    process, threads = globals_now(), threading.enumerate()
    with pytest.raises(type(error)) as caught:
        runs[function]()
    assert caught.value is error
    assert failing.training, "it was put into evaluation mode and left there"
    assert globals_now() == process
    assert threads_left(threads) == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["scores", "gene_correlation", pytest.param("alignment", marks=pytest.mark.slow)])
def test_an_interrupted_plot_leaves_matplotlib_as_it_was(name: str) -> None:
    plots: dict[str, tuple[Callable[[], AnnData], Callable[[AnnData], Any]]] = {
        "scores": (
            lambda: bl.tl.evaluate(imputed(), n_bootstrap=0, copy=True),
            lambda a: bl.pl.scores(a, layers=["bleep"]),
        ),
        "gene_correlation": (imputed, lambda a: bl.pl.gene_correlation(a, layer="bleep")),
        "alignment": (lambda: bl.tl.alignment(embedded(), layout="tsne", copy=True), bl.pl.alignment),
    }
    make, run = plots[name]
    adata = make()
    before = state(adata)
    plt.switch_backend("agg")
    with Stop((HERE,)) as counted:
        run(adata)
    process, threads = globals_now(), threading.enumerate()
    for at in spread(3)(counted.steps):
        with Stop((HERE,), at), suppress(*ENDS):
            run(adata)
        plt.close("all")
        assert globals_now() == process
        assert threads_left(threads) == []
        assert state(adata) == before
