"""How `tl.fit` grows with the number of bins of Visium HD: seconds and memory, from ten thousand to 300,000 bins.

    python benchmarks/speed_bins.py --json speed_bins.json
    python benchmarks/speed_bins.py --bins 10000 30000      # a part

Bins of painted regions with some 200 transcripts each of 500 genes (sparse), features ready (164, as those of
`encoder="color"`), in two sections: the default recipe, and ridge regression. Each fit runs in a fresh process. The
memory is what that process grew by at most during the call. The slope is that of a straight line through the
logarithms of bins and seconds: 1 is a straight line through the times themselves.
"""

import argparse
import json
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import anndata as ad
import numpy as np
from _timing import Row, peak_growth, report, timed
from anndata import AnnData
from hd_cost import PAINTED, rates_of, section
from scipy import sparse

import bleep_sc as bl
from bleep_sc.datasets._tissue import REGIONS, draw_stain, paint

BINS, N_GENES, N_FEATURES = (10_000, 40_000, 150_000, 300_000), 500, 164
LARGEST_SECONDS, LARGEST_MB, GOAL_BINS = 600, 4096, 150_000
METHODS = {"default recipe": {}, "ridge": {"method": "ridge"}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bins", type=int, nargs="+", default=BINS)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "BINS"), help="measure one fit in this process")
    arguments = parser.parse_args()
    if arguments.one is not None:
        name, n_bins = arguments.one
        print(json.dumps(measure(name, int(n_bins))))
        return
    rows = []
    for name in METHODS:
        found = [in_fresh_process(name, n_bins) for n_bins in arguments.bins]
        rows += rows_of(name, arguments.bins, *zip(*found, strict=True))
    report(rows, arguments.json)


def in_fresh_process(name: str, n_bins: int) -> tuple[float, float]:
    """Seconds and MB of one fit."""
    call = [sys.executable, __file__, "--one", name, str(n_bins)]
    run = subprocess.run(call, check=True, capture_output=True, text=True)  # noqa: S603 - this Python, with this script
    seconds, megabytes = json.loads(run.stdout)
    print(f"{name}, {n_bins:,} bins: {seconds:.1f} s, {megabytes:.0f} MB", flush=True)
    return seconds, megabytes


def measure(name: str, n_bins: int) -> tuple[float, float]:
    """Seconds and growth in MB of one fit, after one on few bins, by which all is imported."""
    warnings.simplefilter("ignore")
    bl.settings.verbosity, bl.settings.progress_bar = "error", False
    bl.tl.fit(bins(400), image_key="X_color", library_key="section", **METHODS[name])
    adata, seconds = bins(n_bins), []
    fit = partial(bl.tl.fit, adata, image_key="X_color", library_key="section", **METHODS[name])
    megabytes = peak_growth(lambda: seconds.append(timed(fit)))
    return seconds[0], megabytes


def bins(n_bins: int) -> AnnData:
    """Two sections of bins, with sparse expression and features of their regions."""
    rng = np.random.default_rng(0)
    region = paint(rng, PAINTED, draw_stain(rng)).region
    side = round((n_bins / 2) ** 0.5)
    rates = rates_of(rng, N_GENES)
    adata = ad.concat([section(rng, name, region, rates, side) for name in ("S1", "S2")], merge="same")
    del adata.layers["counts"]
    adata.X = sparse.csr_matrix(adata.X, dtype=np.float32)
    xy = adata.obsm["spatial"] % PAINTED
    kind = region[xy[:, 1].astype(int), xy[:, 0].astype(int)]
    of_kind = rng.normal(size=(len(REGIONS), N_FEATURES)).astype(np.float32)
    adata.obsm["X_color"] = of_kind[kind] + rng.normal(size=(adata.n_obs, N_FEATURES)).astype(np.float32)
    return adata


def rows_of(name: str, bins: list[int], seconds: tuple[float, ...], megabytes: tuple[float, ...]) -> list[Row]:
    rows = []
    for n_bins, taken, grown in zip(bins, seconds, megabytes, strict=True):
        goal = f"≤ {LARGEST_SECONDS} s, ≤ {LARGEST_MB / 1024:.0f} GB" if n_bins == GOAL_BINS else ""
        what = f"`tl.fit`, {name}, {n_bins:,} bins × {N_GENES} genes"
        rows.append(Row(what, "seconds", taken, goal, f"{grown / 1024:.1f} GB beyond inputs and results"))
    slope = float(np.polyfit(np.log(bins), np.log(seconds), 1)[0])
    return [*rows, Row(f"`tl.fit`, {name}", "slope of time over bins", slope, "≤ 1.1", f"{bins[0]:,} to {bins[-1]:,}")]


if __name__ == "__main__":
    main()
