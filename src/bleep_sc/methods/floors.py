"""The floors: what is solved in closed form or not trained at all, and what any method should beat."""

from typing import Any

import numpy as np
import torch
from torch import nn

from bleep_sc._logging import logger
from bleep_sc.methods._ridge import Ridge, choose_alpha, component_scores, fit_ridge
from bleep_sc.methods._train import encoder_arguments, seeded
from bleep_sc.methods.recipes import CoordinatesRecipe
from bleep_sc.methods.task import Fitted, Task
from bleep_sc.models.inference import embed_in_batches
from bleep_sc.models.nets.arguments import BuiltEncoder
from bleep_sc.models.nets.feature_space import FeatureArguments, FeatureSpace
from bleep_sc.models.nets.heads import MeanHead
from bleep_sc.models.nets.regressor import Regressor, RegressorArguments


def fit_ridge_method(task: Task[CoordinatesRecipe]) -> Fitted:
    """Ridge regression on image features or on places; the penalty is chosen on held-out sections."""
    recipe = task.recipe
    n_components = _possible_components(task, recipe.n_components)
    encoder, features = _standardized(task)
    alpha, record = recipe.alpha, {}
    if alpha is None:
        alpha, score = choose_alpha(
            features, task.expression.matrix, task.folds, n_components=n_components, seed=task.seed
        )
        record = {"chosen": {"alpha": alpha}}
        logger.info("Ridge penalty chosen on held-out parts of the reference: %g (Pearson %.3f).", alpha, score[alpha])
    scores = component_scores(task.expression.matrix, n_components, seed=task.seed)
    ridge = fit_ridge(features, task.everything.matrix, alpha=alpha, scores=scores)
    return _regression(task, ridge, encoder, record)


def _possible_components(task: Task[Any], wanted: int) -> int:
    """No more components than the smallest training part of an inner fold, or the genes, can have."""
    fewest = min([len(training) for training, _ in task.folds], default=len(task.expression.matrix))
    possible = min(wanted, fewest - 1, task.expression.matrix.shape[1] - 1)
    if possible < wanted:
        logger.info("%d principal components are regressed: so few spots or genes have no %d.", possible, wanted)
    return possible


def fit_counts(task: Task[Any]) -> Fitted:
    """Least squares on the logarithm of the total counts."""
    encoder, features = _standardized(task)
    return _regression(task, fit_ridge(features, task.everything.matrix, alpha=1e-6), encoder, {})


def fit_mean(task: Task[Any]) -> Fitted:
    """The training mean of every gene."""
    encoder, features = _standardized(task)
    mean = np.asarray(task.everything.matrix.mean(axis=0), dtype=np.float64).ravel()
    nothing = np.zeros((len(mean), 0))
    return _regression(task, Ridge(nothing, None, features.mean(axis=0), mean), encoder, {})


def fit_knn(task: Task[Any]) -> Fitted:
    """No training: the features themselves, standardised, are the space to retrieve in."""
    encoder, features = _standardized(task)
    spec = FeatureArguments(**encoder_arguments(task, standardize=True)).spec()
    return Fitted(FeatureSpace(encoder).eval(), spec, task.expression.genes, image_embedding=features)


def _standardized(task: Task[Any]) -> tuple[BuiltEncoder, np.ndarray]:
    """The image encoder, untrained but for the scale of its features, and the features of all spots."""
    with seeded(task.compute, task.seed):
        built = FeatureArguments(**encoder_arguments(task, standardize=True)).build_encoder(task.weights)
    encoder: Any = built.module.eval()
    last: Any = encoder[-1] if isinstance(encoder, nn.Sequential) else encoder
    rows, before = task.spots.rows, nn.Sequential(*encoder[:-1]) if isinstance(encoder, nn.Sequential) else None
    if before is not None:
        rows = embed_in_batches(before.to(task.compute.device), rows, compute=task.compute, desc="Image features")
        before.to("cpu")
    last.learn(torch.from_numpy(np.asarray(rows)))
    with torch.inference_mode():
        return built, last(torch.from_numpy(np.asarray(rows))).numpy()


def _regression(task: Task[Any], ridge: Ridge, encoder: BuiltEncoder, record: dict[str, Any]) -> Fitted:
    """The closed form as a model like any other."""
    rank = None if ridge.loadings is None else len(ridge.loadings)
    arguments = RegressorArguments(
        **encoder_arguments(task, standardize=True),
        n_genes=len(task.everything.genes),
        hidden=None,
        rank=rank,
        dropout=0.0,
        loss="mse",
        symmetries=False,
    )
    with seeded(task.compute, task.seed):  # building draws first weights, which are all overwritten
        model = Regressor(arguments, encoder)
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
    return Fitted(model.eval(), arguments.spec(), task.everything.genes, record=record)
