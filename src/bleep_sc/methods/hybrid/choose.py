"""Chooses the blend of the default recipe on held-out parts of the reference."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from bleep_sc._logging import logger
from bleep_sc._progress import progress
from bleep_sc._stats import panels
from bleep_sc.methods.hybrid.blend import Blend, HeldOutPart, choose_blend
from bleep_sc.methods.hybrid.component_models import ComponentModels, LearnedSpots
from bleep_sc.methods.task import Task

_MOST_TO_CHOOSE_ON = 4000
"""The most training spots of a fold when the blend is chosen: more would not make the choice finer."""


def choose_on_folds(task: Task[Any], spots: LearnedSpots) -> Blend:
    """Predict each held-out part of the reference from the rest, by every model, and take the best blend."""
    blend, score = choose_blend(list(_held_out_parts(task, spots)))
    logger.info(
        "Chosen on held-out parts of the reference (Pearson %.3f): %s.",
        score,
        ", ".join(f"{weight:.0%} {model}" for model, weight in blend.weights.items() if weight),
    )
    return blend


def _held_out_parts(task: Task[Any], spots: LearnedSpots) -> Iterator[HeldOutPart]:
    rng = np.random.default_rng(task.seed)
    quiet = replace(task.compute, progress_bar=False)
    genes = task.expression.genes
    folds = progress(task.folds, desc="Choosing the blend", show=task.compute.progress_bar)
    for number, (training, held_out_parts) in enumerate(folds, start=1):
        if len(training) > _MOST_TO_CHOOSE_ON:
            training = np.sort(rng.choice(training, _MOST_TO_CHOOSE_ON, replace=False))
        training_spots = spots.at_rows(training)
        models = ComponentModels.learn(
            training_spots,
            task.recipe,
            compute=quiet,
            seed=task.seed,
            announce=False,
            checkpoints=task.checkpoints(f"fold{number}"),
        )
        leading = np.isin(genes, panels(training_spots.expression, genes, training_spots.sections)["HVG-50"])
        for held_out in held_out_parts:
            predicted = models.predict(spots.features[held_out])
            yield HeldOutPart(spots.expression[held_out], models.components.loadings, leading, predicted)
