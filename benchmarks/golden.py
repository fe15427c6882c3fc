"""Whether this version computes what an earlier one did: both run the same calls, and their results are compared.

    git worktree add /tmp/before a6017e6 && python benchmarks/golden.py /tmp/before
    python benchmarks/golden.py /tmp/before --data      # also on two HER2ST sections

The calls are those of the main job: crops and their features, `fit` by every method, `impute` in every mode, intervals,
`evaluate` and `cross_validate`, on painted toy tissue. Printed is the largest difference of each result, as a share of
its largest value. It exits with 1 where one is larger than `--tolerance`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

import bleep_sc as bl

METHODS: dict[str, dict[str, Any]] = {
    "default": {"max_epochs": 20},
    "published": {"method": "bleep", "preset": "paper", "image_key": "X_color", "max_epochs": 3},
    "regressor": {"method": "regressor", "image_key": "X_color", "max_epochs": 5},
    "histogene": {"method": "histogene", "dim": 64, "depth": 1, "max_epochs": 2},
    "stnet": {"method": "stnet", "encoder": "resnet18", "weights": None, "max_epochs": 1},
    "ridge": {"method": "ridge"},
    "knn": {"method": "knn"},
    "coordinates": {"method": "coordinates"},
    "counts": {"method": "counts"},
    "mean": {"method": "mean"},
}
CROSS_VALIDATED = ["mean", "knn", "ridge", "bleep"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, nargs="?", help="checkout of the earlier version")
    parser.add_argument("--data", action="store_true", help="also compare on real sections")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--write", type=Path, help="only compute, and write the results here")
    arguments = parser.parse_args()
    if arguments.write is not None:
        np.savez(arguments.write, **dict(results(data=arguments.data)))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = [_of_checkout(path, Path(folder), data=arguments.data) for path in (arguments.before, _OURS)]
    before, now = found
    print("| result | values | largest difference, as a share of the largest value |\n|---|---|---|")
    apart = {name: difference(before[name], now[name]) for name in before if name in now}
    for name, share in apart.items():
        print(f"| {name} | {before[name].size:,} | {share:.1e} |")
    missing = sorted(set(before) ^ set(now))
    far = [name for name, share in apart.items() if not share <= arguments.tolerance]
    print(f"\n{len(far)} of {len(apart)} results differ by more than {arguments.tolerance:g}: {', '.join(far) or '-'}.")
    print(f"Only in one of both: {', '.join(missing) or '-'}.")
    sys.exit(bool(far or missing))


_OURS = Path(__file__).parents[1]


def _of_checkout(checkout: Path, folder: Path, *, data: bool) -> dict[str, np.ndarray]:
    path = folder / f"{len(list(folder.iterdir()))}.npz"
    call = [sys.executable, __file__, "--write", str(path), *(["--data"] if data else [])]
    subprocess.run(call, env=os.environ | {"PYTHONPATH": str(checkout / "src")}, check=True)  # noqa: S603 - this Python, with this script
    with np.load(path) as stored:
        return dict(stored)


def difference(before: np.ndarray, now: np.ndarray) -> float:
    """Largest difference as a share of the largest value; infinite where shapes, or what is missing, differ."""
    if before.shape != now.shape or not np.array_equal(np.isnan(before), np.isnan(now)):
        return float("inf")
    there = ~np.isnan(before)
    largest = np.abs(before[there]).max(initial=0.0)
    return float(np.abs(before[there] - now[there]).max(initial=0.0) / (largest or 1.0))


def results(*, data: bool) -> Iterator[tuple[str, np.ndarray]]:
    """Names and values of all results."""
    warnings.simplefilter("ignore")
    bl.settings.verbosity, bl.settings.progress_bar = "error", False
    ref, query = (bl.datasets.toy(n_spots=60, n_genes=60, random_state=seed) for seed in (0, 7))
    yield from on_tissue("toy", ref, query, METHODS)
    scores = bl.tl.cross_validate(ref, methods=CROSS_VALIDATED, n_bootstrap=50, n_top_genes=50)
    yield from numbers("toy: cross_validate", scores)
    if not data:
        return
    from _sections import image_of, load_her2st

    sections = {name: section for name, section in load_her2st().items() if name in ("C2", "C3")}
    for name, section in sections.items():
        bl.pp.crops(section, image_of(name), size=112)
        bl.pp.select_genes(section, n_top_genes=500)
    yield from on_tissue("HER2ST", *sections.values(), {"default": {}, "ridge": {"method": "ridge"}})


def on_tissue(
    tissue: str, ref: AnnData, query: AnnData, methods: dict[str, dict[str, Any]]
) -> Iterator[tuple[str, np.ndarray]]:
    """What each method predicts of a query, and what `calibrate` and `evaluate` say of it."""
    for adata in (ref, query):
        bl.tl.encode(adata, encoder="color", key_added="X_color")
    yield f"{tissue}: colour features", ref.obsm["X_color"]
    for name, arguments in methods.items():
        model, imputed, layer = ref.copy(), query.copy(), f"by_{name}"
        bl.tl.fit(model, **arguments)
        bl.tl.impute(imputed, model, key_added=layer)
        yield f"{tissue}: {name}", np.asarray(imputed.layers[layer])
        bl.tl.evaluate(imputed, layer=layer, n_bootstrap=50)
        yield from numbers(f"{tissue}: {name}, evaluate", imputed.var)
        if name == "default" and tissue == "toy":  # of one section nothing can be promised for another
            bl.tl.calibrate(model, n_turns=20)
            bl.tl.impute(imputed, model, key_added=layer)
            bounds = [key for key in imputed.layers if key.startswith(f"{layer}_")]
            yield from ((f"{tissue}: {name}, {key}", np.asarray(imputed.layers[key])) for key in bounds)
            for mode in ("retrieval", "regression"):
                bl.tl.impute(imputed, model, key_added=mode, predict=mode)
                yield f"{tissue}: {name}, {mode}", np.asarray(imputed.layers[mode])


def numbers(name: str, table: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
    """The columns of numbers of a table."""
    for column in table.select_dtypes("number"):
        yield f"{name}, {column}", table[column].to_numpy(dtype=float)


if __name__ == "__main__":
    main()
