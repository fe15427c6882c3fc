"""What it costs to pool a Visium HD section: seconds and peak memory of one process that does nothing else.

    python benchmarks/pool_cost.py                                  # 500,000 bins, 18,000 genes, 200 genes a bin
    python benchmarks/pool_cost.py --bins 600000 --um 100 --lattice hexagonal --json pool-cost.json

The bins are synthetic: a square array of 8 µm that stands turned by 3° on its image, with counts of 1 and 2 in genes
drawn at random. The process that pools reads them from a file, so that its peak holds the counts once, as with a user.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from _sections import commit
from _timing import machine
from anndata import AnnData, read_h5ad
from scipy import sparse

SIDE_UM, UM_PER_PX, TURN = 8.0, 0.27, np.deg2rad(3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bins", type=int, default=500_000)
    parser.add_argument("--genes", type=int, default=18_000)
    parser.add_argument("--genes-per-bin", type=int, default=200)
    parser.add_argument("--um", type=float, default=55.0)
    parser.add_argument("--lattice", choices=("square", "hexagonal"), default="square")
    parser.add_argument("--json", type=Path, help="file to write the result to")
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.file is not None:
        print(json.dumps(pool_file(args.file, um=args.um, lattice=args.lattice)))
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bins.h5ad"
        synthetic(args.bins, args.genes, args.genes_per_bin).write_h5ad(file)
        run = subprocess.run(  # noqa: S603 - this Python, with a script of ours
            [sys.executable, __file__, "--file", file, "--um", str(args.um), "--lattice", args.lattice],
            check=True,
            capture_output=True,
            text=True,
        )
    result = json.loads(run.stdout)
    print(f"{args.bins:,} bins x {args.genes:,} genes, {args.genes_per_bin} genes a bin, to {args.um:g} µm:")
    print(f"{result['places']:,} places in {result['seconds']:.1f} s, peak {result['peak_gib']:.2f} GiB", end=", ")
    print(f"{result['read_gib']:.2f} GiB of which before pooling")
    if args.json is not None:
        facts = {"command": f"python benchmarks/pool_cost.py {' '.join(sys.argv[1:])}", "commit": commit()}
        args.json.write_text(json.dumps({**facts, "machine": machine(), **result}, indent=1) + "\n")


def synthetic(n_bins: int, n_genes: int, n_detected: int) -> AnnData:
    """Make bins on a square array."""
    rng = np.random.default_rng(0)
    side = int(np.ceil(np.sqrt(n_bins)))
    row, column = np.divmod(np.arange(n_bins), side)
    # one gene of each stretch of genes, so that no bin has one twice
    step = n_genes // n_detected
    genes = np.arange(n_detected, dtype=np.int32) * step + rng.integers(0, step, (n_bins, n_detected), dtype=np.int32)
    counts = rng.integers(1, 3, n_bins * n_detected, dtype=np.int8).astype(np.float32)
    starts = np.arange(n_bins + 1, dtype=np.int64) * n_detected
    turn = np.array([[np.cos(TURN), -np.sin(TURN)], [np.sin(TURN), np.cos(TURN)]])
    factors = {"microns_per_pixel": UM_PER_PX, "bin_size_um": SIDE_UM, "spot_diameter_fullres": SIDE_UM / UM_PER_PX}
    return AnnData(
        sparse.csr_matrix((counts, genes.ravel(), starts), shape=(n_bins, n_genes)),
        obs=pd.DataFrame({"array_row": row, "array_col": column, "in_tissue": 1}, index=np.arange(n_bins).astype(str)),
        var=pd.DataFrame(index=np.arange(n_genes).astype(str)),
        obsm={"spatial": np.stack([column, row], axis=1) * SIDE_UM / UM_PER_PX @ turn.T},
        uns={"spatial": {"hd": {"images": {}, "scalefactors": factors, "metadata": {}}}},
    )


def pool_file(file: Path, *, um: float, lattice: str) -> dict[str, float]:
    """Pool the bins of a file, and measure time and the highest memory of this process."""
    import bleep_sc as bl

    bins = read_h5ad(file)
    read = peak_gib()
    start = time.perf_counter()
    pooled = bl.pp.pool(bins, um=um, lattice=lattice)
    seconds, peak = time.perf_counter() - start, peak_gib()
    assert pooled.X.sum(dtype=np.float64) == bins.X.sum(dtype=np.float64)
    return {"places": pooled.n_obs, "seconds": seconds, "read_gib": read, "peak_gib": peak}


def peak_gib() -> float:
    """Return the highest memory that this process has held (Linux)."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
