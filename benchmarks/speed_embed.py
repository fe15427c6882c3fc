"""How near embedding comes to what the machine can do.

    python benchmarks/speed_embed.py --json speed_embed.json

`tl.embed` takes turns with bare inference: the same network and head on one random batch that never leaves the device,
as often as there are batches, in the same batch size, memory format and precision. Uses the device that
`bleep_sc.settings` resolves to.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _timing import Row, arguments_of, ratio, report, take_turns
from speed_fit import painted

import bleep_sc as bl
from bleep_sc.io._trained import load_model
from bleep_sc.models.device import BATCH_SIZE, Compute, resolve_compute


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
    sizes = {"spots": 16384, "batch": BATCH_SIZE, "rounds": 7} if gpu else {"spots": 256, "batch": 32, "rounds": 3}
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
    report(rows, arguments.json)


if __name__ == "__main__":
    bl.settings.verbosity = "error"
    warnings.simplefilter("ignore", UserWarning)  # random tissue: no scale, nothing to learn
    main()
