"""The training loop: Lightning's, kept behind one function of arrays."""

import copy
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
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch import Tensor, nn

from bleep_sc._logging import logger, warn
from bleep_sc.models.augment import turn_each
from bleep_sc.models.batches import Batch, Batches, Sequences
from bleep_sc.models.device import Compute

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

    `model.loss(batch)` is minimised. Uses torch's global random state (dropout): the caller forks it.
    """
    plan = _Plan(model, optimization, len(training))
    keeper = _BestEpoch(model, training)
    callbacks: list[Callback] = [keeper]
    may_stop_early = bool(optimization.patience) and validation is not None
    if announce:
        callbacks.append(_TimeEstimate(optimization.max_epochs, may_stop_early=may_stop_early))
    if may_stop_early:
        callbacks.append(EarlyStopping("validation_loss", patience=optimization.patience, check_finite=False))
    if compute.progress_bar:
        callbacks.append(_ProgressBar(optimization.max_epochs))
    with _quiet_lightning():
        trainer = L.Trainer(
            accelerator="gpu" if compute.device.type == "cuda" else compute.device.type,
            devices=[compute.device.index or 0] if compute.device.type == "cuda" else 1,
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
        _interruptible(trainer, lambda: trainer.fit(plan, training, validation))
    model.to("cpu").load_state_dict(keeper.best)
    model.eval()
    return keeper.history


class _Plan(L.LightningModule):
    def __init__(self, model: nn.Module, optimization: Optimization, n_batches: int) -> None:
        super().__init__()
        self.model = model
        self._optimization = optimization
        self._n_batches = n_batches

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimization, parameters = self._optimization, self.model.parameters()
        if optimization.optimizer == "sgd":
            return torch.optim.SGD(
                parameters, lr=optimization.lr, momentum=_MOMENTUM, weight_decay=optimization.weight_decay
            )
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optimization.optimizer]
        return kind(parameters, lr=optimization.lr, weight_decay=optimization.weight_decay)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch.to(device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if batch.turns is not None:
            batch = replace(batch, images=turn_each(batch.images, batch.turns), turns=None)
        loss: Tensor = self.model.loss(batch)  # type: ignore[operator]
        self.log("train_loss", loss.detach(), on_step=False, on_epoch=True, batch_size=len(batch))
        # Lightning divides by `accumulate`; the last group of an epoch may hold fewer batches
        accumulate = self._optimization.accumulate
        first = batch_idx - batch_idx % accumulate
        return loss * (accumulate / min(accumulate, self._n_batches - first))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        loss = self.model.loss(batch)  # type: ignore[operator]
        self.log("validation_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch))


class _BestEpoch(Callback):
    """Keeps the history and a copy of the best weights; tells the batches which epoch it is."""

    def __init__(self, model: nn.Module, batches: Batches | Sequences) -> None:
        self._model = model
        self._batches = batches
        self.history = History()
        self.best: dict[str, Tensor] = {}

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._batches.epoch = trainer.current_epoch

    # Lightning validates before it closes the training epoch: both losses are there only now
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        train_loss = float(trainer.callback_metrics["train_loss"])
        found = trainer.callback_metrics.get("validation_loss")
        validation_loss = None if found is None else float(found)
        if not math.isfinite(train_loss) or not math.isfinite(validation_loss or 0):
            msg = (
                f"the loss became {train_loss} in training and {validation_loss} in validation at epoch "
                f"{trainer.current_epoch + 1}: training diverged. Lower `lr`, or raise `temperature`."
            )
            raise FloatingPointError(msg)
        history = self.history
        if validation_loss is None or validation_loss < min(history.validation_loss, default=math.inf):
            history.best_epoch = trainer.current_epoch
            self.best = {name: copy.deepcopy(value.cpu()) for name, value in self._model.state_dict().items()}
        history.train_loss.append(train_loss)
        if validation_loss is not None:
            history.validation_loss.append(validation_loss)


class _TimeEstimate(Callback):
    """Says after a few steps how long the whole will take, and warns on a CPU where that is over an hour."""

    def __init__(self, max_epochs: int, *, may_stop_early: bool) -> None:
        self._max_epochs = max_epochs
        self._may_stop_early = may_stop_early
        self._started: float | None = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        done = trainer.current_epoch * int(trainer.num_training_batches) + batch_idx
        if done == 0:  # the first step warms up: time starts after it
            self._started = time.perf_counter()
        if self._started is None or done != _STEPS_BEFORE_ESTIMATE:
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
    def __init__(self, max_epochs: int) -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(total=max_epochs, desc="Training", unit="epoch", leave=False)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        losses = {name: f"{float(value):.3f}" for name, value in trainer.callback_metrics.items()}
        self._bar.set_postfix(losses, refresh=False)
        self._bar.update()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._bar.close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
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
