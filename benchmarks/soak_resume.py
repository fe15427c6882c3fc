"""Kill trainings again and again, and see that each ends as one that was never touched, to the last bit.

    python benchmarks/soak_resume.py --kills 200 --seed 0

Every attempt is a process of its own that calls `bl.tl.fit(..., checkpoint_dir=...)` and gets SIGKILL or SIGTERM, at a
random time or while it writes a checkpoint; now and then the newest checkpoint is then damaged too, cut short or by one
bit. The same call is made until one comes through; its weights, history, embeddings and last checkpoints must be those
of a run without interruption. The exit code is 1 if any differ. Children are forked, so that they need not import
anything, and compute by one thread (Linux, macOS).
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from safetensors import safe_open

import bleep_sc as bl

CASES: dict[str, dict[str, Any]] = {
    "bleep, steps of two batches, stopped early": {
        "preset": "paper",
        "image_key": "X_features",
        "batch_size": 26,
        "accumulate": 2,
        "lr": 0.01,
        "max_epochs": 60,
        "patience": 8,
    },
    "bleep, the default recipe": {"image_key": "X_features", "members": 2, "hidden": 64, "max_epochs": 8},
    "stnet, a network with batch normalisation": {
        "method": "stnet",
        "encoder": "timm:test_resnet",
        "weights": None,
        "dropout": 0.2,
        "optimizer": "adam",
        "max_epochs": 6,
    },
    "histogene": {"method": "histogene", "dim": 64, "depth": 1, "lr": 1e-3, "max_epochs": 12},
    "regressor, SGD": {
        "method": "regressor",
        "image_key": "X_features",
        "hidden": 32,
        "dropout": 0.3,
        "optimizer": "sgd",
        "lr": 0.01,
        "max_epochs": 15,
    },
}


def spots(n: int = 96, n_genes: int = 30, size: int = 16) -> AnnData:
    """Of two sections; what can be learned of them does not matter here."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(n, 12)).astype(np.float32)
    expression = np.log1p(rng.poisson(np.exp(features @ rng.normal(0, 0.3, size=(12, n_genes)) + 1)))
    return AnnData(
        expression.astype(np.float32),
        obs=pd.DataFrame({"section": np.repeat(["a", "b"], n // 2)}, index=[f"spot{i}" for i in range(n)]),
        var=pd.DataFrame(index=[f"gene{i}" for i in range(n_genes)]),
        obsm={
            "X_features": features,
            "crops": rng.integers(256, size=(n, size, size, 3), dtype=np.uint8),
            "spatial": rng.uniform(0, 1000, size=(n, 2)),
        },
    )


def fork(job: Callable[[], None]) -> int:
    """Start a child that does this and nothing else."""
    child = os.fork()
    if child:
        return child
    try:
        job()
    except BaseException:  # noqa: BLE001 - a child never comes back into its parent's code
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def fit_and_write(case: str, folder: Path, out: Path) -> None:
    """Train, and write all that came of it."""
    adata = spots()
    bl.tl.fit(adata, library_key="section", checkpoint_dir=folder, **CASES[case])
    found = {name: values for name, values in adata.obsm.items() if name.startswith("X_bleep_")}
    entry = adata.uns["bleep"]
    np.savez(out, model=entry["model"], config=np.array(entry["config"]), **entry["history"], **found)


def result(folder: Path, out: Path) -> dict[str, bytes]:
    """What came of it, and the checksums of the newest checkpoints, which hold the optimiser and random states too."""
    with np.load(out) as arrays:
        found = {name: arrays[name].tobytes() for name in arrays.files}
    for path in newest(folder):
        with safe_open(path, "pt") as file:
            found[path.name] = file.metadata()["sha256"].encode()
    return found


def newest(folder: Path) -> list[Path]:
    """The last checkpoint of each training."""
    paths = sorted(folder.glob("*.safetensors"))
    return list({training_of(path): path for path in paths}.values())


def training_of(path: Path) -> str:
    """The name of a checkpoint without its epoch."""
    return path.stem.rpartition("-")[0]


class Killer:
    """Kills children in one of two ways, and counts."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.counts: Counter[str] = Counter()

    def attempt(self, child: int, folder: Path, *, patience: float) -> bool:
        """Kill a child within so many seconds, if it is still there; whether it came through."""
        deadline = time.perf_counter() + self.rng.uniform(0, 1) * patience
        # half of the time instead in one of its next writes, if it has that many to go
        write = int(self.rng.integers(1, 4)) if patience < np.inf and self.rng.random() < 0.5 else 0
        seen, writing = 0, False
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            time.sleep(1e-4)  # leaves the processor to the child
            before, writing = writing, any(folder.glob("*.part"))
            seen += writing and not before
            if seen == write if write else time.perf_counter() > deadline:
                number = signal.SIGTERM if self.rng.random() < 0.2 else signal.SIGKILL
                os.kill(child, number)
                ended = os.waitpid(child, 0)
                break
        if os.WIFSIGNALED(ended[1]):
            self.counts["kills"] += 1
            self.counts[f"by {signal.Signals(os.WTERMSIG(ended[1])).name}"] += 1
            self.counts["during a write"] += any(folder.glob("*.part"))
            return False
        if ended[1]:
            sys.exit("a resumed training failed: see above")
        return True

    def damage(self, folder: Path) -> None:
        """Spoil a newest checkpoint that has one before it."""
        trainings = Counter(training_of(path) for path in folder.glob("*.safetensors"))
        paths = [path for path in newest(folder) if trainings[training_of(path)] > 1]
        if not paths or self.rng.random() > 0.15:
            return
        path = paths[int(self.rng.integers(len(paths)))]
        content = bytearray(path.read_bytes())
        place = int(self.rng.integers(len(content)))
        if self.rng.random() < 0.5:
            content = content[:place]
        else:
            content[place] ^= 1 << int(self.rng.integers(8))
        path.write_bytes(content)
        self.counts["checkpoints damaged"] += 1


def soak(kills: int, seed: int, cases: list[str]) -> bool:
    """Kill so many times, over all cases in turn; whether every result was equal to the bit."""
    killer, equal, rounds = Killer(seed), True, 0
    share = -(-kills // len(cases))
    with tempfile.TemporaryDirectory() as home:
        expected, typical = {}, {}
        for case in cases:
            untouched = Path(home) / case
            for _ in range(2):  # the first one imports and compiles
                shutil.rmtree(untouched, ignore_errors=True)
                start = time.perf_counter()
                fit_and_write(case, untouched, untouched.with_suffix(".npz"))
                typical[case] = time.perf_counter() - start
            expected[case] = result(untouched, untouched.with_suffix(".npz"))
        while killer.counts["kills"] < kills:
            case = cases[rounds % len(cases)]
            folder = Path(home) / f"round {rounds}"
            out = folder.with_suffix(".npz")
            before = killer.counts["kills"]
            while True:
                enough = killer.counts["kills"] - before >= share
                child = fork(partial(fit_and_write, case, folder, out))
                if killer.attempt(child, folder, patience=np.inf if enough else typical[case]):
                    break
                killer.damage(folder)
            found = result(folder, out)
            wrong = [name for name in found | expected[case] if found.get(name) != expected[case].get(name)]
            equal &= not wrong
            rounds += 1
            told = f"NOT equal: {', '.join(wrong)}" if wrong else "equal to the bit"
            print(f"{case}: {killer.counts['kills'] - before} kills, then {told}", flush=True)
            shutil.rmtree(folder)
    told = ", ".join(f"{number} {name}" for name, number in killer.counts.items())
    print(f"{told}; {rounds} trainings; {'all equal to the bit' if equal else 'NOT all equal'}")
    return equal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="how many, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=list(CASES), help="these cases alone")
    arguments = parser.parse_args()
    bl.settings.verbosity, bl.settings.progress_bar, bl.settings.device = "error", False, "cpu"
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # damaged checkpoints, crops of unknown scale, nothing to learn
    sys.exit(0 if soak(arguments.kills, arguments.seed, arguments.only or list(CASES)) else 1)


if __name__ == "__main__":
    main()
