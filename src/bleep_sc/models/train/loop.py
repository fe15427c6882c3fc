"""Train a network by Lightning's training loop, behind one function of arrays."""

import logging
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bleep_sc._logging import logger
from bleep_sc.models.device import Compute
from bleep_sc.models.train.at_once import EndedTogether, EndTogether
from bleep_sc.models.train.augment import turn_each
from bleep_sc.models.train.batches import Batch, Batches, Sequences
from bleep_sc.models.train.checkpoints import Checkpoints
from bleep_sc.models.train.engine import Callback, L, LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment
from bleep_sc.models.train.history import History, Standing
from bleep_sc.models.train.prefetch import feed
from bleep_sc.models.train.reports import ProgressBar, TimeEstimate
from bleep_sc.models.train.resume import Resume
from bleep_sc.models.train.signals import OwnSigterm, interruptible

_MOMENTUM = 0.9


@dataclass(frozen=True)
class Optimization:
    """Settings of gradient descent; the values of a run come from its preset."""

    lr: float
    weight_decay: float
    max_epochs: int
    patience: int
    """Number of epochs without a better validation loss before training stops; 0 never stops early."""
    accumulate: int = 1
    """Number of batches whose gradients are averaged for one step."""
    optimizer: str = "adamw"
    """Name of the optimiser: ``"adamw"``, ``"adam"`` or ``"sgd"`` (with momentum 0.9)."""


def train(
    model: nn.Module,
    training: Batches | Sequences,
    validation: Batches | Sequences | None,
    *,
    optimization: Optimization,
    compute: Compute,
    announce: bool = True,
    checkpoints: Checkpoints | None = None,
    random: torch.Generator | None = None,
) -> History:
    """Train in place and leave the model, in evaluation mode on the CPU, with the weights of its best epoch.

    Without `validation` the best epoch is the last. `announce` logs after a few steps how long training will take. The
    state of the training is written to `checkpoints` after each epoch, and training goes on from what is there.

    `model.loss(batch)` is minimised. It draws from `random`; without one from torch's random state, which the caller
    forks. Several processes (`compute.processes`) divide each batch, which must be of `Batches`. All end with the same
    weights. Of several trainings at once (`at_once`), all end where one of them is interrupted.
    """
    max_epochs, patience = optimization.max_epochs, optimization.patience
    plan = _Plan(model, optimization, len(training))
    standing = Standing()
    callbacks: list[Callback] = [
        OwnSigterm(),
        EndTogether(),
        _EachEpoch(plan, training, standing, patience=patience, resumable=checkpoints is not None),
    ]
    if len(compute.processes) > 1:
        callbacks.append(_Divide(training, validation))
    if checkpoints is not None:
        resume = Resume(checkpoints, model, standing, max_epochs=max_epochs, announce=announce, random=random)
        callbacks.append(resume)
    if announce:
        callbacks.append(TimeEstimate(may_stop_early=bool(patience) and validation is not None))
    if compute.progress_bar:
        callbacks.append(ProgressBar(max_epochs, standing))
    with _QUIET:
        trainer = L.Trainer(
            **_machines(compute),
            precision=compute.precision,  # type: ignore[arg-type]
            # Lightning counts the epochs of this run alone, and knows of no earlier ones
            max_epochs=standing.history.epochs_left(max_epochs, patience),
            accumulate_grad_batches=optimization.accumulate,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            # on a cluster it would look here for a checkpoint of its own, left by whatever program, and unpickle it
            default_root_dir=os.devnull,
        )
        ours = _Feed(training, compute.device)
        held_out = None if validation is None else _Feed(validation, compute.device)
        try:
            interruptible(lambda: trainer.fit(plan, ours, held_out))
        except (KeyboardInterrupt, EndedTogether):
            if trainer.is_global_zero:
                logger.info(_interrupted(standing.history, max_epochs, checkpoints))
            raise
    model.to("cpu")
    if validation is not None:
        model.load_state_dict(standing.best)
    model.eval()
    return standing.history


def _interrupted(history: History, max_epochs: int, checkpoints: Checkpoints | None) -> str:
    done = history.epochs
    message = f"Interrupted after epoch {done} of {max_epochs}."
    if checkpoints is not None:
        return f"{message} The same call goes on from epoch {done + 1}, with the checkpoints in {checkpoints.path}."
    message += " Pass `checkpoint_dir` to be able to go on"
    return message + (f", or `max_epochs={history.best_epoch + 1}` to stop at the best epoch so far." if done else ".")


def _machines(compute: Compute) -> dict[str, Any]:
    """Return the arguments that tell Lightning where to train."""
    device, processes = compute.device, compute.processes
    accelerator = "gpu" if device.type == "cuda" else device.type
    if len(processes) > 1:
        in_slurm = SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()
        return {
            "accelerator": accelerator,
            "devices": processes.devices,
            "num_nodes": processes.num_nodes,
            "strategy": processes.strategy,
            "sync_batchnorm": device.type == "cuda",
            # without its own answer to a signal of SLURM's, to write a checkpoint where the user stands and queue again
            "plugins": [SLURMEnvironment(auto_requeue=False)] if in_slurm else None,
        }
    index = torch.cuda.current_device() if device.type == "cuda" and device.index is None else device.index
    return {
        "accelerator": accelerator,
        "devices": [index] if device.type == "cuda" else 1,
        # one process, whatever a cluster's variables say of others
        "plugins": [LightningEnvironment()],
    }


class _Feed:
    """An iterable of the batches of each epoch, made ready for the device."""

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
    """The losses of an epoch. They are left on the device until its end: reading each would make the device wait."""

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
        """Return the mean over all spots, and begin again."""
        values = torch.stack(self._values).float()
        spots = torch.tensor(self._spots, dtype=torch.float32, device=values.device)
        self._values, self._spots = [], []
        return (values * spots).sum() / spots.sum()


class _EachEpoch(Callback):
    """Tells the batches which epoch it is, notes its losses and the best weights, and stops in time."""

    def __init__(
        self, plan: _Plan, batches: Batches | Sequences, standing: Standing, *, patience: int, resumable: bool
    ) -> None:
        self._plan = plan
        self._batches = batches
        self._standing = standing
        self._patience = patience
        self._resumable = resumable

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._batches.epoch = self._standing.history.epochs

    # Lightning validates before it closes the training epoch: both losses are there only now
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # over processes too, so that all keep the same epoch and stop together, whatever their rounding
        train_loss, validation_loss = (
            float(trainer.strategy.reduce(losses.take_mean(), reduce_op="mean")) if losses else None
            for losses in (self._plan.training_losses, self._plan.validation_losses)
        )
        assert train_loss is not None  # noqa: S101 - no epoch is empty
        # a loss is that of the weights before its step, and need not show all of them
        weights = float(trainer.strategy.reduce(_total(self._plan.model), reduce_op="mean"))
        if not all(math.isfinite(value) for value in (train_loss, validation_loss or 0, weights)):
            raise FloatingPointError(self._diverged(train_loss, validation_loss, precision=str(trainer.precision)))
        history = self._standing.history
        epoch = history.epochs
        history.train_loss.append(train_loss)
        if validation_loss is None:
            history.best_epoch = epoch
            return
        if validation_loss < min(history.validation_loss, default=math.inf):
            history.best_epoch = epoch
            self._standing.best = {
                name: value.detach().to("cpu", copy=True) for name, value in self._plan.model.state_dict().items()
            }
        history.validation_loss.append(validation_loss)
        if history.has_waited(self._patience):
            trainer.should_stop = True

    def _diverged(self, train_loss: float, validation_loss: float | None, *, precision: str) -> str:
        history = self._standing.history
        losses = f"{train_loss} in training"
        if validation_loss is not None:
            losses += f" and {validation_loss} in validation"
        if math.isfinite(train_loss) and math.isfinite(validation_loss or 0):
            cause = f"the weights became NaN or infinite (with a loss of {losses})"
        else:
            cause = f"the loss became {losses}"
        message = (
            f"{cause} at epoch {history.epochs + 1}: training diverged. Lower `lr`, or raise `temperature` where the "
            "method has one"
        )
        message += "." if precision == "32-true" else f", or pass `precision='32'` in place of {precision!r}."
        if history.validation_loss:
            best = history.best_epoch + 1
            at_once = ", at once from the checkpoints" if self._resumable else ""
            message += (
                f" The best weights before were those of epoch {best}: the same call with `max_epochs={best}` gives "
                f"them{at_once}."
            )
        elif history.train_loss and (lowest := int(np.nanargmin([*history.train_loss, train_loss]))):
            # a loss of training is that of the weights with which its epoch began, or later ones
            elsewhere = " and another `checkpoint_dir`" if self._resumable else ""
            message += (
                f" The training loss was lowest after epoch {lowest}: the same call with `max_epochs={lowest}`"
                f"{elsewhere} gives the weights of then."
            )
        return message


def _total(model: nn.Module) -> Tensor:
    """Compute the sum of all weights, which is NaN or infinite if one of them is."""
    values = [value for value in model.state_dict().values() if value.is_floating_point()]
    return torch.stack([value.sum(dtype=torch.float32) for value in values]).sum()


class _Divide(Callback):
    """A callback that gives each process its part of every batch, and random numbers of its own for dropout."""

    def __init__(self, *batches: Batches | Sequences | None) -> None:
        self._batches = [source for source in batches if isinstance(source, Batches)]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for batches in self._batches:
            batches.divide(trainer.global_rank, trainer.world_size)
        torch.manual_seed(torch.initial_seed() + trainer.global_rank)


class _Quiet:
    """A ``with`` block that keeps Lightning's own banners and hints from a user who never asked for Lightning.

    What it sets holds for all threads: of several trainings at once the first sets it, and the last puts it back.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._block = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._block.enter_context(_quiet_lightning())
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._block.close()


_QUIET = _Quiet()


@contextmanager
def _quiet_lightning() -> Iterator[None]:
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
