"""Let a training go on where an earlier one was ended, as if it had never stopped."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bleep_sc._logging import logger
from bleep_sc.models.train.checkpoints import Checkpoint, Checkpoints
from bleep_sc.models.train.engine import Callback, L
from bleep_sc.models.train.history import History, Standing
from bleep_sc.models.train.randomness import shared_state


class Resume(Callback):
    """A callback that goes on from the newest checkpoint, if there is one, and writes one after each epoch.

    A checkpoint holds all that the next epoch depends on. These are weights, the optimiser's averages, the random state
    of every process, how far training has come and, in float16, the scale of gradients. Which spots make a batch, and
    how they are turned, depends on seed and epoch alone.

    Parameters
    ----------
    checkpoints
        Checkpoints of this training, to read and to write.
    model, standing
        The model that is trained, and what its training has brought so far. Both are set to what the checkpoint says.
    max_epochs
        Largest number of epochs. A checkpoint of more epochs serves if its best epoch is within these.
    announce
        Whether to log that nothing is left to do. That training goes on from an epoch is always logged.
    random
        The generator that the model draws from; None: torch's random state.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        model: nn.Module,
        standing: Standing,
        *,
        max_epochs: int,
        announce: bool,
        random: torch.Generator | None,
    ) -> None:
        self._checkpoints = checkpoints
        self._model = model
        self._standing = standing
        self._max_epochs = max_epochs
        self._announce = announce
        self._random = random
        self._found = checkpoints.newest()
        if self._found is not None:
            standing.history = _history(self._found).first(max_epochs)
            if standing.history.best_epoch >= max_epochs:
                msg = (
                    f"`max_epochs={max_epochs}`, but the best weights in {str(self._found.path)!r} are those of epoch "
                    f"{standing.history.best_epoch + 1}: earlier ones are not kept. Pass at least as many epochs, or "
                    "another `checkpoint_dir` to train again."
                )
                raise ValueError(msg)
            model.load_state_dict(_part(self._found.tensors, "model."))
            standing.best = _part(self._found.tensors, "best.")

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Make sure that all processes found the same checkpoint, and log where training goes on."""
        done = self._standing.history.epochs
        everywhere = trainer.strategy.all_gather(torch.tensor([done], device=pl_module.device))
        if (everywhere != done).any():
            msg = (
                f"the processes found checkpoints of {sorted(set(everywhere.flatten().tolist()))} epochs in "
                f"`checkpoint_dir={str(self._checkpoints.path)!r}`: all machines must see the same folder."
            )
            raise ValueError(msg)
        if self._found is None or not trainer.is_global_zero:
            return
        if trainer.max_epochs:
            logger.info("Resuming from epoch %d of %d, with %s.", done + 1, self._max_epochs, self._found.path)
        elif self._announce:
            logger.info("Nothing is left to train: %s is complete after %d epochs.", self._found.path, done)

    # once everything is set up, so that nothing draws random numbers after this
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Set the optimiser and the random states, which only exist now."""
        if self._found is None:
            return
        tensors = self._found.tensors
        (optimizer,) = trainer.optimizers
        optimizer.load_state_dict(
            optimizer.state_dict() | {"state": _state_of(optimizer, _part(tensors, "optimizer."))}
        )
        trainer.precision_plugin.load_state_dict(self._found.facts["precision"])
        for device, states in _part(tensors, "random.").items():
            # a copy: of a row within a larger tensor PyTorch dies
            state = states[trainer.global_rank].clone()
            if self._random is None:
                shared_state(device).set_rng_state(state)
            elif device == self._random.device.type:
                self._random.set_state(state)
        self._found = None  # its memory is free now

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write a checkpoint."""
        # each process has masks of its own, and the first writes for all
        random = {
            f"random.{device}": trainer.strategy.all_gather(state.to(pl_module.device))
            for device, state in self._random_states(pl_module.device.type).items()
        }
        if not trainer.is_global_zero:
            return
        (optimizer,) = trainer.optimizers
        history = self._standing.history
        tensors = {
            **_named("model.", self._model.state_dict()),
            **_named("best.", self._standing.best),
            **_named("optimizer.", _flatten(optimizer.state_dict()["state"])),
            **{name: states.reshape(trainer.world_size, -1) for name, states in random.items()},
            "history.train_loss": torch.tensor(history.train_loss, dtype=torch.float64),
            "history.validation_loss": torch.tensor(history.validation_loss, dtype=torch.float64),
        }
        facts = {"best_epoch": history.best_epoch, "precision": trainer.precision_plugin.state_dict()}
        self._checkpoints.write(history.epochs, tensors, facts)

    def _random_states(self, device: str) -> dict[str, Tensor]:
        if self._random is not None:
            return {self._random.device.type: self._random.get_state()}
        return {name: shared_state(name).get_rng_state() for name in dict.fromkeys(("cpu", device))}

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Wait for all processes, so that none reads what the first is still writing."""
        trainer.strategy.barrier()


def _history(checkpoint: Checkpoint) -> History:
    losses = {name: checkpoint.tensors[f"history.{name}"].tolist() for name in ("train_loss", "validation_loss")}
    return History(**losses, best_epoch=checkpoint.facts["best_epoch"])


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in tensors.items()}


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _flatten(state: Mapping[int, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Turn an optimiser's state into one mapping, with a tensor for each name of each weight."""
    return {f"{weight}.{name}": value for weight, values in state.items() for name, value in values.items()}


def _state_of(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Turn such a mapping back into an optimiser's state.

    Each tensor gets the memory layout of its weight, which a file does not tell. Fused optimisers walk through both
    side by side: with another layout (``channels_last``) they would mix elements up.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for path, value in tensors.items():
        number, name = path.split(".", 1)
        weight = weights[int(number)]
        if value.shape == weight.shape:
            value = torch.empty_like(weight, dtype=value.dtype, device="cpu").copy_(value)
        state.setdefault(int(number), {})[name] = value
    return state
