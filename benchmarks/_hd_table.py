"""What Visium HD costs at full size, as a table of docs/scaling.md."""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
HD = RESULTS / "hd.md"


def hd() -> str:
    """A row for each step, with seconds and peak memory of each size that was run."""
    runs = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("hd-cost-*.json"))]
    sizes = [f"{run['bins']:,} bins" for run in runs]
    lines = [
        "| step | " + " | ".join(sizes) + " |",
        "|---|" + "---|" * len(runs),
    ]
    of_runs = [
        {row["step"]: f"{row['seconds']:,.0f} s, {row['peak_gb']:.1f} GB" for row in run["rows"]} for run in runs
    ]
    for step in max(of_runs, key=len):
        lines.append(f"| `{step}` | " + " | ".join(of_run.get(step, "not run") for of_run in of_runs) + " |")
    commands = ", ".join(f"`{run['command']}`" for run in runs)
    commits = " and ".join(dict.fromkeys(run["commit"] for run in runs))
    return "\n".join(lines) + f"\n\n{commands} at commit {commits}, on {runs[0]['machine']}.\n"
