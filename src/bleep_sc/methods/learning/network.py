"""Trains a network on arrays, whatever the method: batches, seeds, logs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from bleep_sc._logging import logger, warn
from bleep_sc.methods.record import Method
from bleep_sc.methods.task import Task
from bleep_sc.models.device import Compute
from bleep_sc.models.encoders.networks import ImageNetwork
from bleep_sc.models.nets.arguments import Arguments
from bleep_sc.models.nets.heads import MeanHead
from bleep_sc.models.nets.projection import Standardize
from bleep_sc.models.search.spread import Spread
from bleep_sc.models.train.batches import Batches, Sequences, take
from bleep_sc.models.train.history import History
from bleep_sc.models.train.loop import Optimization, train
from bleep_sc.models.train.randomness import borrowed_random_state

EpochBatches = tuple[Batches | Sequences, Batches | Sequences | None]
"""The batches of training, and those of validation where spots are held out."""

_SPOTS_FOR_CHANNELS = 12 * 32
"""The number of spots on which channel statistics are estimated: ST-Net takes twelve batches of 32."""


def encoder_arguments(task: Task[Any], *, standardize: bool | None = None) -> dict[str, Any]:
    """Make those of a model's arguments that describe its encoder."""
    is_image = task.spots.kind.is_image
    width = int(task.spots.rows.shape[1])
    return {
        "encoder": task.spots.encoder if is_image else None,
        "image_size": width if is_image else None,
        "n_image_features": None if is_image else width,
        "standardize": not is_image if standardize is None else standardize,
    }


def check_divides(compute: Compute, method: Method[Any], recipe: Any, held_out: np.ndarray) -> None:
    """Refuse several processes where they cannot train together, before any work."""
    n_processes = len(compute.processes)
    if n_processes == 1:
        return
    if not method.divides:
        remedy = (
            method.cannot_divide
            or "'bleep' with a network, 'stnet' and 'regressor' can be. Leave `devices` and `num_nodes` at 1."
        )
        msg = f"`method={method.name!r}` cannot be trained by {n_processes} processes together: {remedy}"
        raise ValueError(msg)
    for what, n in (("training", int((~held_out).sum())), ("validation", int(held_out.sum()))):
        # batches are equal to within one spot
        smallest = n // -(-n // recipe.batch_size) if n else n_processes
        if smallest < n_processes:
            msg = (
                f"batches of {smallest} {what} spots cannot be divided among {n_processes} processes. Take fewer, or "
                "raise `batch_size`" + (" or `validation_share`." if what == "validation" else ".")
            )
            raise ValueError(msg)


def check_batch_norm(compute: Compute, arguments: Arguments) -> None:
    """Refuse batch normalisation over processes on a CPU, for which PyTorch has none."""
    if len(compute.processes) == 1 or compute.device.type == "cuda":
        return
    with torch.device("meta"):  # the layers alone: no weights are drawn or read
        model = arguments.build()
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        msg = (
            f"`encoder={arguments.spec()['encoder']!r}` has batch normalisation, whose statistics PyTorch joins over "
            f"processes on CUDA alone: {len(compute.processes)} processes on {compute.device.type!r} would train "
            "another model. Pass `devices=1` and `num_nodes=1`, use GPUs, take an encoder without it "
            "(`encoder='vit_b_16'`), or ready-made features by `image_key`."
        )
        raise ValueError(msg)


def train_network(
    task: Task[Any],
    arguments: Arguments,
    *,
    batches: EpochBatches | None = None,
    accumulate: int = 1,
    learn_channels: bool = False,
) -> tuple[nn.Module, History]:
    """Build a model and train it on the spots that are not held out.

    Parameters
    ----------
    batches
        What an epoch goes through; None: random batches of spots.
    accumulate
        Batches whose gradients are averaged for one step.
    learn_channels
        Whether a network's input is normalised by the training spots' own mean and spread.
    """
    check_batch_norm(task.compute, arguments)
    recipe = task.recipe
    rows = np.flatnonzero(~task.held_out)
    training, validation = _random_batches(task, rows) if batches is None else batches
    start = ""
    if arguments.spec().get("encoder") is not None:
        start = ", random weights" if task.weights is None else f", weights {str(task.weights)!r}"
    logger.info(
        "Training on %d spots in %d batches an epoch, %d spots held out for validation; image encoder %s%s; %d genes; "
        "on %s.",
        len(rows),
        len(training),
        task.held_out.sum(),
        task.spots.encoder,
        start,
        task.expression.matrix.shape[1],
        task.compute,
    )
    with seeded(task.compute, task.seed):
        model = arguments.build(weights=task.weights)
        _learn_statistics(model, task, rows, learn_channels=learn_channels)
        optimization = Optimization(
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            max_epochs=recipe.max_epochs,
            patience=recipe.patience,
            accumulate=accumulate,
            optimizer=recipe.optimizer,
        )
        history = train(
            model,
            training,
            validation,
            optimization=optimization,
            compute=task.compute,
            checkpoints=task.checkpoints("network"),
        )
    best = history.best_epoch
    logger.info(
        "%s epoch %d of %d: training loss %.3f%s.",
        "Last" if validation is None else "Best",
        best + 1,
        len(history.train_loss),
        history.train_loss[best],
        "" if validation is None else f", validation loss {history.validation_loss[best]:.3f}",
    )
    return model, history


@contextmanager
def seeded(compute: Compute, seed: int) -> Iterator[None]:
    """Set Torch's random state to the seed for the length of a ``with`` block, of one thread at a time."""
    device = compute.device
    with borrowed_random_state([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def report_spread(spread: Spread) -> None:
    """Say how far the joint space is from collapse, and warn where it is near."""
    logger.info("The joint space: %s.", spread)
    if spread.collapsed:
        warn(
            f"the model has nearly collapsed, so most spots will get much the same profile: {spread}. Common reasons: "
            "too few epochs, a large network from random weights, a learning rate too high. Try pretrained weights, "
            "`encoder='color'`, more `max_epochs` or a lower `lr`."
        )


def _random_batches(task: Task[Any], rows: np.ndarray) -> EpochBatches:
    images, expression, size = task.spots.rows, task.expression.matrix, task.recipe.batch_size
    held_out = np.flatnonzero(task.held_out)
    training = Batches(images, expression, rows, batch_size=size, seed=task.seed, augment=task.spots.kind.is_image)
    return training, Batches(images, expression, held_out, batch_size=size) if len(held_out) else None


def _learn_statistics(model: nn.Module, task: Task[Any], rows: np.ndarray, *, learn_channels: bool) -> None:
    """Let the layers that begin from statistics of the training spots learn them."""
    for module in model.modules():
        if isinstance(module, Standardize):
            module.learn(take(task.spots.rows, rows))
        elif isinstance(module, MeanHead):
            module.start_at(torch.from_numpy(task.expression.matrix[rows].mean(axis=0, dtype=np.float64)))
        elif isinstance(module, ImageNetwork) and learn_channels:
            channel_rows = np.random.default_rng(task.seed).permutation(rows)[:_SPOTS_FOR_CHANNELS]
            module.learn(take(task.spots.rows, np.sort(channel_rows)))
