"""Makes models of what is solved in closed form, or not trained at all."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from bleep_sc._logging import logger
from bleep_sc._side_effects import threads_for
from bleep_sc.methods.hybrid.in_section import SectionView
from bleep_sc.methods.learning.heldout import choose_alpha, say_if_next_to_nothing
from bleep_sc.methods.learning.network import encoder_arguments, seeded
from bleep_sc.methods.learning.ridge_regression import Ridge, component_scores, fit_ridge
from bleep_sc.methods.task import Fitted, Task
from bleep_sc.models.inference import embed_in_batches
from bleep_sc.models.nets.arguments import BuiltEncoder
from bleep_sc.models.nets.feature_space import FeatureArguments
from bleep_sc.models.nets.heads import MeanHead
from bleep_sc.models.nets.regressor import Regressor, RegressorArguments
from bleep_sc.models.nets.rules import NUMBER, Rule, each

RIDGE_CONFIG: Mapping[str, Rule] = {"chosen": each(NUMBER)}
"""The rules for a ridge regression's own part of a config."""


def fit_ridge_method(task: Task[Any], *, by_section: bool = False) -> Fitted:
    """Fit a ridge regression on whatever the spots' input is; the penalty is chosen on held-out sections.

    With `by_section` it reads the input standardised within each section, and so must whoever predicts with it.
    """
    n_components = _possible_components(task, task.recipe.n_components)
    encoder, seen = standardized(task, by_section=by_section)
    features = seen
    record: dict[str, Any] = {}
    if by_section:
        features = SectionView.of_standardized(seen.shape[1]).apply(seen, sections=task.spots.sections, xy=None)
        record["by_section"] = True
    with threads_for(len(features)):
        ridge = _solved(task, features, n_components, record, by_section=by_section)
    return regression(task, ridge, encoder, seen=seen, record=record)


def _solved(
    task: Task[Any], features: np.ndarray, n_components: int, record: dict[str, Any], *, by_section: bool
) -> Ridge:
    """Choose the penalty where it is not given, which is recorded, and solve the regression."""
    alpha = task.recipe.alpha
    if alpha is None:
        alpha, score = choose_alpha(
            features, task.expression.matrix, task.folds, n_components=n_components, seed=task.seed
        )
        record["chosen"] = {"alpha": alpha}
        logger.info(
            "Ridge penalty chosen on held-out parts of the reference (%s): %g (Pearson %.3f).%s",
            task.how_held_out.by,
            alpha,
            score[alpha],
            task.how_held_out.hint,
        )
        if by_section:  # it reads images
            say_if_next_to_nothing(score[alpha])
    scores = component_scores(task.expression.matrix, n_components, seed=task.seed)
    return fit_ridge(features, task.everything.matrix, alpha=alpha, scores=scores)


def _possible_components(task: Task[Any], n_components: int) -> int:
    """Cut `n_components` to what the genes, and the smallest training part of an inner fold, can have."""
    fewest = min([len(training) for training, _ in task.folds], default=len(task.expression.matrix))
    possible = min(n_components, fewest - 1, task.expression.matrix.shape[1] - 1)
    if possible < n_components:
        logger.info("Only %d principal components are used: so few spots or genes have no %d.", possible, n_components)
    return possible


def standardized(task: Task[Any], *, by_section: bool = False) -> tuple[nn.Module, np.ndarray]:
    """Make an image encoder, untrained but for the scale of its features, and the features of all spots.

    The scale is the spread over all spots, or with `by_section` the average spread within a section.
    """
    with seeded(task.compute, task.seed):
        model: Any = FeatureArguments(**encoder_arguments(task, standardize=True)).build(weights=task.weights)
    encoder: Any = model.image_encoder.eval()
    last: Any = encoder[-1] if isinstance(encoder, nn.Sequential) else encoder
    rows, before = task.spots.rows, nn.Sequential(*encoder[:-1]) if isinstance(encoder, nn.Sequential) else None
    if before is not None:
        rows = embed_in_batches(before.to(task.compute.device), rows, compute=task.compute, desc="Image features")
        before.to("cpu")
    features = torch.from_numpy(np.asarray(rows))
    last.learn(features)
    with torch.inference_mode():
        seen: np.ndarray = last(features).numpy()
        if by_section:
            view = SectionView.learn(seen, sections=task.spots.sections, xy=None, n_neighbors=0)
            last.scale *= torch.from_numpy(view.scale).float()
            seen = last(features).numpy()
    return encoder, seen


def regression(
    task: Task[Any],
    ridge: Ridge,
    encoder: nn.Module,
    *,
    seen: np.ndarray | None = None,
    record: dict[str, Any] | None = None,
) -> Fitted:
    """Put a solved regression into a model."""
    arguments = RegressorArguments(
        **encoder_arguments(task, standardize=True),
        n_genes=len(task.everything.genes),
        hidden=None,
        rank=None if ridge.loadings is None else len(ridge.loadings),
        dropout=0.0,
        loss="mse",
        symmetries=False,
    )
    with seeded(task.compute, task.seed):  # building draws first weights, which are all overwritten
        model = Regressor(arguments, BuiltEncoder(encoder, ridge.feature_mean.shape[0]))
    head: Any = model.head
    last: MeanHead = head[-1]
    intercept = -ridge.coefficients @ ridge.feature_mean
    with torch.no_grad():
        if ridge.loadings is None:
            last.weight.copy_(torch.from_numpy(ridge.coefficients))
            last.bias.copy_(torch.from_numpy(ridge.mean + intercept))
        else:
            head[0].weight.copy_(torch.from_numpy(ridge.coefficients))
            head[0].bias.copy_(torch.from_numpy(intercept))
            last.weight.copy_(torch.from_numpy(ridge.loadings.T))
            last.bias.copy_(torch.from_numpy(ridge.mean))
    return Fitted(model.eval(), arguments, task.everything.genes, seen=seen, record=record or {})
