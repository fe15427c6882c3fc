"""What Visium HD costs at full size: seconds and peak memory of each step of the main job, from bins to scores.

    python benchmarks/hd_cost.py                                # 600,000 bins × 18,000 genes
    python benchmarks/hd_cost.py --bins 150000

Bins of 8 µm on painted tissue at 0.5 µm per pixel, a tiled JPEG TIFF. Some 200 transcripts a bin, of rates that follow
the painted regions, as CSR: counts in `layers["counts"]`, log-normalised values in `X`. The picture is one painted
square, repeated; so features are made of the bins of one square alone and repeated likewise. Two sections side by side
are the reference (`fit` with the default recipe); the query is a third one of a tenth of the bins, whose layer goes to
a store. Memory is the highest resident size of the whole process within a step, AnnData included (Linux).
"""

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import tifffile
from _sections import commit
from _timing import machine, resident
from anndata import AnnData
from scipy import sparse

import bleep_sc as bl
from bleep_sc.datasets._tissue import REGIONS, draw_stain, paint

BIN_UM, MPP, PAINTED, TRANSCRIPTS = 8.0, 0.5, 1024, 200
PITCH = int(BIN_UM / MPP)
PERIOD = PAINTED // PITCH
"""Bins along a side of the painted square, after which all repeats."""
FEATURES, CROP_UM, CROP_SIZE = "X_color", 64, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bins", type=int, default=600_000, help="bins of the reference")
    parser.add_argument("--genes", type=int, default=18_000)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    bl.settings.verbosity, bl.settings.progress_bar = "warning", False
    given = [part for part in sys.argv[1:] if part not in ("--json", str(arguments.json))]
    record = {
        "command": shlex.join(["python", "benchmarks/hd_cost.py", *given]),
        "commit": commit(),
        "machine": machine(),
        "bins": arguments.bins,
        "genes": arguments.genes,
    }

    def keep(rows: list[dict[str, Any]]) -> None:
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(record | {"rows": rows}, indent=1) + "\n")

    with tempfile.TemporaryDirectory() as folder:
        rows = measure(arguments.bins, arguments.genes, Path(folder), keep)
    print(f"\n{machine()}, commit {commit()}\n\n| step | seconds | peak, GB |\n|---|---|---|")
    for row in rows:
        print(f"| {row['step']} | {row['seconds']:.1f} | {row['peak_gb']:.2f} |")


def measure(
    n_bins: int, n_genes: int, folder: Path, keep: Callable[[list[dict[str, Any]]], None]
) -> list[dict[str, Any]]:
    """Run the main job and measure each step; what was measured so far is kept after each."""
    rows: list[dict[str, Any]] = []
    rng = np.random.default_rng(0)
    tissue = paint(rng, PAINTED, draw_stain(rng))
    rates = rates_of(rng, n_genes)
    side = int(np.ceil(np.sqrt(n_bins / 2)))
    slide = folder / "slide.tif"
    _write_slide(slide, tissue.image, side * PITCH)
    sections = [section(rng, f"S{number}", tissue.region, rates, side) for number in (1, 2)]
    ref = ad.concat(sections, merge="same", uns_merge="unique")
    del sections
    query = section(rng, "Q", tissue.region, rates, int(np.ceil(np.sqrt(n_bins / 10))))

    def step(name: str, work: Callable[[], object]) -> None:
        resident()  # gives back what is free
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins again
        start = time.perf_counter()
        work()
        seconds = time.perf_counter() - start
        status = Path("/proc/self/status").read_text().splitlines()
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 2**20
        rows.append({"step": name, "seconds": seconds, "peak_gb": peak})
        print(f"{name}: {seconds:.1f} s, {peak:.2f} GB", flush=True)
        keep(rows)

    step("pp.select_genes", lambda: bl.pp.select_genes(ref, batch_key="section", n_top_genes=4000))
    images = {"S1": slide, "S2": slide}
    step(
        "pp.crops(lazy=True)",
        lambda: bl.pp.crops(ref, images, um=CROP_UM, size=CROP_SIZE, mpp=MPP, library_key="section", lazy=True),  # type: ignore[arg-type]
    )
    in_square = (ref.obs[["array_row", "array_col"]] < PERIOD).all(axis=1) & (ref.obs["section"] == "S1")
    described = ref[in_square].copy()
    step(
        f"tl.encode, {described.n_obs:,} of the bins",
        lambda: bl.tl.encode(described, encoder="color", key_added=FEATURES),
    )
    for adata in (ref, query):
        adata.obsm[FEATURES] = _repeated(adata, described, rng)
        adata.uns[FEATURES] = described.uns[FEATURES]
    ref.obsm.pop("crops")
    step(
        "tl.fit",
        lambda: bl.tl.fit(ref, image_key=FEATURES, library_key="section"),
    )
    step(
        "tl.impute(store=), a tenth of the bins",
        lambda: bl.tl.impute(query, ref, store=folder / "imputed.zarr"),
    )
    step("tl.evaluate of these", lambda: bl.tl.evaluate(query, layer="bleep", library_key="section"))
    return rows


def rates_of(rng: np.random.Generator, n_genes: int) -> np.ndarray:
    """Share of each gene in the transcripts of each region (n_regions, n_genes)."""
    base = rng.normal(0, 1.5, size=n_genes)
    rates = np.exp(base + rng.normal(0, 0.7, size=(len(REGIONS), n_genes)) * (rng.random(n_genes) < 0.2))
    return np.asarray(rates / rates.sum(axis=1, keepdims=True))


def _write_slide(path: Path, picture: np.ndarray, side: int) -> None:
    """Write the painted square, repeated, as a tiled JPEG TIFF."""
    tile = 256
    tiles = [[picture[y : y + tile, x : x + tile] for x in range(0, PAINTED, tile)] for y in range(0, PAINTED, tile)]
    n = -(-side // tile)
    stream = (tiles[row % len(tiles)][column % len(tiles)] for row in range(n) for column in range(n))
    tifffile.imwrite(
        path,
        stream,
        shape=(n * tile, n * tile, 3),
        dtype=np.uint8,
        tile=(tile, tile),
        compression="jpeg",
        photometric="rgb",
    )


def section(rng: np.random.Generator, name: str, region: np.ndarray, rates: np.ndarray, side: int) -> AnnData:
    """Draw a square of bins and their transcripts."""
    row, column = (axis.ravel() for axis in np.indices((side, side)))
    xy = (np.stack([column, row], axis=1) + 0.5) * PITCH
    kind = region[(xy[:, 1] % PAINTED).astype(int), (xy[:, 0] % PAINTED).astype(int)]
    n_genes = rates.shape[1]
    drawn = np.empty((len(xy), TRANSCRIPTS), dtype=np.int32)
    for number, of_region in enumerate(rates):
        rows = np.flatnonzero(kind == number)
        drawn[rows] = np.searchsorted(of_region.cumsum(), rng.random((len(rows), TRANSCRIPTS), dtype=np.float32)).clip(
            max=n_genes - 1
        )
    indptr = np.arange(0, drawn.size + 1, TRANSCRIPTS)
    counts = sparse.csr_matrix((np.ones(drawn.size, dtype=np.float32), drawn.ravel(), indptr), (len(xy), n_genes))
    counts.sum_duplicates()
    adata = AnnData(
        counts.copy(),
        obs=pd.DataFrame(
            {"section": pd.Categorical([name] * len(xy)), "array_row": row, "array_col": column},
            index=[f"{name}_{number}" for number in range(len(xy))],
        ),
        var=pd.DataFrame(index=[f"g{number}" for number in range(n_genes)]),
        layers={"counts": counts},
        obsm={"spatial": xy},
    )
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    return adata


def _repeated(adata: AnnData, described: AnnData, rng: np.random.Generator) -> np.ndarray:
    """Features of all bins, from those of the bins at the same place of the painted square."""
    place = [(bins.obs["array_row"] % PERIOD) * PERIOD + bins.obs["array_col"] % PERIOD for bins in (described, adata)]
    found = np.zeros(PERIOD**2, dtype=np.int64)  # sections of fewer bins are not a whole square
    found[place[0].to_numpy()] = np.arange(described.n_obs)
    features = described.obsm[FEATURES][found[place[1].to_numpy()]]
    return features + rng.normal(0, 0.05, size=features.shape).astype(np.float32) * features.std(axis=0)


if __name__ == "__main__":
    main()
