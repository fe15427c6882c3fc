"""The section "On a GPU" of BENCHMARKS.md, from benchmarks/results/gpu.json, or that there is none yet."""

import json
from pathlib import Path
from typing import Any

GPU = Path(__file__).parent / "results" / "gpu.json"
COMMAND = "python benchmarks/gpu.py --json benchmarks/results/gpu.json"
NONE_YET = (
    f"No figure was measured on a GPU yet. On a machine with one, `{COMMAND}` measures them in at most eight minutes."
)
ABOUT = """\
A ratio compares the two that took turns in one run: 0.9 of a bare loop is nine tenths of its rate, and 3 times the
product takes three times as long.
"""


def gpu(path: Path = GPU) -> str:
    """The section, with a table for each part that was run."""
    lines = ["## On a GPU", ""]
    if not path.exists():
        return "\n".join([*lines, NONE_YET, ""])
    record = json.loads(path.read_text())
    if record["dry_run"]:
        msg = f"{path} is of a dry run, whose figures mean nothing. Make it again by `{COMMAND}`."
        raise ValueError(msg)
    lines += [
        f"{record['gpu']} ({record['gpu_gb']:g} GB, driver {record['driver']}), PyTorch {record['torch']}, CUDA "
        f"{record['cuda']}; the machine: {record['machine']}. Made by `{record['command']}` (commit "
        f"{record['commit']}) in {record['seconds']:.0f} s.",
        "",
        ABOUT,
    ]
    for part in record["parts"].values():
        lines += _of_part(part)
    return "\n".join(lines)


def _of_part(part: dict[str, Any]) -> list[str]:
    lines = [f"### {part['title']}", ""]
    if part["state"] != "done":
        verb = "" if part["state"] == "failed" else "was "
        lines += [f"This part {verb}{part['state']}: {part['why'].splitlines()[0]}.", ""]
    if part["figures"]:
        lines += ["| what | measured | ratio | goal | |", "|---|---|---|---|---|"]
        lines += [_row(figure) for figure in part["figures"]]
        lines += ["", f"{part['seconds']:.0f} s; at most {part['peak_gpu_gb']:.1f} GB of GPU memory at once.", ""]
    return lines


def _row(figure: dict[str, Any]) -> str:
    ratio = "" if figure["ratio"] is None else f"{figure['ratio']:.2f} of {figure['against']}"
    measured = f"{_number(figure['value'])} {figure['unit']}"
    return f"| {figure['what']} | {measured} | {ratio} | {figure['goal']} | {figure['detail']} |"


def _number(value: float) -> str:
    """Three digits, whole where there are more before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == round(value) else f"{value:.3g}"
