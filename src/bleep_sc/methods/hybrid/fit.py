"""The default recipe: retrieval in a joint space of image features and expression components, blended with regression.

How the two are blended is chosen by leaving out sections of the reference; then all is learned anew on all of it.
"""

from dataclasses import replace

import numpy as np
import torch

from bleep_sc._logging import logger
from bleep_sc._progress import progress
from bleep_sc._stats import panels
from bleep_sc.methods._ridge import Ridge
from bleep_sc.methods._train import report_spread, seeded
from bleep_sc.methods.hybrid.blend import Blend, HeldOut, choose_blend
from bleep_sc.methods.hybrid.component_models import Spots, Ways
from bleep_sc.methods.hybrid.in_section import SectionView
from bleep_sc.methods.hybrid.kernel_ridge import KernelRidge
from bleep_sc.methods.recipes import HybridRecipe
from bleep_sc.methods.task import Fitted, Task
from bleep_sc.models.nets.hybrid import Hybrid, HybridArguments
from bleep_sc.models.search.spread import measure_spread

_MOST_TO_CHOOSE_ON = 4000
"""Training spots of a fold on which the blend is chosen: no finer choice would come of more."""


def fit_hybrid(task: Task[HybridRecipe]) -> Fitted:
    """Learn the joint space and the regressions, and how they are blended."""
    recipe, raw = task.recipe, np.asarray(task.spots.rows)
    view = SectionView.learn(raw, sections=task.sections, xy=task.xy, n_neighbors=recipe.context)
    features = view.apply(raw, sections=task.sections, xy=task.xy)
    spots = Spots(features, task.expression.matrix, task.sections)
    logger.info(
        "Training on %d spots, %d parts of them held out in turn to choose the blend; image features %s, %d values a "
        "spot; %d genes; on %s.",
        len(features),
        len(task.folds),
        task.spots.encoder,
        features.shape[1],
        spots.expression.shape[1],
        task.compute,
    )
    blend = _choose(task, spots)
    ways = Ways.learn(
        spots, recipe, compute=task.compute, seed=task.seed, announce=True, checkpoints=task.checkpoints("all-spots")
    )
    linear, kernel = ways.linear(blend.settings["linear"]), ways.kernel([blend.settings["kernel"]])
    (kernel_ridge,) = kernel.values()
    arguments = HybridArguments.filled(
        recipe,
        n_image_features=raw.shape[1],
        n_features=features.shape[1],
        n_genes=spots.expression.shape[1],
        n_components=ways.scores.shape[1],
        n_landmarks=len(kernel_ridge.landmarks),
    )
    with seeded(task.compute, task.seed):  # building draws first weights, which are all overwritten
        model = arguments.build()
    image, profile = ways.embedded(features)
    _fill(model, view, ways, linear, kernel_ridge)
    spread = measure_spread(image, profile)
    report_spread(spread)
    record = {
        "chosen": {"k": min(int(blend.settings["retrieval"][0]), len(features)), **_flat(blend)},
        "context": recipe.context,
        "centers": {name: [float(value) for value in center] for name, center in ways.centers.items()},
        "spread": spread.record(),
    }
    return Fitted(
        model.eval(),
        arguments.spec(),
        task.expression.genes,
        image_embedding=image,
        expression_embedding=profile,
        components=ways.scores,
        history=ways.history,
        record=record,
    )


def _choose(task: Task[HybridRecipe], spots: Spots) -> Blend:
    """Predict each held-out part of the reference from the rest, in every way, and take the best blend."""
    rng = np.random.default_rng(task.seed)
    quiet = replace(task.compute, progress_bar=False)
    found = []
    folds = progress(task.folds, desc="Choosing the blend", show=task.compute.progress_bar)
    for number, (training, parts) in enumerate(folds, start=1):
        if len(training) > _MOST_TO_CHOOSE_ON:
            training = np.sort(rng.choice(training, _MOST_TO_CHOOSE_ON, replace=False))
        sections = None if task.sections is None else task.sections[training]
        ways = Ways.learn(
            spots.part(training),
            task.recipe,
            compute=quiet,
            seed=task.seed,
            announce=False,
            checkpoints=task.checkpoints(f"fold{number}"),
        )
        genes = task.expression.genes
        leading = np.isin(genes, panels(spots.expression[training], genes, sections)["HVG-50"])
        for part in parts:
            predicted = ways.predict(spots.features[part])
            found.append(HeldOut(spots.expression[part], ways.components.loadings, leading, predicted))
    blend, score = choose_blend(found)
    logger.info(
        "Chosen on held-out parts of the reference (Pearson %.3f): %s.",
        score,
        ", ".join(f"{weight:.0%} {way}" for way, weight in blend.weights.items() if weight),
    )
    return blend


def _flat(blend: Blend) -> dict[str, float]:
    """The blend as a record of plain numbers."""
    out = {f"weight_{way}": weight for way, weight in blend.weights.items()}
    for way in ("linear", "kernel"):
        out[f"alpha_{way}"], out[f"components_{way}"] = (float(value) for value in blend.settings[way])
    return out


def _fill(model: Hybrid, view: SectionView, ways: Ways, linear: Ridge, kernel: KernelRidge) -> None:
    """Put what was solved into the model, so that one file holds it all."""
    model.space.load_state_dict(ways.space.to("cpu").state_dict())
    with torch.no_grad():
        for tensor, values in (
            (model.feature_mean, view.mean),
            (model.feature_scale, view.scale),
            (model.context_scale, view.context_scale),
            (model.loadings, ways.components.loadings),
            (model.spread, ways.spread),
            (model.linear.weight, linear.coefficients),
            (model.linear.bias, linear.mean - linear.coefficients @ linear.feature_mean),
            (model.kernel.landmarks, kernel.landmarks),
            (model.kernel.coefficients, kernel.coefficients),
            (model.kernel.mean, kernel.mean),
            (model.kernel.width, np.float64(kernel.width)),
        ):
            tensor.copy_(torch.as_tensor(values))
