"""The parts of `gpu.py` that need no tissue: tests, rates of the machine, training, encoding, imputing, the default."""

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _gpu_run import Figure, Run
from _gpu_sizes import Searched
from _timing import ratio, take_turns
from speed_embed import bare_inference
from speed_fit import bare_epoch, first_batch, fit_beside, painted, published
from speed_impute import product, query_of, reference, unit

import bleep_sc as bl
from bleep_sc.io._trained import load_model
from bleep_sc.models.device import resolve_compute
from bleep_sc.models.encoders.frozen import build_frozen, reading_of
from bleep_sc.models.encoders.of_lite import LITE0, PACKAGE
from bleep_sc.models.encoders.registry import encoder_named
from bleep_sc.models.search.nearest import nearest

ROOT = Path(__file__).parents[1]
GOAL = ">= 0.90"
PRECISIONS = ("32", "bf16-mixed")


def gpu_tests(run: Run) -> Iterator[Figure]:
    """Outcomes of the tests marked `gpu`, in a process of their own."""
    files = [str(path) for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text()]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - this Python
    counts = {"passed": 0, "failed": 0, "skipped": 0, "error": 0}
    last = done.stdout.strip().rpartition("\n")[2]
    counts |= {kind: int(number) for number, kind in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    for kind, number in counts.items():
        yield Figure(f"tests marked `gpu`: {kind}", number, "tests", detail=f"of {len(files)} files")
    if done.returncode != 0 or counts["passed"] + counts["skipped"] == 0:
        msg = f"pytest ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-500:]}"
        raise RuntimeError(msg)
    if run.device.type == "cuda" and counts["skipped"]:
        msg = f"{counts['skipped']} tests were skipped although there is a GPU: {done.stdout[-2000:]}"
        raise RuntimeError(msg)


def rates(run: Run) -> Iterator[Figure]:
    """Copies in GB and products in TFLOP a second: what all else can be held against."""
    n = run.sizes.copied_mb * 2**20
    host = torch.zeros(n, dtype=torch.uint8)
    there, beside = (torch.zeros(n, dtype=torch.uint8, device=run.device) for _ in range(2))
    size = f"{run.sizes.copied_mb:,} MB"
    copies: dict[str, tuple[Callable[[], object], int]] = {
        "host to device": (lambda: there.copy_(host), n),
        "device to device, read and written": (lambda: beside.copy_(there), 2 * n),
    }
    if run.device.type == "cuda":
        pinned = host.pin_memory()
        copies["pinned host to device"] = lambda: there.copy_(pinned, non_blocking=True), n
        copies["device to pinned host"] = lambda: pinned.copy_(there, non_blocking=True), n
    for name, (copy, n_bytes) in copies.items():
        yield Figure(f"copy, {name}", n_bytes / _seconds(copy, run) / 1e9, "GB/s", detail=size)
    side, before = run.sizes.matrix, torch.get_float32_matmul_precision()
    for name, dtype, precision in (
        ("fp32", torch.float32, "highest"),
        ("tf32", torch.float32, "high"),
        ("bf16", torch.bfloat16, before),
    ):
        a, b = (torch.randn(side, side, device=run.device, dtype=dtype) for _ in range(2))
        torch.set_float32_matmul_precision(precision)
        try:
            seconds = _seconds(lambda a=a, b=b: a @ b, run)  # type: ignore[misc]
        finally:
            torch.set_float32_matmul_precision(before)
        yield Figure(f"product of matrices, {name}", 2 * side**3 / seconds / 1e12, "TFLOP/s", detail=f"{side:,} square")


def _seconds(function: Callable[[], object], run: Run, *, calls: int = 5, rounds: int = 5) -> float:
    """Median over rounds of the seconds of one call, once warmed up."""
    found = []
    for _ in range(rounds + 1):
        run.wait()
        start = time.perf_counter()
        for _ in range(calls):
            function()
        run.wait()
        found.append((time.perf_counter() - start) / calls)
    return statistics.median(found[1:])


def training(run: Run) -> Iterator[Figure]:
    """`fit` of published BLEEP with ResNet-50 beside the bare loop, in both number formats."""
    sizes, batch = run.sizes, run.sizes.fit_batch
    adata, _ = painted(sizes.fit_spots, sizes.genes, sizes.crop)
    for precision in PRECISIONS:
        compute = resolve_compute(precision=precision)
        model = published("resnet50", sizes.genes, sizes.crop)
        bare = bare_epoch(model, first_batch(adata, batch), sizes.fit_spots // batch, compute)
        seconds, detail = fit_beside(
            bare,
            adata,
            encoder="resnet50",
            batch=batch,
            rounds=sizes.rounds,
            compute=compute,
            precision=precision,
        )
        # PyTorch lets convolutions of float32 use TF32; products of matrices it does not
        note = "; convolutions in TF32, as PyTorch has it" if compute.precision == "32-true" else ""
        yield Figure(
            f"training of ResNet-50, {sizes.crop} px, {compute.precision}",
            adata.n_obs / statistics.median(seconds["fit"]),
            "crops/s",
            "a bare loop",
            ratio(seconds, "other", "fit"),
            GOAL,
            detail + note,
        )


def encoding(run: Run) -> Iterator[Figure]:
    """`encode` by frozen networks and `embed` by a trained one, beside bare inference."""
    sizes, batch = run.sizes, run.sizes.encoded_batch
    adata, _ = painted(sizes.encoded_spots, sizes.genes, sizes.crop)
    crops, n_batches = adata.obsm["crops"][:batch], sizes.encoded_spots // batch
    few, _ = painted(16, sizes.genes, sizes.crop)
    bl.tl.fit(few, preset="paper", encoder="resnet50", weights=None, max_epochs=1)  # what it learns does not matter
    query = adata.copy()
    del query.X
    model: Any = load_model(few, "bleep", name="few")[1].model.to(run.device)
    bare = bare_inference(model.embed_image, crops, n_batches, run.compute)
    yield _beside_bare("`tl.embed`, ResNet-50", lambda: bl.tl.embed(query, few, batch_size=batch), bare, run)
    weights: dict[str, str | None] = {sizes.frozen: None}
    if find_spec("timm") and find_spec(PACKAGE):
        weights[LITE0] = "imagenet"
    for encoder, given in weights.items():
        network = build_frozen(encoder, reading_of(encoder_named(encoder), view_px=sizes.crop), weights=given)
        bare = bare_inference(network.to(run.device), crops, n_batches, run.compute)

        def encode(encoder: str = encoder, given: str | None = given) -> None:
            bl.tl.encode(adata, encoder=encoder, weights=given, batch_size=batch)

        views = network.reading.symmetries
        yield _beside_bare(f"`tl.encode`, {encoder} frozen, {views} views a crop", encode, bare, run)


def _beside_bare(what: str, ours: Callable[[], object], bare: Callable[[], object], run: Run) -> Figure:
    seconds = take_turns(run.sizes.rounds, ours=ours, bare=bare)
    ours_s, bare_s = (run.sizes.encoded_spots / statistics.median(seconds[name]) for name in ("ours", "bare"))
    detail = f"bare: {bare_s:.0f} crops/s; batch {run.sizes.encoded_batch}, {run.sizes.crop} px, {run.compute}"
    return Figure(what, ours_s, "crops/s", "bare inference", ratio(seconds, "bare", "ours"), GOAL, detail)


def imputing(run: Run) -> Iterator[Figure]:
    """`impute`, and its search alone, beside the product on the same device."""
    for searched in run.sizes.searched:
        yield from _imputed(searched, run)


def _imputed(searched: Searched, run: Run) -> Iterator[Figure]:
    rng = np.random.default_rng(0)
    ref = reference(searched.references, searched.genes, searched.kind, rng)
    query = query_of(ref, searched.queries, rng)
    bl.tl.impute(query, ref, k=50)
    images, keys = query.obsm["X_bleep_image"], ref.obsm["X_bleep_expression"]
    on_device = unit(images).to(run.device), unit(keys).to(run.device)

    def bare() -> None:
        product(*on_device)
        run.wait()

    seconds = take_turns(
        searched.rounds,
        impute=lambda: bl.tl.impute(query, ref, k=50),
        search=lambda: nearest(images, keys, 50, device=run.device),
        product=bare,
    )
    size = f"{searched.queries:,} × {searched.references:,} × {searched.genes:,} genes, {searched.kind}"
    detail = f"the product: {statistics.median(seconds['product']):.3g} s in float32, {images.shape[1]} dimensions"
    for name, what in (("impute", "`tl.impute`"), ("search", "its search of 50 neighbours")):
        median = statistics.median(seconds[name])
        against = ratio(seconds, name, "product")
        yield Figure(f"{what}, {size}", median, "s", "the product", against, detail=detail)
