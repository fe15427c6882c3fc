"""How long `fit`, `evaluate` and `cross_validate` take, against another version of the package.

    git worktree add ../before a6017e6
    python benchmarks/speed_before.py ../before --json speed-before.json

Two processes, one of each version, take turns and wait for each other. Each has done the same on few spots before, so
that nothing measured is an import. Features are ready everywhere. The results of both are compared: the row says how
far they are apart at most.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _timing import Row, report
from anndata import AnnData

import bleep_sc as bl

ROUNDS = 3
GOALS = {"fit": "≤ 0.35"}
HALF = "≤ 0.5"
METHODS = ["mean", "counts", "coordinates", "knn", "ridge", "bleep"]


@cache
def spots(n: int, n_genes: int, n_sections: int = 3, seed: int = 0) -> AnnData:
    """Sections whose features and counts follow the same eight fields, with noise of their own."""
    rng = np.random.default_rng(seed)
    fields = rng.normal(size=(n, 8))
    rates = np.exp(0.3 * fields @ rng.normal(size=(8, n_genes)) + rng.normal(size=n_genes))
    counts = rng.poisson(500 * rates / rates.sum(axis=1, keepdims=True)).astype(np.float32)
    side = int(np.ceil(n**0.5))
    section = np.arange(n) * n_sections // n
    adata = AnnData(
        np.log1p(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) * 1e4),
        obs=pd.DataFrame(
            {"section": [f"S{number}" for number in section], "patient": [f"P{number}" for number in section]},
            index=[f"spot{number}" for number in range(n)],
        ),
        layers={"counts": counts},
    )
    adata.obsm["spatial"] = np.stack([np.arange(n) % side * 100.0, np.arange(n) // side * 100.0], axis=1)
    features = fields @ rng.normal(size=(8, 164)) + rng.normal(size=(n, 164))
    adata.obsm["X_features"] = features.astype(np.float32)
    return adata


@cache
def her2st() -> AnnData:
    """Three real sections of one patient, with colours ready."""
    import anndata as ad
    from _sections import image_of, load_her2st

    sections = {name: section for name, section in load_her2st().items() if name in ("C2", "C3", "C4")}
    for name, section in sections.items():
        bl.pp.crops(section, image_of(name), size=112)
        bl.tl.encode(section, encoder="color", key_added="X_features")
        del section.obsm["crops"]
    adata = ad.concat(sections, label="section", join="inner", index_unique="_")
    adata.obs["patient"] = adata.obs["section"].astype(str)  # each section is left out once
    return adata


def fit(n: int = 900, n_genes: int = 1000) -> np.ndarray:
    adata = spots(n, n_genes).copy()
    bl.tl.fit(adata, image_key="X_features")
    return np.asarray(adata.obsm["X_bleep_image"])


@cache
def predicted(n: int, n_genes: int) -> AnnData:
    """The same with a layer that is the truth and noise."""
    adata = spots(n, n_genes).copy()
    adata.layers["predicted"] = adata.X + np.random.default_rng(1).normal(size=adata.shape).astype(np.float32)
    return adata


def evaluate(n: int = 50_000, n_genes: int = 500) -> np.ndarray:
    adata = predicted(n, n_genes)
    bl.tl.evaluate(adata, layer="predicted", library_key="section")
    return numbers(adata.var)


def cross_validate(adata: AnnData | None = None) -> np.ndarray:
    adata = spots(600, 1000) if adata is None else adata
    kwargs = {method: {"image_key": "X_features"} for method in ("knn", "ridge", "bleep")}
    return numbers(
        bl.tl.cross_validate(
            adata.copy(), methods=METHODS, method_kwargs=kwargs, group_key="patient", library_key="section"
        )
    )


def numbers(table: pd.DataFrame) -> np.ndarray:
    return table.select_dtypes("number").to_numpy(dtype=float)


WORK: dict[str, tuple[str, Callable[[], np.ndarray], Callable[[], np.ndarray]]] = {
    "fit": ("`tl.fit`, default recipe, 900 spots × 1,000 genes", fit, lambda: fit(90, 60)),
    "evaluate": ("`tl.evaluate`, 50,000 spots × 500 genes", evaluate, lambda: evaluate(300, 50)),
    "toy": ("`tl.cross_validate`, 6 methods × 3 sections of 200 spots", cross_validate, lambda: fit(90, 60)),
    "her2st": (
        "`tl.cross_validate`, 6 methods × 3 HER2ST sections",
        lambda: cross_validate(her2st()),
        lambda: numbers(her2st().obs[[]]),
    ),
}
"""What is timed: its name, the call, and a small one that comes before."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, nargs="?", help="a checkout of another version")
    parser.add_argument("--only", nargs="+", choices=WORK, default=list(WORK))
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.answer:
        answer()
        return
    with version(arguments.before) as before, version(Path(__file__).parents[1]) as now:
        report([row_of(name, before, now) for name in arguments.only], arguments.json)


def row_of(name: str, before: Callable[[str], Any], now: Callable[[str], Any]) -> Row:
    """Time the two versions in turn."""
    rounds = []
    for number in range(ROUNDS):
        order = (before, now) if number % 2 == 0 else (now, before)
        answers = {ask: ask(name) for ask in order}
        rounds.append((answers[now], answers[before]))
    ours, others = [statistics.median(value[side]["seconds"] for value in rounds) for side in (0, 1)]
    apart = max(difference(old["values"], new["values"]) for new, old in rounds)
    ratio = statistics.median(new["seconds"] / old["seconds"] for new, old in rounds)
    detail = f"{ours:.1f} s, {others:.1f} s before; results at most {apart:.0e} of the largest value apart"
    return Row(WORK[name][0], "the version before", ratio, GOALS.get(name, HALF), detail)


def difference(old: list[float], new: list[float]) -> float:
    one, other = np.array(old, dtype=float), np.array(new, dtype=float)
    if one.shape != other.shape or not np.array_equal(np.isnan(one), np.isnan(other)):
        return float("inf")
    return float(np.nanmax(np.abs(one - other)) / np.nanmax(np.abs(one)))


@contextmanager
def version(checkout: Path) -> Iterator[Callable[[str], Any]]:
    """Start a process with a version of the package; yields a function that has it do some work."""
    call = [sys.executable, __file__, "--answer"]
    environment = os.environ | {"PYTHONPATH": str(checkout / "src")}
    with subprocess.Popen(  # noqa: S603 - this Python, with this script
        call, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, told = process.stdin, process.stdout

        def ask(name: str) -> Any:
            print(name, file=asked, flush=True)
            return json.loads(told.readline())

        yield ask
        asked.close()


def answer() -> None:
    """Do the work that each line of stdin names, and print how long it took and what came out."""
    warnings.simplefilter("ignore")
    bl.settings.verbosity, bl.settings.progress_bar = "error", False
    ready = set()
    for line in sys.stdin:
        _, work, small = WORK[line.strip()]
        if line not in ready:
            small()
            ready.add(line)
        start = time.perf_counter()
        values = work()
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "values": values.ravel()[:100_000].tolist()}), flush=True)


if __name__ == "__main__":
    main()
