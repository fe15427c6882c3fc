"""Fit and impute again and again in one process, and see that nothing piles up: a day of work of a notebook or server.

    OMP_NUM_THREADS=1 python benchmarks/soak_cycles.py --cycles 300

Each cycle trains a small image network and the default recipe on toy tissue, embeds and imputes a query by both, scores
it, draws it, and writes the model and the query to files and reads them back. After each, memory, threads, open files,
temporary files and objects are counted; their slope over the cycles after the first few, which import and compile, is
the median of the slopes between any two, of each half of the cycles, so that one step up is no growth but a little in
every cycle is. The exit code is 1 if the slopes of both halves are beyond the bound (Linux).
"""

import argparse
import gc
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import matplotlib as mpl
import numpy as np
from _timing import resident
from scipy.stats import theilslopes

import bleep_sc as bl

BOUNDS = {
    "memory (MB)": 0.03,
    "threads": 0.01,
    "open files": 0.01,
    "temporary files": 0.01,
    "objects": 1.0,
}
"""Growth a cycle from which on there is a leak: a leak of anything at all has at least 1, but for memory."""


def write_toy(folder: Path) -> None:
    """Two patients' sections to learn from and one of a third, with crops small enough to train on in a moment."""
    tissue = bl.datasets.toy(n_sections=1, n_spots=12, n_genes=12)
    tissue.obsm["crops"] = np.ascontiguousarray(tissue.obsm["crops"][:, 16:48, 16:48])
    for record in tissue.uns["crops"].values():
        record["size"] = 32
    of_query = (tissue.obs["patient"] == "P3").to_numpy()
    tissue[~of_query].write_h5ad(folder / "ref.h5ad")
    tissue[of_query].write_h5ad(folder / "query.h5ad")


def cycle(data: Path, number: int) -> None:
    """What a user does with one data set, from files to files, training, scores and a picture."""
    import matplotlib.pyplot as plt

    # read each time: pandas keeps dead references to views of an index until there are hundreds
    ref, query = ad.read_h5ad(data / "ref.h5ad"), ad.read_h5ad(data / "query.h5ad")
    network = {"preset": "paper", "encoder": "timm:test_resnet", "weights": None, "batch_size": 16}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        bl.tl.fit(ref, **network, max_epochs=1, random_state=number, key_added="network")
        bl.tl.fit(ref, max_epochs=2, random_state=number, checkpoint_dir=folder / "checkpoints")
        bl.io.write_model(ref, folder / "model")
        bl.io.read_model(ref, folder / "model", key_added="again")
        bl.tl.embed(ref, key="again")
        bl.tl.embed(query, ref)
        for key in ("network", "again"):
            bl.tl.impute(query, ref, key=key, key_added=key)
        bl.tl.evaluate(query, layer="again", n_bootstrap=20)
        query.write_h5ad(folder / "query.h5ad")
        query = ad.read_h5ad(folder / "query.h5ad")
        figure = bl.pl.imputed(query, query.var_names[0], layer="again", img_key=None, return_fig=True)
        figure.savefig(folder / "query.png", dpi=40)
        plt.close(figure)


def state(temporary: Path) -> dict[str, float]:
    """What the process holds now, by the names of `BOUNDS`."""
    memory = resident()
    counts = (
        len(os.listdir("/proc/self/task")),  # noqa: PTH208 - Path.iterdir holds a file open of its own
        len(os.listdir("/proc/self/fd")),  # noqa: PTH208
        sum(1 for _ in temporary.rglob("*")),
        len(gc.get_objects()) + gc.get_freeze_count(),
    )
    return dict(zip(BOUNDS, (memory, *counts), strict=True))


@dataclass(frozen=True)
class Report:
    """What the process held before the first cycle and after each."""

    states: Sequence[dict[str, float]]
    warm_up: int

    @property
    def slopes(self) -> dict[str, float]:
        """Growth a cycle, after the warm-up: the lower of that of the first half and that of the second.

        One step up in the middle lies between most pairs of few cycles, but between pairs of one half alone.
        """
        counted = self.states[self.warm_up :]
        middle = len(counted) // 2
        halves = counted[: middle + 1], counted[middle:]
        return {name: float(min(theilslopes([at[name] for at in half])[0] for half in halves)) for name in BOUNDS}

    @property
    def grown(self) -> list[str]:
        """What grew beyond its bound."""
        return [name for name, slope in self.slopes.items() if slope > BOUNDS[name]]

    def __str__(self) -> str:
        last = len(self.states) - 1
        head = ("", "at the start", f"after {self.warm_up}", f"after {last}", "a cycle", "bound")
        rows = [head, ("---", *("---:" for _ in head[1:]))]
        for name, slope in self.slopes.items():
            held = (f"{self.states[at][name]:,.4g}" for at in (0, self.warm_up, last))
            rows.append((name, *held, f"{slope:+.3f}", f"{BOUNDS[name]}"))
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        return f"{table}\n\n" + (f"GROWN: {', '.join(self.grown)}" if self.grown else "nothing has grown")


def soak(cycles: int, *, warm_up: int, work: Callable[[Path, int], None] | None = None, every: int = 0) -> Report:
    """Work so many times, and note what is held; all temporary files go to a folder of its own."""
    work, before = work or cycle, tempfile.tempdir
    with tempfile.TemporaryDirectory() as place:
        tempfile.tempdir = place
        try:
            write_toy(Path(place))
            gc.freeze()  # what imports made need not be looked through after every cycle
            states, start = [state(Path(place))], time.perf_counter()
            for number in range(1, cycles + 1):
                work(Path(place), number)
                states.append(state(Path(place)))
                if number == warm_up:
                    gc.freeze()  # nor what the first cycles imported
                if every and number % every == 0:
                    held = ", ".join(f"{value:,.6g} {name}" for name, value in states[-1].items())
                    print(f"{number} cycles, {time.perf_counter() - start:.0f} s: {held}", flush=True)
        finally:
            tempfile.tempdir = before
            gc.unfreeze()
    return Report(states, warm_up)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=300, help="how many, warm-up included")
    parser.add_argument("--warm-up", type=int, default=10, help="first cycles, which do not count")
    arguments = parser.parse_args(argv)
    if arguments.cycles < arguments.warm_up + 2:
        parser.error(f"--cycles must be at least {arguments.warm_up + 2}: a slope needs two cycles after the warm-up.")
    mpl.use("agg")
    with bl.settings.override(verbosity="error", progress_bar=False, device="cpu"), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # so few spots and epochs: nothing to learn
        report = soak(arguments.cycles, warm_up=arguments.warm_up, every=25)
    print(f"\n{report}")
    sys.exit(1 if report.grown else 0)


if __name__ == "__main__":
    main()
