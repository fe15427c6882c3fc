"""How the parts of `gpu.py` are run: one after another within a budget, each guarded, what there is kept at once."""

import gc
import math
import platform
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from types import FrameType
from typing import Any

import torch
from _gpu_sizes import Sizes
from _timing import machine

from bleep_sc.models.device import Compute


@dataclass(frozen=True)
class Figure:
    """One measurement, which must be a number."""

    what: str
    value: float
    unit: str
    against: str = ""
    """What it was measured beside."""
    ratio: float | None = None
    """To what it was measured beside, as `goal` has it."""
    goal: str = ""
    detail: str = ""

    def __post_init__(self) -> None:
        for number in (self.value, self.ratio):
            if number is not None and not math.isfinite(number):
                msg = f"{self.what}: {number} is no measurement."
                raise ValueError(msg)


@dataclass(frozen=True)
class Run:
    """What a part needs to know of the run."""

    sizes: Sizes
    compute: Compute
    ends: float
    """Time of `time.perf_counter` at which the part is cut off."""

    @property
    def device(self) -> torch.device:
        """Where it is measured."""
        return self.compute.device

    @property
    def left(self) -> float:
        """Seconds that are left to the part."""
        return self.ends - time.perf_counter()

    def wait(self) -> None:
        """Let the device finish what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


@dataclass(frozen=True)
class Part:
    """One group of figures."""

    name: str
    title: str
    measure: Callable[[Run], Iterator[Figure]]
    needs: float
    """Seconds without which it is not begun."""
    at_most: float
    """Seconds after which it is cut off; what it has measured until then stays."""


class Absent(Exception):
    """What a part reads is not on this machine."""


class CutOffError(Exception):
    """The time of a part is over."""


@dataclass
class Outcome:
    """What became of a part."""

    title: str
    state: str = "not run"
    """Also "done", "failed", "cut off" or, where data are missing, "skipped"."""
    why: str = "the run ended before"
    seconds: float = 0.0
    peak_gpu_gb: float = 0.0
    """Most that PyTorch had allocated on the GPU at once, 10^9 bytes."""
    figures: list[Figure] = field(default_factory=list)


def run_parts(
    parts: Sequence[Part],
    sizes: Sizes,
    compute: Compute,
    *,
    budget: float,
    keep: Callable[[dict[str, Any]], None],
) -> dict[str, Outcome]:
    """Run parts in order; `keep` gets all outcomes after each figure."""
    ends = time.perf_counter() + budget
    outcomes = {part.name: Outcome(part.title) for part in parts}

    def kept() -> None:
        keep({name: asdict(outcome) for name, outcome in outcomes.items()})

    kept()
    for part in parts:
        outcome, left = outcomes[part.name], ends - time.perf_counter()
        if left < part.needs:
            outcome.why = f"{max(left, 0):.0f} s of the budget were left, and it needs {part.needs:.0f}"
        else:
            run = Run(sizes, compute, time.perf_counter() + min(left, part.at_most))
            _run_part(part, run, outcome, kept)
        print(f"{part.name}: {outcome.state}, {outcome.seconds:.0f} s {outcome.why}", flush=True)
        kept()
    return outcomes


def _run_part(part: Part, run: Run, outcome: Outcome, kept: Callable[[], None]) -> None:
    on_gpu = run.device.type == "cuda"
    gc.collect()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    try:
        with _cut_off_after(run.left):
            for figure in part.measure(run):
                outcome.figures.append(figure)
                kept()
        outcome.state, outcome.why = "done", ""
    except Absent as err:
        outcome.state, outcome.why = "skipped", str(err)
    except CutOffError:
        outcome.state, outcome.why = "cut off", f"its {run.ends - start:.0f} s were over"
    except Exception as err:  # noqa: BLE001 - the next part goes on, and the exit code tells
        outcome.state, outcome.why = "failed", f"{type(err).__name__}: {err}"
    outcome.seconds = time.perf_counter() - start
    if on_gpu:
        outcome.peak_gpu_gb = torch.cuda.max_memory_allocated() / 1e9


@contextmanager
def _cut_off_after(seconds: float) -> Iterator[None]:
    """Raise in the main thread once the time is over; a call of compiled code ends first."""

    def over(number: int, frame: FrameType | None) -> None:
        raise CutOffError

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def of_machine(device: torch.device) -> dict[str, Any]:
    """What the figures were taken on."""
    facts = {"machine": machine(), "python": platform.python_version(), "torch": torch.__version__}
    if device.type != "cuda":
        return facts
    properties = torch.cuda.get_device_properties(device)
    return facts | {
        "gpu": properties.name,
        "gpu_gb": round(properties.total_memory / 1e9, 1),
        "driver": _driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout  # noqa: S603  # nosec B607 - wherever it is
    except (OSError, subprocess.SubprocessError):
        return "not known"
    return found.splitlines()[0].strip() if found.strip() else "not known"
