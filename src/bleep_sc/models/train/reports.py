"""Show a user how long a training will take, and a progress bar."""

import time
from typing import Any

import torch

from bleep_sc._logging import logger, warn
from bleep_sc.models.train.engine import Callback, L
from bleep_sc.models.train.history import Standing

_STEPS_BEFORE_ESTIMATE = 3
_LONG_ON_CPU = 3600.0


class TimeEstimate(Callback):
    """Log after a few steps how long the whole training will take, and warn on a CPU where that is over an hour."""

    def __init__(self, *, may_stop_early: bool) -> None:
        self._may_stop_early = may_stop_early
        self._started = 0.0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Time the steps after the first one, and report once."""
        done = trainer.current_epoch * int(trainer.num_training_batches) + batch_idx
        if done not in (0, _STEPS_BEFORE_ESTIMATE) or not trainer.is_global_zero:
            return
        if pl_module.device.type == "cuda":  # which the CPU runs ahead of
            torch.cuda.synchronize(pl_module.device)
        if done == 0:  # the first step warms up: time starts after it
            self._started = time.perf_counter()
            return
        per_step = (time.perf_counter() - self._started) / _STEPS_BEFORE_ESTIMATE
        n_epochs = int(trainer.max_epochs or 0)  # those that are left
        seconds = per_step * int(trainer.num_training_batches) * n_epochs
        early = ", less if it stops early" if self._may_stop_early and n_epochs > 1 else ""
        epochs = f" for {n_epochs} epochs" if n_epochs > 1 else ""
        logger.info("Expected training time: about %s%s%s.", readable_time(seconds), epochs, early)
        if pl_module.device.type == "cpu" and seconds > _LONG_ON_CPU:
            warn(
                f"training will take up to about {readable_time(seconds)} on this CPU. Quicker: `encoder='color'` "
                "(minutes), `encoder='resnet18'`, ready-made features by `image_key=`, fewer `max_epochs`, or a GPU "
                "by `bleep_sc.settings.device`."
            )


class ProgressBar(Callback):
    """One progress bar, shown by the first process, that moves once an epoch."""

    def __init__(self, max_epochs: int, standing: Standing) -> None:
        self._max_epochs = max_epochs
        self._standing = standing
        self._bar: Any = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the bar, beginning at the epochs that are done."""
        from tqdm.auto import tqdm

        self._bar = tqdm(
            desc="Training",
            initial=self._standing.history.epochs,
            total=self._max_epochs,
            unit="epoch",
            leave=False,
            disable=not trainer.is_global_zero,
        )

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Move the bar, and show the losses."""
        history = self._standing.history
        losses = {"train_loss": history.train_loss, "validation_loss": history.validation_loss}
        self._bar.set_postfix({name: f"{values[-1]:.3f}" for name, values in losses.items() if values}, refresh=False)
        self._bar.update()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the bar away."""
        self._bar.close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Take the bar away, whatever has happened."""
        if self._bar is not None:
            self._bar.close()


def readable_time(seconds: float) -> str:
    """Put seconds into the unit that a person would use."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
