"""What an atlas would cost, on paper: the steps' unit costs, measured here on small data, times the atlas' size.

    python benchmarks/atlas_cost.py
    python benchmarks/atlas_cost.py --references 500000 --slides 100   # yours

Uses the device that `bleep_sc.settings` resolves to. Reference and slides are crops of 224 px that stay in tiled JPEG
TIFFs (`lazy=True`), expression is sparse, layers go to a zarr store. All that is measured grows in proportion to the
number of spots, or of pairs of spots, within a tenth (`speed_scaling.py`). A GPU's hours, where none was measured, are
the operations at `--gpu-tflops`, a rate that it is *assumed* to sustain.
"""

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _sections import commit
from _timing import machine, timed
from anndata import AnnData
from scipy import sparse
from speed_crops import write_slide
from tables import bill
from torch.utils.flop_counter import FlopCounterMode

import bleep_sc as bl
from bleep_sc.models.encoders.networks import build_network
from bleep_sc.models.search.nearest import nearest

SIZE, SIDE, DIM, K, DENSITY = 224, 8192, 256, 50, 0.1
PAPER = {"preset": "paper", "encoder": "resnet50", "weights": None}


@dataclass(frozen=True)
class Step:
    """One line of the bill."""

    what: str
    units: float
    """How many times its unit is to be done."""
    seconds: float
    """Of one unit, measured."""
    operations: float | None = None
    """Of one unit, in floating point; None where they are not what it costs."""
    data: float = 0
    """Bytes that all of them leave."""
    divisible: bool = True
    """Whether several machines without GPUs can share it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=int, default=2_000_000, help="spots of the reference")
    parser.add_argument("--slides", type=int, default=1000, help="slides to predict")
    parser.add_argument("--spots", type=int, default=5000, help="spots of a slide")
    parser.add_argument("--genes", type=int, default=3000, help="genes to impute")
    parser.add_argument("--machines", type=int, default=64, help="machines like this one in the cluster")
    parser.add_argument("--gpu-tflops", type=float, default=20.0, help="what a GPU is assumed to sustain")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    bl.settings.progress_bar, bl.settings.verbosity = False, "error"
    sizes = {name: getattr(arguments, name) for name in ("references", "slides", "spots", "genes")}
    record = {
        "command": "python benchmarks/atlas_cost.py",
        "commit": commit(),
        "machine": machine(),
        **sizes,
        "machines": arguments.machines,
        "gpu_tflops": arguments.gpu_tflops,
        "steps": [asdict(step) for step in steps(**sizes)],
    }
    print(bill(record))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


def steps(*, references: int, slides: int, spots: int, genes: int) -> list[Step]:
    """The bill, of the default recipe first and then of BLEEP as published."""
    queries = slides * spots
    with tempfile.TemporaryDirectory() as folder:
        slide = Path(folder) / "slide.tif"
        write_slide(slide, SIDE, "jpeg")
        default, color, color_bytes = measure_default(slide)
        epoch, network, network_bytes = measure_network(slide)
    pair, write = measure_retrieval(genes)
    flops = forward_operations()
    return [
        Step("default: train", references, default, divisible=False),
        Step("default: cut and describe, slides", queries, color, None, color_bytes * queries),
        Step("published: one epoch of ResNet-50", references, epoch, 3 * flops, divisible=False),
        Step("published: cut and embed, reference", references, network, flops, network_bytes * references),
        Step("published: cut and embed, slides", queries, network, flops, network_bytes * queries),
        Step("either: search, all pairs", queries * references, pair, 2 * DIM),
        Step(f"either: average and write {genes:,} genes", queries, write, None, 4 * genes * queries),
    ]


def measure_default(slide: Path, n: int = 1000) -> tuple[float, float, float]:
    """Seconds a spot of `tl.fit`, and of cutting, colour features and the joint space in `tl.embed`; its bytes."""
    adata = section(n, 1000, seed=0)
    bl.pp.crops(adata, slide, size=SIZE, mpp=0.5, lazy=True)
    fit = timed(lambda: bl.tl.fit(adata))
    query = section(n, 1000, seed=1)
    bl.pp.crops(query, slide, size=SIZE, mpp=0.5, lazy=True)
    return fit / n, *embedding(query, adata)


def measure_network(slide: Path, n: int = 96) -> tuple[float, float, float]:
    """Seconds a spot of an epoch's training, and of `tl.embed`, with ResNet-50; the embedding's bytes."""
    adata = section(n, 1000, seed=0)
    bl.pp.crops(adata, slide, size=SIZE, mpp=0.5, lazy=True)

    def train(epochs: int) -> float:
        return timed(lambda: bl.tl.fit(adata, **PAPER, batch_size=32, max_epochs=epochs, validation_share=0))  # type: ignore[arg-type]

    once = train(1)  # the second has one epoch more, and what comes before and after just as long
    epoch = train(2) - once
    query = section(n, 1000, seed=1)
    bl.pp.crops(query, slide, size=SIZE, mpp=0.5, lazy=True)
    return epoch / n, *embedding(query, adata)


def embedding(query: AnnData, ref: AnnData) -> tuple[float, float]:
    """Seconds and bytes a spot."""
    seconds = timed(lambda: bl.tl.embed(query, ref))
    return seconds / query.n_obs, query.obsm["X_bleep_image"].nbytes / query.n_obs


def measure_retrieval(genes: int, n: int = 2000, m: int = 100_000) -> tuple[float, float]:
    """Seconds a pair of the search, and seconds a query of averaging K references' sparse expression and writing it."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rng = np.random.default_rng(0)
    query, keys = (rng.standard_normal((rows, DIM), dtype=np.float32) for rows in (n, m))
    nearest(query[:100], keys[:1000], K, device=device)
    pair = timed(lambda: nearest(query, keys, K, device=device)) / n / m

    ref = section(2000, genes, seed=0)
    ref.obsm["features"] = rng.standard_normal((ref.n_obs, 64), dtype=np.float32)
    ref.var["highly_variable"] = np.arange(genes) < 200
    bl.tl.fit(ref, image_key="features", preset="paper", max_epochs=1)
    slides = section(4000, genes, seed=1)
    slides.obsm["features"] = rng.standard_normal((slides.n_obs, 64), dtype=np.float32)
    bl.tl.embed(slides, ref)
    few = slides[:500].copy()
    with tempfile.TemporaryDirectory() as folder:
        bl.tl.impute(few, ref, k=K, store=Path(folder) / "warm.zarr")  # compiles
        short = timed(lambda: bl.tl.impute(few, ref, k=K, store=Path(folder) / "few.zarr"))
        long = timed(lambda: bl.tl.impute(slides, ref, k=K, store=Path(folder) / "all.zarr"))
    more = slides.n_obs - few.n_obs
    return pair, (long - short) / more - pair * ref.n_obs


def forward_operations() -> float:
    """Floating-point operations of ResNet-50 on one image."""
    network = build_network("resnet50", image_size=SIZE).eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, SIZE, SIZE, 3, dtype=torch.uint8))
    return float(counter.get_total_flops())


def section(n: int, genes: int, *, seed: int) -> AnnData:
    rng = np.random.default_rng(seed)
    return AnnData(
        sparse.random(n, genes, density=DENSITY, format="csr", dtype=np.float32, random_state=rng),
        obs=pd.DataFrame(index=[f"{seed}-{i}" for i in range(n)]),
        var=pd.DataFrame(index=[f"g{i}" for i in range(genes)]),
        obsm={"spatial": rng.integers(SIZE, SIDE - SIZE, size=(n, 2)).astype(np.float64)},
    )


if __name__ == "__main__":
    main()
