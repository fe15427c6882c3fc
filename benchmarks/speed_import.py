"""What `import bleep_sc` costs beyond `import anndata`, each in a new process.

python benchmarks/speed_import.py
"""

import statistics
import subprocess
import sys

from _timing import Row, arguments_of, report


def main() -> None:
    arguments = arguments_of(__doc__, rounds=9)
    script = (
        "import time\na = time.perf_counter()\nimport anndata\nb = time.perf_counter()\nimport bleep_sc\n"
        "print(b - a, time.perf_counter() - b)"
    )
    runs = [split(script) for _ in range(arguments.rounds)]
    anndata, ours = (statistics.median(run[i] for run in runs) for i in (0, 1))
    report(
        [Row("`import bleep_sc`", "`import anndata`", (anndata + ours) / anndata, "+ ≤ 0.2 s", f"+ {ours:.2f} s")],
        arguments.json,
    )


def split(script: str) -> list[float]:
    """The numbers that a script prints in a process of its own."""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)  # noqa: S603
    return [float(part) for part in run.stdout.split()]


if __name__ == "__main__":
    main()
