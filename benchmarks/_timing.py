"""Timings side by side: what is compared takes turns in one process, and only ratios within a round are trusted."""

import argparse
import ctypes
import gc
import json
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from _sections import commit


@dataclass(frozen=True)
class Row:
    """One line of a table of figures."""

    what: str
    against: str
    ratio: float
    """Of the medians of what is measured to what it is measured against."""
    goal: str
    detail: str = ""


def timed(function: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def take_turns(rounds: int, **functions: Callable[[], object]) -> dict[str, list[float]]:
    """Seconds of each function in each round; all run once before, so that nothing measured warms up."""
    for function in functions.values():
        function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds):
        # every other round in the opposite order: a machine that slows down favours none
        for name in list(functions)[:: 1 if number % 2 == 0 else -1]:
            start = time.perf_counter()
            functions[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: dict[str, list[float]], one: str, other: str) -> float:
    """Median over the rounds of the one's seconds by the other's of the same round."""
    return statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True))


def peak_growth(function: Callable[[], object]) -> float:
    """MB by which the process's resident memory grew at most while the function ran (Linux)."""
    before = resident()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins again
    function()
    return _megabytes("VmHWM") - before


def resident() -> float:
    """MB that the process holds in memory, after all that is free has been given back (Linux)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before is no part of the process, or it would be used unseen
    return _megabytes("VmRSS")


def _megabytes(field: str) -> float:
    status = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in status if line.startswith(field))
    return int(line.split()[1]) / 1024


def machine() -> str:
    """What the figures were taken on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{model}, {torch.get_num_threads()} threads{gpu}, torch {torch.__version__}"


def arguments_of(description: str | None, **defaults: int) -> argparse.Namespace:
    """Command line of a benchmark: its sizes, and where to write the figures."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value, help=f"{value} by default")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser.parse_args()


def report(rows: Iterable[Row], json_file: Path | None) -> None:
    """Print a table, and write it."""
    rows = list(rows)
    print(f"\n{machine()}, commit {commit()}\n")
    print("| what | measured against | ratio | goal | |\n|---|---|---|---|---|")
    for row in rows:
        print(f"| {row.what} | {row.against} | {row.ratio:.2f} | {row.goal} | {row.detail} |")
    if json_file is not None:
        arguments = [part for part in sys.argv[1:] if part not in ("--json", str(json_file))]
        record = {
            "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *arguments]),
            "commit": commit(),
            "machine": machine(),
            "rows": [asdict(row) for row in rows],
        }
        json_file.write_text(json.dumps(record, indent=1) + "\n")
