"""BLEEP's default recipe: retrieval in a joint space of image features and expression components, with regression.

The weight of each is chosen by leaving out patients, or sections, of the reference. Then all is learned anew on the
whole of it.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from bleep_sc._checks import check_int, check_number
from bleep_sc._logging import logger
from bleep_sc.methods.hybrid.blend import Blend
from bleep_sc.methods.hybrid.choose import choose_on_folds
from bleep_sc.methods.hybrid.component_models import ComponentModels, LearnedSpots
from bleep_sc.methods.hybrid.components import Components, Decoder
from bleep_sc.methods.hybrid.in_section import SectionView
from bleep_sc.methods.hybrid.kernel_ridge import KernelRidge
from bleep_sc.methods.hybrid.stored import OWN_CONFIG, blend_weights, check_stored, known_centers
from bleep_sc.methods.inputs import IMAGES, Needs, Spots
from bleep_sc.methods.learning.network import report_spread, seeded
from bleep_sc.methods.learning.ridge_regression import Ridge
from bleep_sc.methods.predicting.neighbors import Mix, imputation
from bleep_sc.methods.prediction import Imputation, Reference, Request
from bleep_sc.methods.recipe import check_descent, check_limit
from bleep_sc.methods.record import HeldOut, Method, Space, Values
from bleep_sc.methods.task import Fitted, Task, Trained
from bleep_sc.models.encoders.registry import COLOR, names_network
from bleep_sc.models.inference import embed_in_batches
from bleep_sc.models.nets.hybrid import Hybrid, HybridArguments
from bleep_sc.models.nets.rules import MAX_CONTEXT, MAX_REPEATS
from bleep_sc.models.search.spread import measure_spread


@dataclass(frozen=True)
class HybridRecipe:
    """Retrieval in a joint space of image features and components of expression, mixed with regression.

    The values were found on real sections of two tissues, where each part helps or does no harm (docs, "Which parts
    pay"). A wider `context` helps one of them and costs the other.
    """

    encoder: Any = COLOR
    context: int = 8
    n_components: int = 20
    members: int = 3
    dim: int = 128
    hidden: int = 256
    dropout: float = 0.3
    temperature: float = 0.1
    batch_size: int = 256
    lr: float = 5e-4
    weight_decay: float = 0.1
    max_epochs: int = 100

    def __post_init__(self) -> None:
        for name in ("n_components", "members", "dim", "hidden"):
            check_int(name, getattr(self, name))
        check_limit("members", self.members, MAX_REPEATS)
        check_int("context", self.context, minimum=0)
        check_limit("context", self.context, MAX_CONTEXT)
        check_number("temperature", self.temperature, above=0)
        check_descent(self)


def _needs(values: Values) -> Needs:
    return Needs(IMAGES, values.get("encoder"), n_neighbors=values.get("context", 0))


def _fit(task: Task[HybridRecipe]) -> Fitted:
    """Learn the joint space and the regressions, and how they are mixed."""
    recipe, spots = task.recipe, task.spots
    raw = np.asarray(spots.rows)
    view = SectionView.learn(raw, sections=spots.sections, xy=spots.xy, n_neighbors=recipe.context)
    features = view.apply(raw, sections=spots.sections, xy=spots.xy)
    learned = LearnedSpots(features, task.expression.matrix, spots.sections)
    logger.info(
        "Training on %d spots, %d parts of them held out in turn to choose the blend; image features %s, %d values a "
        "spot; %d genes; on %s.",
        len(features),
        len(task.folds),
        spots.encoder,
        features.shape[1],
        learned.expression.shape[1],
        task.compute,
    )
    blend, out_of_fold = choose_on_folds(task, learned)
    models = ComponentModels.learn(
        learned, recipe, compute=task.compute, seed=task.seed, announce=True, checkpoints=task.checkpoints("all-spots")
    )
    linear, kernel = models.linear(blend.settings["linear"]), models.kernel([blend.settings["kernel"]])
    (kernel_ridge,) = kernel.values()
    arguments = HybridArguments.filled(
        recipe,
        n_image_features=raw.shape[1],
        n_features=features.shape[1],
        n_genes=learned.expression.shape[1],
        n_components=models.scores.shape[1],
        n_landmarks=len(kernel_ridge.landmarks),
    )
    with seeded(task.compute, task.seed):  # building draws first weights, which are all overwritten
        model: Any = arguments.build()
    image, profile = models.embedded(features)
    _fill(model, view, models, linear, kernel_ridge)
    spread = measure_spread(image, profile)
    report_spread(spread)
    record = {
        "chosen": {"k": min(int(blend.settings["retrieval"][0]), len(features)), **_plain_numbers(blend)},
        "context": recipe.context,
        "centers": {name: [float(value) for value in center] for name, center in models.centers.items()},
        "spread": spread.record(),
    }
    return Fitted(
        model.eval(),
        arguments,
        task.expression.genes,
        image_embedding=image,
        expression_embedding=profile,
        components=models.scores,
        history=models.history,
        record=record,
        out_of_fold=out_of_fold,
    )


def _plain_numbers(blend: Blend) -> dict[str, float]:
    """Turn the blend into the plain numbers that a config keeps."""
    out = {f"weight_{predictor}": weight for predictor, weight in blend.weights.items()}
    for predictor in ("linear", "kernel"):
        alpha, rank = (float(value) for value in blend.settings[predictor])
        out[f"alpha_{predictor}"], out[f"components_{predictor}"] = alpha, rank
    return out


def _fill(model: Hybrid, view: SectionView, models: ComponentModels, linear: Ridge, kernel: KernelRidge) -> None:
    """Copy the solved regressions into the model, so that one file holds it all."""
    model.space.load_state_dict(models.space.to("cpu").state_dict())
    with torch.no_grad():
        for tensor, values in (
            (model.feature_mean, view.mean),
            (model.feature_scale, view.scale),
            (model.context_scale, view.context_scale),
            (model.loadings, models.components.loadings),
            (model.spread, models.spread),
            (model.linear.weight, linear.coefficients),
            (model.linear.bias, linear.mean - linear.coefficients @ linear.feature_mean),
            (model.kernel.landmarks, kernel.landmarks),
            (model.kernel.coefficients, kernel.coefficients),
            (model.kernel.mean, kernel.mean),
            (model.kernel.width, np.float64(kernel.width)),
        ):
            tensor.copy_(torch.as_tensor(values))


def _see_in_section(trained: Trained, spots: Spots) -> Spots:
    """Make what the model's heads read: features standardised within the section, beside those of the neighbours."""
    view = SectionView.of(trained.model, trained.method_config["context"])
    return replace(spots, rows=view.apply(np.asarray(spots.rows), sections=spots.sections, xy=spots.xy))


def _read_expression(
    trained: Trained, expression: np.ndarray, sections: np.ndarray | None, *, of_reference: bool
) -> np.ndarray:
    """Compute scores on the model's components (n, n_components), which its expression heads read."""
    components = Components(trained.model.loadings.cpu().numpy())
    return components.scores(expression, sections, centers=known_centers(trained) if of_reference else None)[0]


def _predict(trained: Trained, spots: Spots, reference: Reference, request: Request) -> Imputation:
    """Average measured profiles, or mix the neighbours' scores on components with what regressions predict of them."""
    mixes = reference.components is not None
    return imputation(
        trained,
        spots,
        reference,
        request,
        make_mix=partial(_mix, trained, spots, reference, request) if mixes else None,
    )


def _mix(trained: Trained, spots: Spots, reference: Reference, request: Request) -> Mix:
    assert reference.components is not None  # noqa: S101 - only asked for where they are there
    assert request.neighbors is not None  # noqa: S101
    decoder = Decoder.learn(reference.components, reference.values)
    weights = blend_weights(trained, request.neighbors.predict)
    regress = trained.model.to(request.compute.device).regress
    regressed = embed_in_batches(regress, spots.rows, compute=request.compute, desc="Predicting components")
    return Mix(decoder, weights, weights["linear"] * regressed[:, 0] + weights["kernel"] * regressed[:, 1])


METHOD = Method(
    name="bleep",
    kind=HybridArguments.kind,
    presets={"default": HybridRecipe()},
    serves=lambda encoder: not names_network(encoder),
    needs=_needs,
    fit=_fit,
    predict=_predict,
    modes=("hybrid", "retrieval", "regression"),
    space=Space(match="expression", centred=True, read_expression=_read_expression),
    held_out=HeldOut(folds=True, most_folds=5),
    by_epochs=True,
    see_in_section=_see_in_section,
    n_centers=lambda recipe: recipe.n_components,
    own_config=OWN_CONFIG,
    check_stored=check_stored,
    cannot_divide="the default recipe trains small heads in seconds. The published BLEEP can be divided: "
    "`preset='paper'`, or an `encoder` that is a network; else leave `devices` and `num_nodes` at 1.",
)
