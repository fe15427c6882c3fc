"""A short form of the day in one process, and what it must find."""

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import lightning  # noqa: F401 - importing it adds filters of warnings
import numpy as np
import pytest
import soak_cycles
from anndata import AnnData
from soak_cycles import BOUNDS, Report, soak

import bleep_sc as bl

pytestmark = [
    # so few spots and epochs: nothing to learn
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="what a process holds is read from Linux's /proc"),
]


def quick(data: Path, number: int) -> None:
    """A cycle that is over in a moment."""
    bl.io.read_model(AnnData(np.full((1, 12), number)), data / "model")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    soak_cycles.write_toy(folder)
    ref = ad.read_h5ad(folder / "ref.h5ad")
    with bl.settings.override(verbosity="error"):
        bl.tl.fit(ref, method="ridge", alpha=1.0)
    bl.io.write_model(ref, folder / "model")
    return folder


@pytest.fixture(autouse=True)
def ready_made(toy: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without painting tissue again, and without messages, which the runner of the tests would keep."""
    monkeypatch.setattr(soak_cycles, "write_toy", lambda folder: shutil.copytree(toy, folder, dirs_exist_ok=True))
    with bl.settings.override(verbosity="error"):
        yield


class Leak:
    """Leaves one thing behind each time, until it is ended."""

    def __init__(self) -> None:
        self.ended, self.files, self.kept = threading.Event(), [], []
        self.threads: list[threading.Thread] = []

    def thread(self) -> None:
        self.threads.append(threading.Thread(target=self.ended.wait))
        self.threads[-1].start()

    def open_file(self) -> None:
        self.files.append(os.open(os.devnull, os.O_RDONLY))

    def temporary_file(self) -> None:
        os.close(tempfile.mkstemp()[0])

    def arrays(self) -> None:
        self.kept.append(np.ones(100_000))

    def objects(self) -> None:
        self.kept += [[] for _ in range(3)]

    def end(self) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()
        for file in self.files:
            os.close(file)


@pytest.fixture
def leak() -> Iterator[Leak]:
    leak = Leak()
    yield leak
    leak.end()


FAULTS: dict[str, tuple[str, set[str]]] = {
    "thread": ("threads", {"memory (MB)", "objects"}),  # each has a stack and objects of its own
    "open_file": ("open files", set()),
    "temporary_file": ("temporary files", set()),
    "arrays": ("memory (MB)", set()),
    "objects": ("objects", set()),
}
"""What each grows, and what it may grow besides."""


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, leak: Leak, monkeypatch: pytest.MonkeyPatch) -> None:
    read_model = bl.io.read_model

    def leaking(*args: Any, **arguments: Any) -> None:
        read_model(*args, **arguments)
        getattr(leak, fault)()

    monkeypatch.setattr(bl.io, "read_model", leaking)
    report = soak(16, warm_up=5, work=quick)
    found, besides = FAULTS[fault]
    assert found in report.grown
    assert set(report.grown) <= {found} | besides
    assert f"GROWN: {', '.join(report.grown)}" in str(report)


@pytest.mark.slow
def test_nothing_is_found_where_nothing_grows() -> None:
    before = tempfile.gettempdir()
    report = soak(16, warm_up=5, work=quick)
    assert report.grown == []
    assert "nothing has grown" in str(report)
    assert tempfile.gettempdir() == before


def states(values: Callable[[int], float], n: int = 301) -> list[dict[str, float]]:
    return [dict.fromkeys(BOUNDS, 0.0) | {"threads": values(i)} for i in range(n)]


def test_a_little_in_every_cycle_is_growth_and_one_step_is_none() -> None:
    assert Report(states(lambda i: i // 150), warm_up=1).grown == []
    assert Report(states(lambda i: i // 50), warm_up=1).grown == ["threads"]
    assert Report(states(lambda i: -i), warm_up=1).grown == []
    for step in range(2, 12):  # wherever the step comes, also of few cycles
        assert Report(states(lambda i, step=step: 2 * (i >= step))[:12], warm_up=3).grown == []
    assert Report(states(lambda i: i)[:12], warm_up=3).grown == ["threads"]
    assert Report(states(lambda i: min(i, 10)), warm_up=10).grown == [], "what comes in the warm-up is no growth"


@pytest.mark.parametrize(("grows", "code"), [(0, 0), (1, 1)])
def test_the_exit_code_says_whether_something_grew(
    grows: int, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = itertools.count()
    monkeypatch.setattr(soak_cycles, "cycle", lambda data, number: None)
    monkeypatch.setattr(soak_cycles, "state", lambda place: dict.fromkeys(BOUNDS, grows * float(next(clock))))
    with pytest.raises(SystemExit) as ended:
        soak_cycles.main(["--cycles", "5", "--warm-up", "2"])
    assert ended.value.code == code
    printed = capsys.readouterr().out
    assert "| threads |" in printed
    assert ("GROWN: memory (MB), threads" if grows else "nothing has grown") in printed


def test_a_slope_needs_two_cycles(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        soak_cycles.main(["--cycles", "11"])
    assert "--cycles must be at least 12" in capsys.readouterr().err


@pytest.mark.slow
def test_nothing_grows_in_whole_cycles() -> None:
    """In a process of its own: what earlier tests left behind, threads say, gives memory back when it likes."""
    command = [sys.executable, soak_cycles.__file__, "--cycles", "12", "--warm-up", "5"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stdout + run.stderr[-2000:]
    assert "nothing has grown" in run.stdout
