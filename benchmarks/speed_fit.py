"""How near training on images comes to what the machine can do, and how far it is from the reference design.

    python benchmarks/speed_fit.py --json speed_fit.json

First, epochs of `tl.fit` (preset "paper", from the second one on, without validation) take turns with bare epochs: the
same network, heads, loss, optimiser, batch size, memory format and precision, on one random batch that never leaves
the device. Second, with epochs of the reference design, which looks up and transforms one spot at a time and computes
in float32 and PyTorch's own memory order. On a CPU both spend their time in the same convolutions, so bfloat16 is
shown too. Uses the device that `bleep_sc.settings` resolves to.
"""

import time
import warnings
from collections.abc import Callable
from typing import Any
from unittest import mock

import lightning as L
import numpy as np
import pandas as pd
import torch
from _reference_design import Design, Items
from _timing import Row, arguments_of, ratio, report
from anndata import AnnData
from torch import nn
from torch.utils.data import DataLoader

import bleep_sc as bl
from bleep_sc.models.device import Compute, resolve_compute
from bleep_sc.models.nets.bleep import BleepArguments
from bleep_sc.models.train.batches import Batch

SIZE = 224
ADAMW: dict[str, Any] = {"lr": 1e-3, "weight_decay": 1e-3}


class Turns(L.pytorch.callbacks.Callback):
    """Lets another epoch run before each epoch of a training, and takes the time of both."""

    def __init__(self, other: Callable[[], object], device: torch.device) -> None:
        self._other, self._device = other, device
        self._started = 0.0
        self.seconds: dict[str, list[float]] = {"other": [], "fit": []}

    def on_train_epoch_start(self, trainer: L.Trainer, *_: object) -> None:  # noqa: D102
        if trainer.current_epoch:
            self.seconds["fit"].append(self._now() - self._started)
        start = self._now()
        self._other()
        self._started = self._now()
        self.seconds["other"].append(self._started - start)

    def on_train_end(self, *_: object) -> None:  # noqa: D102
        self.seconds["fit"].append(self._now() - self._started)

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def take_turns_in_training(
    train: Callable[[], object], other: Callable[[], object], device: torch.device
) -> dict[str, list[float]]:
    """Seconds of each epoch, but for the first, which warms up: of the training, and of the other."""
    turns, trainer = Turns(other, device), L.Trainer

    def watched(**given: Any) -> L.Trainer:
        return trainer(**{**given, "callbacks": [*given["callbacks"], turns]})

    with mock.patch.object(L, "Trainer", watched):
        train()
    return {name: seconds[1:] for name, seconds in turns.seconds.items()}


def bare_epoch(model: nn.Module, batch: Batch, n_steps: int, compute: Compute) -> Callable[[], None]:
    """An epoch of nothing but forward, backward and step, on one batch that is on the device already."""
    model.to(compute.device).train()
    fused = compute.device.type in ("cpu", "cuda")  # as `fit` does
    optimizer = torch.optim.AdamW(model.parameters(), **ADAMW, fused=fused)
    batch = batch.to(compute.device)

    def epoch() -> None:
        for _ in range(n_steps):
            with compute.autocast():
                loss: Any = model.loss(batch)  # type: ignore[operator]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


def published(encoder: str, n_genes: int, size: int = SIZE) -> nn.Module:
    """Published BLEEP on crops, from random weights."""
    arguments = BleepArguments(
        encoder=encoder,
        image_size=size,
        n_image_features=None,
        standardize=False,
        n_genes=n_genes,
        dim=256,
        dropout=0.1,
        temperature=1.0,
    )
    return arguments.build()


def fit_beside(
    other: Callable[[], object],
    adata: AnnData,
    *,
    encoder: str,
    batch: int,
    rounds: int,
    compute: Compute,
    precision: Any = None,
) -> tuple[dict[str, list[float]], str]:
    """Seconds of epochs of `fit` and of another by turns, and what they come to in images a second."""
    seconds = take_turns_in_training(
        lambda: bl.tl.fit(
            adata,
            preset="paper",
            encoder=encoder,
            batch_size=batch,
            max_epochs=rounds + 1,
            precision=precision,
            weights=None,
            accumulate=1,
            validation_share=0,
            progress_bar=False,
        ),
        other,
        compute.device,
    )
    ours, theirs = (adata.n_obs / np.median(seconds[name]) for name in ("fit", "other"))
    detail = f"{ours:.1f} and {theirs:.1f} images a second, batch {batch}, {resolve_compute(precision=precision)}"
    return seconds, detail


def first_batch(adata: AnnData, n: int) -> Batch:
    """The first spots, as training gets them."""
    return Batch(torch.from_numpy(adata.obsm["crops"][:n]), torch.from_numpy(adata.X[:n]))


def reference_epoch(
    items: Items, n_genes: int, *, encoder: str, batch: int, device: torch.device
) -> Callable[[], None]:
    """An epoch of the reference design."""
    model = Design(encoder, n_genes, SIZE).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), **ADAMW)
    loader = DataLoader(items, batch_size=batch, drop_last=True)

    def epoch() -> None:
        for images, profiles in loader:
            loss = model(images.to(device), profiles.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()

    return epoch


def painted(n: int, n_genes: int, size: int = SIZE) -> tuple[AnnData, Items]:
    """The same random spots for both: with crops, and as places on an image."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (4 * size, 16 * size, 3), dtype=np.uint8)
    xy = rng.integers(size // 2, np.array([15 * size, 3 * size]), size=(n, 2))
    places = pd.DataFrame({"x": xy[:, 0], "y": xy[:, 1], "section": "section"}, index=[f"spot{i}" for i in range(n)])
    expression = rng.exponential(size=(n, n_genes)).astype(np.float32)
    half = size // 2
    crops = np.stack([image[y - half : y + half, x - half : x + half] for x, y in xy])
    adata = AnnData(expression, obs=pd.DataFrame(index=places.index), obsm={"crops": crops})
    return adata, Items({"section": image}, places, expression, size)


def main() -> None:
    compute = resolve_compute()
    gpu = compute.device.type == "cuda"
    sizes = {"spots": 8192, "batch": 128, "rounds": 5} if gpu else {"spots": 64, "batch": 16, "rounds": 3}
    arguments = arguments_of(__doc__, genes=1000, **sizes)
    batch, n_steps = arguments.batch, arguments.spots // arguments.batch
    adata, items = painted(n_steps * batch, arguments.genes)

    def compare(encoder: str, other: Callable[[], object], precision: Any = None) -> tuple[float, str]:
        seconds, detail = fit_beside(
            other,
            adata,
            encoder=encoder,
            batch=batch,
            rounds=arguments.rounds,
            compute=compute,
            precision=precision,
        )
        return ratio(seconds, "other", "fit"), detail

    rows = []
    some = first_batch(adata, batch)
    for encoder in ("resnet18", "resnet50"):
        model = published(encoder, arguments.genes)
        found, detail = compare(encoder, bare_epoch(model, some, n_steps, compute))
        goal = ">= 0.90" if gpu else ">= 0.95"
        rows.append(Row(f"training images a second, {encoder}", "a bare loop", found, goal, detail))
    for precision in (None,) if gpu else (None, "bf16-mixed"):
        epoch = reference_epoch(items, arguments.genes, encoder="resnet18", batch=batch, device=compute.device)
        found, detail = compare("resnet18", epoch, precision)
        goal = ">= 5" if gpu else ">= 2"
        rows.append(Row("an epoch of resnet18", "the reference design", found, goal, detail))
    report(rows, arguments.json)


if __name__ == "__main__":
    bl.settings.verbosity = "error"
    warnings.simplefilter("ignore", UserWarning)  # random tissue: no scale, nothing to learn
    main()
