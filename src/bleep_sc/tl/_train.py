"""Training of BLEEP on arrays: what `fit` does between reading from AnnData and writing to it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bleep_sc._logging import logger, warn
from bleep_sc.models.batches import Batches, take
from bleep_sc.models.bleep import Bleep, build_bleep
from bleep_sc.models.device import Compute
from bleep_sc.models.diagnose import Spread, measure_spread
from bleep_sc.models.embedding import embed_in_batches
from bleep_sc.models.projection import Standardize
from bleep_sc.models.training import History, Optimization, train
from bleep_sc.tl._images import ImageInput
from bleep_sc.tl._presets import Recipe


@dataclass(frozen=True)
class Trained:
    """A trained model with what it makes of the reference."""

    model: Bleep
    history: History
    image_embedding: np.ndarray
    expression_embedding: np.ndarray
    spread: Spread


def model_spec(images: ImageInput, n_genes: int, recipe: Recipe) -> dict[str, Any]:
    """Return what `build_bleep` needs to build the same model again."""
    network = images.kind == "network"
    return {
        "encoder": images.encoder if network else None,
        "image_size": int(images.rows.shape[1]) if network else None,
        "n_image_features": None if network else int(images.rows.shape[1]),
        "n_genes": int(n_genes),
        "dim": recipe.dim,
        "dropout": recipe.dropout,
        "temperature": recipe.temperature,
    }


def train_bleep(
    images: ImageInput,
    expression: np.ndarray,
    *,
    held_out: np.ndarray,
    recipe: Recipe,
    weights: str | Path | None,
    seed: int,
    compute: Compute,
) -> Trained:
    """Train on the spots that are not held out, then embed all of them."""
    network = images.kind == "network"
    rows = np.flatnonzero(~held_out)
    training = Batches(images.rows, expression, rows, batch_size=recipe.batch_size, seed=seed, augment=network)
    validation = Batches(images.rows, expression, np.flatnonzero(held_out), batch_size=recipe.batch_size)
    start = "" if not network else ", random weights" if weights is None else f", weights {str(weights)!r}"
    logger.info(
        "Training on %d spots in %d batches an epoch, %d spots held out for validation; image encoder %s%s; %d genes; "
        "on %s.",
        len(rows),
        len(training),
        held_out.sum(),
        images.encoder,
        start,
        expression.shape[1],
        compute,
    )
    with torch.random.fork_rng(devices=[compute.device] if compute.device.type == "cuda" else []):
        torch.manual_seed(seed)
        model = build_bleep(model_spec(images, expression.shape[1], recipe), weights=weights)
        if isinstance(model.image_encoder, Standardize):
            model.image_encoder.learn(take(images.rows, rows))
        optimization = Optimization(
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            max_epochs=recipe.max_epochs,
            patience=recipe.patience,
            accumulate=recipe.accumulate,
        )
        history = train(model, training, validation, optimization=optimization, compute=compute)

    model.to(compute.device)
    image = embed_in_batches(model.embed_image, images.rows, compute=compute, desc="Embedding images")
    profile = embed_in_batches(model.embed_expression, expression, compute=compute, desc="Embedding expression")
    spread = measure_spread(image, profile)
    _report(history, spread)
    return Trained(model, history, image, profile, spread)


def _report(history: History, spread: Spread) -> None:
    best = history.best_epoch
    logger.info(
        "Best epoch %d of %d: training loss %.3f, validation loss %.3f; %s.",
        best + 1,
        len(history.train_loss),
        history.train_loss[best],
        history.validation_loss[best],
        spread,
    )
    if spread.collapsed:
        warn(
            f"the model has nearly collapsed, so most spots will get much the same profile: {spread}. Common reasons: "
            "too few epochs, a large network from random weights, a learning rate too high. Try pretrained weights, "
            "`encoder='color'`, more `max_epochs` or a lower `lr`."
        )
