"""How much longer `fit` takes on a machine that others use too, such as a shared node of a cluster.

    python benchmarks/speed_shared.py --json speed_shared.json

`tl.fit` (default recipe, features ready) takes turns: by itself, beside processes that keep every core busy, and beside
another process that does nothing but fit such models. With a fair share of the cores, one thread beside a busy process
on each of them takes twice as long, and beside another training of one thread as long as alone. Run it on an idle
machine; with the defaults it takes some minutes. It ends the processes that it starts.
"""

import statistics
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
from _timing import Row, arguments_of, ratio, report, timed
from anndata import AnnData

import bleep_sc as bl
from bleep_sc._side_effects import allowed

BUSY = "print('ready', flush=True)\nwhile True: pass"


def tissue(n: int, n_features: int, n_genes: int) -> AnnData:
    """Three sections whose features and counts follow the same eight fields, with noise of their own."""
    rng = np.random.default_rng(0)
    fields = rng.standard_normal((n, 8))
    features = fields @ rng.standard_normal((8, n_features)) + rng.standard_normal((n, n_features))
    counts = rng.poisson(np.exp(0.2 * fields @ rng.standard_normal((8, n_genes)))).astype(np.float32)
    adata = AnnData(
        np.log1p(counts / counts.sum(axis=1, keepdims=True) * n_genes),
        obs=pd.DataFrame({"section": [f"section{3 * i // n}" for i in range(n)]}, index=[f"spot{i}" for i in range(n)]),
        obsm={"X_features": features.astype(np.float32), "spatial": rng.uniform(0, 2000, size=(n, 2))},
        layers={"counts": counts},
    )
    adata.obs["section"] = adata.obs["section"].astype("category")
    return adata


@contextmanager
def beside(*commands: list[str]) -> Iterator[None]:
    """Let processes run that each say a line when they are at work, and end them."""
    started: list[subprocess.Popen[str]] = []
    try:
        started += [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]  # noqa: S603
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield
        assert all(process.poll() is None for process in started), "a process that was to keep the machine busy ended"
    finally:
        for process in started:
            process.kill()
            process.wait()


def main() -> None:
    arguments = arguments_of(__doc__, spots=900, features=190, genes=500, epochs=50, rounds=3, forever=0)
    adata = tissue(arguments.spots, arguments.features, arguments.genes)

    def fit() -> None:
        bl.tl.fit(
            adata,
            image_key="X_features",
            library_key="section",
            max_epochs=arguments.epochs,
            progress_bar=False,
        )

    fit()  # compiles, and imports
    if arguments.forever:
        print("ready", flush=True)
        while True:
            fit()
    cores = allowed().number
    busy = [[sys.executable, "-c", BUSY]] * cores
    another = [[sys.executable, *sys.argv, "--forever", "1"]]
    seconds: dict[str, list[float]] = {"idle": [], "busy": [], "another": []}
    for _ in range(arguments.rounds):
        for name, commands in (("idle", []), ("busy", busy), ("another", another)):
            with beside(*commands):
                seconds[name].append(timed(fit))
    size = f"{arguments.spots} spots, {arguments.genes} genes, {arguments.epochs} epochs, {cores} cores"
    alone = statistics.median(seconds["idle"])
    rows = [
        Row(
            f"`fit`, default recipe, beside {what}",
            "the same alone",
            ratio(seconds, name, "idle"),
            "<= 2.5",
            f"{size}: {statistics.median(seconds[name]):.1f} s, alone {alone:.1f} s",
        )
        for name, what in (("busy", "a busy process on each core"), ("another", "another such `fit`"))
    ]
    report(rows, arguments.json)


if __name__ == "__main__":
    bl.settings.verbosity = "error"
    warnings.simplefilter("ignore", UserWarning)  # random tissue
    main()
