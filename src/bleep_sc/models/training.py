"""The training loop: Lightning's, kept behind one function of arrays."""

import logging
import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from bleep_sc._logging import logger, warn
from bleep_sc.models.augment import turn_each
from bleep_sc.models.batches import Batch, Batches, Sequences
from bleep_sc.models.device import Compute
from bleep_sc.models.prefetch import feed

_STEPS_BEFORE_ESTIMATE = 3
_LONG_ON_CPU = 3600.0
_MOMENTUM = 0.9


@dataclass(frozen=True)
class Optimization:
    """How a model is trained; the values of a run come from its preset."""

    lr: float
    weight_decay: float
    max_epochs: int
    patience: int
    """Epochs without a better validation loss before training stops; 0 never stops early."""
    accumulate: int = 1
    """Batches whose gradients are averaged for one step."""
    optimizer: str = "adamw"
    """``"adamw"``, ``"adam"`` or ``"sgd"`` (with momentum 0.9)."""


@dataclass
class History:
    """Losses by epoch; `best_epoch` counts from 0."""

    train_loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    best_epoch: int = -1


def train(
    model: nn.Module,
    training: Batches | Sequences,
    validation: Batches | Sequences | None,
    *,
    optimization: Optimization,
    compute: Compute,
    announce: bool = True,
) -> History:
    """Train in place and leave the model, in evaluation mode on the CPU, with the weights of its best epoch.

    Without `validation` that is the last one. `announce` says after a few steps how long it will take.

    `model.loss(batch)` is minimised. Uses torch's global random state (dropout): the caller forks it. Several processes
    (`compute.processes`) divide each batch, which must be `Batches`, and all come back with the same weights.
    """
    plan = _Plan(model, optimization, len(training))
    keeper = _BestEpoch(plan, training, patience=optimization.patience)
    callbacks: list[Callback] = [keeper]
    if len(compute.processes) > 1:
        callbacks.append(_Divide(training, validation))
    if announce:
        may_stop_early = bool(optimization.patience) and validation is not None
        callbacks.append(_TimeEstimate(optimization.max_epochs, may_stop_early=may_stop_early))
    if compute.progress_bar:
        callbacks.append(_ProgressBar(optimization.max_epochs, keeper.history))
    with _quiet_lightning():
        trainer = L.Trainer(
            **_machines(compute),
            precision=compute.precision,  # type: ignore[arg-type]
            max_epochs=optimization.max_epochs,
            accumulate_grad_batches=optimization.accumulate,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        ours = _Feed(training, compute.device)
        held_out = None if validation is None else _Feed(validation, compute.device)
        _interruptible(trainer, lambda: trainer.fit(plan, ours, held_out))
    model.to("cpu")
    if validation is not None:
        model.load_state_dict(keeper.best)
    model.eval()
    return keeper.history


def _machines(compute: Compute) -> dict[str, Any]:
    """Lightning's arguments for where to train."""
    device, processes = compute.device, compute.processes
    accelerator = "gpu" if device.type == "cuda" else device.type
    if len(processes) > 1:
        return {
            "accelerator": accelerator,
            "devices": processes.devices,
            "num_nodes": processes.num_nodes,
            "strategy": processes.strategy,
            "sync_batchnorm": device.type == "cuda",
        }
    if device.type != "cuda":
        return {"accelerator": accelerator, "devices": 1}
    return {
        "accelerator": accelerator,
        "devices": [torch.cuda.current_device() if device.index is None else device.index],
    }


class _Feed:
    """Batches, epoch after epoch, as the device wants them."""

    def __init__(self, batches: Batches | Sequences, device: torch.device) -> None:
        self._batches = batches
        self._device = device

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        return feed(self._batches, len(self), self._device)


class _Plan(L.LightningModule):
    def __init__(self, model: nn.Module, optimization: Optimization, n_batches: int) -> None:
        super().__init__()
        self.model = model
        self.training_losses = _Losses()
        self.validation_losses = _Losses()
        self._optimization = optimization
        self._n_batches = n_batches

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimization, parameters = self._optimization, self.model.parameters()
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[optimization.optimizer]
        arguments: dict[str, Any] = {"lr": optimization.lr, "weight_decay": optimization.weight_decay}
        if optimization.optimizer == "sgd":
            arguments["momentum"] = _MOMENTUM
        # one pass over the weights for a dozen: a fifth of a step of small heads
        return kind(parameters, **arguments, fused=self.device.type in ("cpu", "cuda"))

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch.to(device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if batch.turns is not None:
            batch = replace(batch, images=turn_each(batch.images, batch.turns), turns=None)
        loss: Tensor = self.model.loss(batch)  # type: ignore[operator]
        self.training_losses.add(loss, len(batch))
        # Lightning divides by `accumulate`; the last group of an epoch may hold fewer batches
        accumulate = self._optimization.accumulate
        first = batch_idx - batch_idx % accumulate
        return loss * (accumulate / min(accumulate, self._n_batches - first))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.validation_losses.add(self.model.loss(batch), len(batch))  # type: ignore[operator]


class _Losses:
    """Losses of an epoch, left on the device until its end: reading each would make the device wait."""

    def __init__(self) -> None:
        self._values: list[Tensor] = []
        self._spots: list[int] = []

    def add(self, loss: Tensor, n_spots: int) -> None:
        """Note the loss of a batch."""
        self._values.append(loss.detach())
        self._spots.append(n_spots)

    def __bool__(self) -> bool:
        return bool(self._values)

    def take_mean(self) -> Tensor:
        """The mean over all spots, and begin anew."""
        values = torch.stack(self._values).float()
        spots = torch.tensor(self._spots, dtype=torch.float32, device=values.device)
        self._values, self._spots = [], []
        return (values * spots).sum() / spots.sum()


class _BestEpoch(Callback):
    """Keeps the history and a copy of the best weights, tells the batches which epoch it is, and stops in time."""

    def __init__(self, plan: _Plan, batches: Batches | Sequences, *, patience: int) -> None:
        self._plan = plan
        self._batches = batches
        self._patience = patience
        self.history = History()
        self.best: dict[str, Tensor] = {}

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._batches.epoch = trainer.current_epoch

    # Lightning validates before it closes the training epoch: both losses are there only now
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # over processes too, so that all keep the same epoch and stop together, whatever their rounding
        train_loss, validation_loss = (
            float(trainer.strategy.reduce(losses.take_mean(), reduce_op="mean")) if losses else None
            for losses in (self._plan.training_losses, self._plan.validation_losses)
        )
        assert train_loss is not None  # noqa: S101 - no epoch is empty
        if not math.isfinite(train_loss) or not math.isfinite(validation_loss or 0):
            msg = (
                f"the loss became {train_loss} in training and {validation_loss} in validation at epoch "
                f"{trainer.current_epoch + 1}: training diverged. Lower `lr`, or raise `temperature`."
            )
            raise FloatingPointError(msg)
        history = self.history
        history.train_loss.append(train_loss)
        if validation_loss is None:
            history.best_epoch = trainer.current_epoch
            return
        if validation_loss < min(history.validation_loss, default=math.inf):
            history.best_epoch = trainer.current_epoch
            self.best = {
                name: value.detach().to("cpu", copy=True) for name, value in self._plan.model.state_dict().items()
            }
        history.validation_loss.append(validation_loss)
        if 0 < self._patience <= trainer.current_epoch - history.best_epoch:
            trainer.should_stop = True


class _Divide(Callback):
    """Gives each process its part of every batch, and random numbers of its own for dropout."""

    def __init__(self, *batches: Batches | Sequences | None) -> None:
        self._batches = [each for each in batches if isinstance(each, Batches)]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for batches in self._batches:
            batches.divide(trainer.global_rank, trainer.world_size)
        torch.manual_seed(torch.initial_seed() + trainer.global_rank)


class _TimeEstimate(Callback):
    """Says after a few steps how long the whole will take, and warns on a CPU where that is over an hour."""

    def __init__(self, max_epochs: int, *, may_stop_early: bool) -> None:
        self._max_epochs = max_epochs
        self._may_stop_early = may_stop_early
        self._started = 0.0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        done = trainer.current_epoch * int(trainer.num_training_batches) + batch_idx
        if done not in (0, _STEPS_BEFORE_ESTIMATE) or not trainer.is_global_zero:
            return
        if pl_module.device.type == "cuda":  # which the CPU runs ahead of
            torch.cuda.synchronize(pl_module.device)
        if done == 0:  # the first step warms up: time starts after it
            self._started = time.perf_counter()
            return
        per_step = (time.perf_counter() - self._started) / _STEPS_BEFORE_ESTIMATE
        seconds = per_step * int(trainer.num_training_batches) * self._max_epochs
        early = ", less if it stops early" if self._may_stop_early and self._max_epochs > 1 else ""
        epochs = f" for {self._max_epochs} epochs" if self._max_epochs > 1 else ""
        logger.info("Expected training time: about %s%s%s.", readable_time(seconds), epochs, early)
        if pl_module.device.type == "cpu" and seconds > _LONG_ON_CPU:
            warn(
                f"training will take up to about {readable_time(seconds)} on this CPU. Quicker: `encoder='color'` "
                "(minutes), `encoder='resnet18'`, ready-made features by `image_key=`, fewer `max_epochs`, or a GPU "
                "by `bleep_sc.settings.device`."
            )


class _ProgressBar(Callback):
    """One bar, of the first process, that moves once an epoch."""

    def __init__(self, max_epochs: int, history: History) -> None:
        self._max_epochs = max_epochs
        self._history = history
        self._bar: Any = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        from tqdm.auto import tqdm

        show = trainer.is_global_zero
        self._bar = tqdm(total=self._max_epochs, desc="Training", unit="epoch", leave=False, disable=not show)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        history = self._history
        losses = {"train_loss": history.train_loss, "validation_loss": history.validation_loss}
        self._bar.set_postfix({name: f"{values[-1]:.3f}" for name, values in losses.items() if values}, refresh=False)
        self._bar.update()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._bar.close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if self._bar is not None:
            self._bar.close()


def readable_time(seconds: float) -> str:
    """Seconds in the unit that a person would use."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


def _interruptible(trainer: L.Trainer, run: Callable[[], None]) -> None:
    """Run, and raise KeyboardInterrupt on Ctrl-C: Lightning turns it into SystemExit and leaves SIGINT ignored."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        run()
    except SystemExit as err:
        if trainer.interrupted:
            raise KeyboardInterrupt from err
        raise
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's own banners and hints from a user who never asked for Lightning."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [log.level for log in loggers]
    try:
        for log in loggers:
            log.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", category=UserWarning, message=".*does not have many workers.*")
            yield
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)
