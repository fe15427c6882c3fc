"""Libraries keep to the cores that a process may use, and get their threads back, however blocks end and overlap."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from math import inf
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from conftest import make_sections
from threadpoolctl import threadpool_limits

import bleep_sc as bl
from bleep_sc import _side_effects
from bleep_sc._side_effects import allowed, at_most, on_allowed_cores, one_thread, quota, threads_for

Write = Callable[[dict[str, str]], Path]


@pytest.fixture
def machine(tmp_path: Path) -> Write:
    """Lays files of control groups, by their paths from the root of a machine."""

    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


OWN, TOP = "proc/self/cgroup", "sys/fs/cgroup"
GROUPS: dict[str, tuple[dict[str, str], float]] = {
    "no Linux": ({}, inf),
    "a container": ({OWN: "0::/\n", f"{TOP}/cpu.max": "150000 100000\n"}, 1.5),
    "no limit": ({OWN: "0::/\n", f"{TOP}/cpu.max": "max 100000\n"}, inf),
    "its own group": ({OWN: "0::/slurm/job7\n", f"{TOP}/slurm/job7/cpu.max": "400000 100000\n"}, 4),
    "a group around it": (
        {
            OWN: "0::/user.slice/of/me\n",
            f"{TOP}/user.slice/of/me/cpu.max": "max 100000\n",
            f"{TOP}/user.slice/cpu.max": "200000 100000\n",
        },
        2,
    ),
    "the least of them": (
        {
            OWN: "0::/a/b\n",
            f"{TOP}/cpu.max": "900000 100000\n",
            f"{TOP}/a/cpu.max": "300000 100000\n",
            f"{TOP}/a/b/cpu.max": "800000 100000\n",
        },
        3,
    ),
    "another's group": ({OWN: "0::/mine\n", f"{TOP}/theirs/cpu.max": "100000 100000\n"}, inf),
    "named as outside the container": ({OWN: "0::/docker/0af\n", f"{TOP}/cpu.max": "50000 100000\n"}, 0.5),
    "above the container": ({OWN: "0::/../../x\n", f"{TOP}/cpu.max": "250000 100000\n"}, 2.5),
    "the first version": (
        {
            OWN: "5:memory:/m\n3:cpu,cpuacct:/a\n0::/\n",
            f"{TOP}/cpu,cpuacct/a/cpu.cfs_quota_us": "600000\n",
            f"{TOP}/cpu,cpuacct/a/cpu.cfs_period_us": "200000\n",
        },
        3,
    ),
    "the first version without limit": (
        {OWN: "3:cpu:/\n", f"{TOP}/cpu/cpu.cfs_quota_us": "-1\n", f"{TOP}/cpu/cpu.cfs_period_us": "100000\n"},
        inf,
    ),
    "damaged": ({OWN: "0::/\n", f"{TOP}/cpu.max": "soon\n"}, inf),
    "a period of none": ({OWN: "0::/\n", f"{TOP}/cpu.max": "100000 0\n"}, inf),
    "a damaged list": ({OWN: "0\n", f"{TOP}/cpu.max": "100000 100000\n"}, inf),
}


@pytest.mark.parametrize("name", GROUPS)
def test_the_quota_of_control_groups(name: str, machine: Write) -> None:
    files, cores = GROUPS[name]
    assert quota(machine(files)) == cores


@pytest.fixture
def of_64(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine of 64 cores that nobody limits."""
    monkeypatch.setattr(_side_effects, "_said", set())
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(_side_effects, "quota", lambda: inf)
    for name in ("SLURM_CPUS_PER_TASK", "NSLOTS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("variables", "cores", "setting", "number", "why"),
    [
        ({}, inf, None, 64, ""),
        ({}, 1.5, None, 1, "quota"),
        ({}, 0.4, None, 1, "quota"),
        ({}, 100.0, None, 64, ""),
        ({"SLURM_CPUS_PER_TASK": "2"}, 3.0, None, 2, "the scheduler allows this job so many"),
        ({"NSLOTS": "8"}, inf, None, 8, "scheduler"),
        ({"NSLOTS": "80"}, inf, None, 64, ""),
        ({"OMP_NUM_THREADS": "6,2"}, inf, 12, 6, "OMP_NUM_THREADS"),
        ({"SLURM_CPUS_PER_TASK": "many", "OMP_NUM_THREADS": "", "NSLOTS": "0"}, inf, None, 64, ""),
        ({"SLURM_CPUS_PER_TASK": "8"}, inf, 3, 3, "settings.threads"),
        ({"SLURM_CPUS_PER_TASK": "8"}, inf, 30, 8, "scheduler"),
        ({}, inf, 100, 64, ""),
    ],
)
def test_the_least_bound_counts(
    variables: dict[str, str], cores: float, setting: int | None, number: int, why: str, of_64: pytest.MonkeyPatch
) -> None:
    of_64.setattr(_side_effects, "quota", lambda: cores)
    for name, value in variables.items():
        of_64.setenv(name, value)
    with bl.settings.override(threads=setting):
        found = allowed()
    assert (found.number, found.of) == (number, 64)
    assert why in found.why if why else not found.why


def test_without_affinity_all_cores_count(of_64: pytest.MonkeyPatch) -> None:
    """As on macOS and Windows."""
    of_64.delattr(os, "sched_getaffinity", raising=False)
    of_64.setattr(os, "cpu_count", lambda: 12)
    assert allowed() == (12, 12, "")


def numbers() -> tuple[int, set[int]]:
    return torch.get_num_threads(), {library.num_threads for library in _side_effects._blas().lib_controllers}


@pytest.fixture
def of_three() -> Iterator[None]:
    """Torch and BLAS with three threads each."""
    torch.set_num_threads(3)
    with threadpool_limits(3, user_api="blas"):
        assert numbers() == (3, {3})
        yield
        assert numbers() == (3, {3})


def test_numbers_come_back_from_blocks_within_blocks(of_three: None) -> None:
    with at_most(2) as lowered:
        assert lowered
        assert numbers() == (2, {2})
        with pytest.raises(RuntimeError, match="within"), one_thread():
            assert numbers() == (1, {1})
            raise RuntimeError("within")
        assert numbers() == (2, {2})
        with at_most(3) as lowered:
            assert not lowered
            assert numbers() == (2, {2}), "a block never raises a number"
    assert numbers() == (3, {3})


def test_blocks_of_threads_that_overlap(of_three: None) -> None:
    """The one that came first goes first; neither loses its number, and a third begins with what the user chose."""
    inside, leave = Event(), Event()

    def late() -> tuple[Any, int]:
        with one_thread():
            inside.set()
            assert leave.wait(30)
            kept = numbers()
        return kept, torch.get_num_threads()

    with ThreadPoolExecutor(1) as pool:
        try:
            with at_most(2):
                task = pool.submit(late)
                assert inside.wait(30)
                assert numbers() == (2, {2}), "BLAS has one number for all, which the first sets"
            assert numbers() == (3, {3})
        finally:
            leave.set()
        kept, after = task.result(30)
    assert kept == (1, {3})
    assert after == 3, "not that of the other's block, in which it began"
    assert numbers() == (3, {3})
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result(30) == 3


def test_few_spots_take_one_thread(of_three: None) -> None:
    with threads_for(_side_effects.FEW_SPOTS):
        assert numbers() == (1, {1})
    with threads_for(_side_effects.FEW_SPOTS + 1):
        assert numbers() == (3, {3})


def test_the_log_says_once_what_lowers_the_number(
    of_64: pytest.MonkeyPatch, of_three: None, log: pytest.LogCaptureFixture
) -> None:
    with on_allowed_cores():
        assert numbers() == (3, {3})
    assert not log.messages, "nothing is lowered"
    of_64.setenv("SLURM_CPUS_PER_TASK", "2")
    for _ in range(2):
        with on_allowed_cores():
            assert numbers() == (2, {2})
    assert log.messages == ["Computing on 2 of 64 cores: the scheduler allows this job so many."]
    with bl.settings.override(threads=1), on_allowed_cores():
        assert numbers() == (1, {1})
    assert log.messages[1:] == ["Computing on 1 of 64 cores: `bleep_sc.settings.threads` says so."]


def test_fit_computes_on_what_the_setting_says(
    of_64: pytest.MonkeyPatch, of_three: None, log: pytest.LogCaptureFixture
) -> None:
    from bleep_sc.methods.hybrid import choose
    from bleep_sc.tl import _training

    seen = []

    def noting(function: Any) -> Any:
        return lambda *args, **kwargs: seen.append(numbers()) or function(*args, **kwargs)

    of_64.setattr(_training, "section_of_spots", noting(_training.section_of_spots))
    of_64.setattr(choose, "_learn_from_all", noting(choose._learn_from_all))
    adata = make_sections()
    with bl.settings.override(threads=2):
        bl.tl.fit(adata, max_epochs=1)
    assert seen == [(2, {2}), (1, {1})], "few spots take one thread"
    assert numbers() == (3, {3})
    assert sum("settings.threads" in message for message in log.messages) == 1


@pytest.mark.parametrize("name", bl.tl.__all__)
def test_all_that_computes_keeps_to_them(name: str, of_64: pytest.MonkeyPatch, of_three: None) -> None:
    """Also where the call is refused: numbers come back."""
    function, seen = getattr(bl.tl, name), []
    of_64.setattr(_side_effects, "allowed", lambda: seen.append(name) or _side_effects.Cores(2, 64, "the test says so"))
    with pytest.raises(TypeError):
        function(no_such_argument=1)
    assert seen
    assert numbers() == (3, {3})


@pytest.mark.odd
def test_a_slide_is_read_by_as_many(of_64: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from contextlib import nullcontext

    from bleep_sc.pp._images import by_openslide

    asked: list[int] = []
    of_64.setattr(by_openslide, "opened", lambda _: nullcontext())
    of_64.setattr(by_openslide, "done_ahead", lambda jobs, *, threads, most: asked.append(threads) or iter(()))
    image = by_openslide.OpenSlideImage(tmp_path / "a.mrxs", 0, (512, 512), (256, 256), 1.0)
    assert list(image.read_tiles([])) == []
    with bl.settings.override(threads=3):
        assert list(image.read_tiles([])) == []
    assert asked == [8, 3]


FIRST_CALL = """
import os
import sys

os.sched_getaffinity = lambda _: set(range(64))
import numpy as np
from anndata import AnnData
import bleep_sc as bl
from bleep_sc._side_effects import parallel_numba

def encoder(crops):
    import torch
    seen.append(torch.get_num_threads())
    return crops.mean(dim=(2, 3))

seen = []
crops = np.random.default_rng(0).integers(0, 255, (60, 8, 8, 3), dtype=np.uint8)
adata = AnnData(np.ones((60, 3), dtype=np.float32), obsm={"crops": crops})
assert "torch" not in sys.modules
bl.tl.encode(adata, encoder=encoder, key_added="X_own", progress_bar=False)
import numba, torch
assert set(seen) == {1}, seen
torch.set_num_threads(3)
with parallel_numba():
    assert numba.get_num_threads() == 1
assert numba.get_num_threads() == 4
assert torch.get_num_threads() == 3
"""


@pytest.mark.slow
def test_the_first_call_of_a_script(tmp_path: Path) -> None:
    """Torch and numba are not there yet when it begins."""
    of_four = {f"{library}_NUM_THREADS": "4" for library in ("OMP", "NUMBA", "MKL")}
    # torch takes MKL's number, which is that of the machine's cores where it is lower: nothing to lower where it is one
    environment = os.environ | of_four | {"MKL_DYNAMIC": "FALSE", "SLURM_CPUS_PER_TASK": "1"}
    command = [sys.executable, "-W", "ignore", "-c", FIRST_CALL]
    done = subprocess.run(command, cwd=tmp_path, env=environment, timeout=300, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Computing on 1 of 64 cores: the scheduler allows this job so many." in done.stderr
