"""The script that measures on a GPU: its runner, a dry run of each part on a CPU, and its table."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from _gpu_run import Absent, Figure, Outcome, Part, Run, run_parts
from _gpu_sizes import TINY
from _gpu_table import NONE_YET, gpu

from bleep_sc.models.device import resolve_compute

ROOT = Path(__file__).parents[2]


def run(*parts: Part, budget: float = 60) -> tuple[dict[str, Outcome], list[dict[str, Any]]]:
    kept: list[dict[str, Any]] = []

    def keep(record: dict[str, Any]) -> None:
        kept.append(json.loads(json.dumps(record)))

    return run_parts(parts, TINY, resolve_compute(device="cpu"), budget=budget, keep=keep), kept


def good(run: Run) -> Iterator[Figure]:
    yield Figure("one", 1.0, "s")
    yield Figure("two", 2.0, "s", "one", 2.0)


def broken(run: Run) -> Iterator[Figure]:
    yield Figure("before it breaks", 1.0, "s")
    msg = "no kernel image"
    raise RuntimeError(msg)


def endless(run: Run) -> Iterator[Figure]:
    yield Figure("before it hangs", 1.0, "s")
    while True:
        time.sleep(0.01)


def without_data(run: Run) -> Iterator[Figure]:
    msg = "no real sections"
    raise Absent(msg)
    yield


def test_a_part_that_fails_or_hangs_leaves_what_it_had_and_the_next_goes_on() -> None:
    outcomes, kept = run(
        Part("broken", "Broken", broken, needs=1, at_most=10),
        Part("endless", "Endless", endless, needs=1, at_most=0.2),
        Part("absent", "Absent", without_data, needs=1, at_most=10),
        Part("large", "Large", good, needs=1000, at_most=2000),
        Part("good", "Good", good, needs=1, at_most=10),
    )
    assert {name: outcome.state for name, outcome in outcomes.items()} == {
        "broken": "failed",
        "endless": "cut off",
        "absent": "skipped",
        "large": "not run",
        "good": "done",
    }
    assert outcomes["broken"].why == "RuntimeError: no kernel image"
    assert outcomes["absent"].why == "no real sections"
    assert "it needs 1000" in outcomes["large"].why
    assert [len(outcome.figures) for outcome in outcomes.values()] == [1, 1, 0, 0, 2]
    assert 0.2 <= outcomes["endless"].seconds < 5
    # after each figure and each part, so that a run that is killed leaves what it had
    assert [sum(len(part["figures"]) for part in record.values()) for record in kept] == [0, 1, 1, 2, 2, 2, 2, 3, 4, 4]
    assert kept[0]["good"]["state"] == "not run"


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_number_is_no_figure(number: float) -> None:
    with pytest.raises(ValueError, match="is no measurement"):
        Figure("speed", number, "s")
    with pytest.raises(ValueError, match="speed"):
        Figure("speed", 1.0, "s", "another", number)


def script(folder: Path, *arguments: str, data: Path | None = None) -> tuple[int, dict[str, Any]]:
    """Run the script as a user does."""
    path = folder / "gpu.json"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "BLEEP_SC_DATA": str(data or folder)}
    source = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--dry-run", "--json", str(path), *arguments],
        env=environment | {"PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(path.read_text())


def whats(record: dict[str, Any], part: str) -> list[str]:
    return [figure["what"] for figure in record["parts"][part]["figures"]]


@pytest.mark.slow
def test_a_dry_run_measures_each_part(tmp_path: Path) -> None:
    code, record = script(tmp_path)
    states = {name: part["state"] for name, part in record["parts"].items()}
    reasons = {name: part["why"] for name, part in record["parts"].items() if part["why"]}
    assert [states.pop(name) for name in ("her2st", "lite0")] == [
        "skipped"
    ] * 2  # no sections in the folder that was named
    assert set(states) == {"tests", "rates", "fit", "encode", "impute", "recipe"}
    assert set(states.values()) == {"done"}, reasons
    assert code == 0
    assert record["dry_run"] is True
    assert record["commit"]
    assert record["command"] == "python benchmarks/gpu.py --dry-run"
    assert {"machine", "torch", "python", "budget_s", "seconds"} <= record.keys()
    outcomes = {figure["what"][-7:]: figure["value"] for figure in record["parts"]["tests"]["figures"]}
    assert outcomes[" failed"] == 0
    assert outcomes["skipped"] > 0
    assert [name.rpartition(", ")[2] for name in whats(record, "rates")][-3:] == ["fp32", "tf32", "bf16"]
    assert [name.rpartition(", ")[2] for name in whats(record, "fit")] == ["32-true", "bf16-mixed"]
    assert [name.split(",")[0] for name in whats(record, "encode")][:2] == ["`tl.embed`", "`tl.encode`"]
    assert len(whats(record, "impute")) == 4
    assert len(whats(record, "recipe")) == 2
    compared = [figure for part in ("fit", "encode", "impute") for figure in record["parts"][part]["figures"]]
    assert all(figure["ratio"] > 0 and figure["against"] for figure in compared)
    assert all(figure["value"] > 0 for figure in compared)


@pytest.mark.slow
def test_a_dry_run_reads_real_sections(tmp_path: Path, real_data: Path) -> None:
    code, record = script(tmp_path, "--only", "her2st", data=real_data)
    part = record["parts"]["her2st"]
    assert (code, part["state"]) == (0, "done"), part["why"]
    figures = part["figures"]
    assert [figure["unit"] for figure in figures] == ["s", "Pearson", "Pearson", "Pearson"]
    assert "weights" in figures[0]["detail"]
    assert all(-1 <= figure["value"] <= 1 for figure in figures[1:])


@pytest.mark.slow
def test_a_part_that_fails_shows_in_the_exit_code(tmp_path: Path) -> None:
    (tmp_path / "her2st").mkdir()
    (tmp_path / "her2st" / "C2.h5ad").write_text("no AnnData")
    code, record = script(tmp_path, "--only", "her2st", "rates")
    assert code == 1
    assert record["parts"]["her2st"]["state"] == "failed"
    assert record["parts"]["rates"]["state"] == "done"
    assert set(record["parts"]) == {"her2st", "rates"}


def made_up(path: Path, **changed: Any) -> Path:
    """A record of invented figures, for the table alone."""
    figures = [
        Figure("invented training", 1234.5, "crops/s", "a bare loop", 0.914, ">= 0.90", "invented"),
        Figure("invented copy", 0.1234, "GB/s"),
    ]
    part = {"title": "Invented", "state": "done", "why": "", "seconds": 12.3, "peak_gpu_gb": 4.56}
    record = {
        "command": "python benchmarks/gpu.py",
        "commit": "abc1234",
        "dry_run": False,
        "seconds": 321.0,
        "machine": "an invented CPU",
        "gpu": "Invented GPU",
        "gpu_gb": 80.0,
        "driver": "1.2",
        "torch": "9.9",
        "cuda": "99",
        "parts": {
            "fit": part | {"figures": [vars(figure) for figure in figures]},
            "impute": part | {"title": "Other", "state": "failed", "why": "RuntimeError: broken\nmore", "figures": []},
            "recipe": part | {"title": "Last", "state": "not run", "why": "3 s were left", "figures": []},
        },
        **changed,
    }
    path.write_text(json.dumps(record))
    return path


def test_the_table_says_what_the_record_says(tmp_path: Path) -> None:
    text = gpu(made_up(tmp_path / "gpu.json"))
    assert "Invented GPU (80 GB, driver 1.2), PyTorch 9.9, CUDA 99" in text
    assert "`python benchmarks/gpu.py` (commit abc1234) in 321 s" in text
    assert "| invented training | 1,234 crops/s | 0.91 of a bare loop | >= 0.90 | invented |" in text
    assert "| invented copy | 0.123 GB/s |  |  |  |" in text
    assert "12 s; at most 4.6 GB of GPU memory at once." in text
    assert "This part failed: RuntimeError: broken." in text
    assert "This part was not run: 3 s were left." in text


def test_a_dry_run_makes_no_table(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dry run, whose figures mean nothing"):
        gpu(made_up(tmp_path / "gpu.json", dry_run=True))


def test_without_a_record_the_page_says_so(tmp_path: Path) -> None:
    text = gpu(tmp_path / "gpu.json")
    assert text == f"## On a GPU\n\n{NONE_YET}\n"
    assert "python benchmarks/gpu.py --json benchmarks/results/gpu.json" in text
