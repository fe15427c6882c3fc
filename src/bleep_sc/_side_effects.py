"""What is of a whole process, changed for a while and put back: random numbers, and the threads of libraries.

Threads that work on one product wait for each other in loops that take a whole core each. Where other work, or a quota,
takes a part of the cores away, one thread waits for another that does not run, and small work takes many times as long.
So work keeps to the cores that this process may use, and to one where it is small.
"""

import os
import random
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from math import inf
from pathlib import Path
from threading import Lock, RLock, get_ident
from typing import Any, NamedTuple

from bleep_sc._logging import logger
from bleep_sc._settings import settings

_ONE_AT_A_TIME = RLock()
FEW_SPOTS = 5000
"""The most spots whose products, decompositions and searches are quicker on one thread, or hardly slower."""

_BY_SCHEDULERS = ("SLURM_CPUS_PER_TASK", "NSLOTS")
"""Variables by which Slurm and Grid Engine say how many cores a job asked for."""

_LOCK = Lock()
_said: set["Cores"] = set()


@contextmanager
def python_random_state_kept() -> Iterator[None]:
    """A ``with`` block for imports that draw from Python's global random state; it puts the state back."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


@contextmanager
def parallel_numba() -> Iterator[None]:
    """A ``with`` block that one thread enters at a time, and that leaves torch's number of threads as it was.

    Numba takes no more cores in it than this process may use.

    The first parallel loop of a process tells the OpenMP library how many threads to take from then on. Torch shares
    that library, and would no longer compute with as many as the user chose, nor the same last bits. Where numba has
    neither OpenMP nor TBB, two threads in its loops at once end the process.
    """
    with _ONE_AT_A_TIME:
        torch = sys.modules.get("torch")
        before = torch and torch.get_num_threads()
        try:
            with _numba_on_allowed_cores():
                yield
        finally:
            if torch and torch.get_num_threads() != before:
                torch.set_num_threads(before)


@contextmanager
def _numba_on_allowed_cores() -> Iterator[None]:
    import numba

    number, _, why = allowed()
    if not why or number >= vars(numba.config)["NUMBA_NUM_THREADS"]:
        yield
        return
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(min(number, before))
        yield
    finally:
        numba.set_num_threads(before)


class Cores(NamedTuple):
    """The cores that a process may use."""

    number: int
    of: int
    """The cores that libraries would take by themselves."""
    why: str
    """What makes the number lower than that."""


def allowed() -> Cores:
    """Find the cores that this process may use by affinity, quota, scheduler, ``OMP_NUM_THREADS`` and the settings."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    bounds = [(_number_in("OMP_NUM_THREADS"), "the variable OMP_NUM_THREADS says so")]
    bounds += [(_number_in(name), "the scheduler allows this job so many") for name in _BY_SCHEDULERS]
    bounds.append((quota(), "a quota gives this process no more of their time"))
    bounds.append((settings.threads or inf, "`bleep_sc.settings.threads` says so"))
    number, why = min(bounds, key=lambda bound: bound[0])
    return Cores(max(1, int(number)), own, why) if number < own else Cores(own, own, "")


@contextmanager
def on_allowed_cores() -> Iterator[None]:
    """A ``with`` block, or a decorator, that keeps torch and BLAS to the cores that this process may use."""
    cores = allowed()
    if not cores.why:  # affinity the libraries heed by themselves, and who set more of their threads had a reason
        yield
        return
    with at_most(cores.number) as lowered:
        if lowered and cores not in _said:
            _said.add(cores)
            logger.info("Computing on %d of %d cores: %s.", *cores)
        yield


@contextmanager
def at_most(number: int) -> Iterator[bool]:
    """A ``with`` block in which neither torch nor BLAS takes more threads; gives whether one of them would have.

    Numbers come back as they were, also where other threads of Python are in such blocks at the same time.
    """
    with _torch_at_most(number) as in_torch, _blas_at_most(number) as in_blas:
        yield in_torch or in_blas


@contextmanager
def one_thread() -> Iterator[None]:
    """A ``with`` block, or a decorator, that computes on one thread: for steps that take milliseconds."""
    with at_most(1):
        yield


def threads_for(n_spots: int) -> AbstractContextManager[None]:
    """Compute on one thread for the length of a ``with`` block where there are few spots."""
    return one_thread() if n_spots <= FEW_SPOTS else nullcontext()


class _Block(NamedTuple):
    """A block in which torch is kept to some threads."""

    thread: int
    """The thread of Python that is in it."""
    kept_to: int
    before: int


_open_in_torch: list[_Block] = []


@contextmanager
def _torch_at_most(number: int) -> Iterator[bool]:
    """Torch has a number for each thread of Python; it gives a new thread the one that was set last."""
    torch = sys.modules.get("torch")
    with _LOCK:
        before = 0 if torch is None else _own_number(torch)
    if torch is None or before <= number:
        yield False
        return
    block = _Block(get_ident(), number, before)
    try:
        with _LOCK:
            _open_in_torch.append(block)
            torch.set_num_threads(number)
        yield True
    finally:
        with _LOCK:
            torch.set_num_threads(before)
            if block in _open_in_torch:
                _open_in_torch.remove(block)


def _own_number(torch: Any) -> int:
    """Find this thread's number; one that began while another was in a block has that block's, which is not its own."""
    found, others = torch.get_num_threads(), [block for block in _open_in_torch if block.thread != get_ident()]
    if len(others) < len(_open_in_torch):
        return int(found)
    return max([found, *(block.before for block in others if block.kept_to == found)])


_in_blas: list[int] = []
"""The thread of Python that is in blocks that set BLAS's number, once for each block."""


@contextmanager
def _blas_at_most(number: int) -> Iterator[bool]:
    """BLAS has one number for all threads of Python: one at a time sets it, and others compute with what it is."""
    thread = get_ident()
    with _LOCK:
        free = all(other == thread for other in _in_blas)
        if free:
            _in_blas.append(thread)
    if not free:
        yield False
        return
    try:
        fewest, most = _extremes(_blas())
        if most <= number:
            yield False
        else:
            with _blas().limit(limits=min(number, fewest)):
                yield True
    finally:
        with _LOCK:
            _in_blas.remove(thread)


def _extremes(libraries: Any) -> tuple[int, int]:
    numbers = [library.num_threads for library in libraries.lib_controllers] or [1]
    return min(numbers), max(numbers)


@cache
def _blas() -> Any:
    """Find the BLAS libraries of NumPy and SciPy in this process."""
    import scipy.linalg  # noqa: F401 - loads the one of SciPy, which would go unseen
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def _number_in(variable: str) -> float:
    """Read the number that a variable holds, or the first of a list; infinite where there is none."""
    with suppress(ValueError):
        number = int(os.environ.get(variable, "").partition(",")[0])
        return number if number > 0 else inf
    return inf


def quota(root: Path = Path("/")) -> float:
    """Read how many cores' time the control groups of this process allow; infinite where they set no limit.

    joblib's `cpu_count` reads the topmost group alone, and so misses the limit of a service or job; it also rounds up.
    """
    least = inf
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            mounted = root / "sys/fs/cgroup"
            if controllers and "cpu" not in controllers.split(","):
                continue
            folder = mounted / controllers / path.lstrip("/")
            # in a container the path may be that outside, which is not to be found within
            for group in (folder, *folder.parents):
                least = min(least, _quota_of(group))
                if group == mounted / controllers:
                    break
    return least


def _quota_of(group: Path) -> float:
    """Read the quota of one group, of the second version of control groups or of the first."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        time, period = (group / "cpu.max").read_text().split()
        return inf if time == "max" else int(time) / int(period)
    with suppress(OSError, ValueError, ZeroDivisionError):
        time, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(time) / int(period) if int(time) > 0 else inf
    return inf
