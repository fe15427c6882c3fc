"""BLEEP as published (Xie et al., NeurIPS 2023): a network is trained along, and measured profiles are averaged."""

from dataclasses import dataclass
from typing import Any

from bleep_sc._checks import check_int, check_number
from bleep_sc.methods.inputs import IMAGES, Needs
from bleep_sc.methods.learning.network import encoder_arguments, report_spread, train_network
from bleep_sc.methods.predicting.neighbors import retrieve
from bleep_sc.methods.recipe import Training
from bleep_sc.methods.record import HeldOut, Method, Space
from bleep_sc.methods.task import Fitted, Task
from bleep_sc.models.inference import embed_in_batches
from bleep_sc.models.nets.bleep import BleepArguments
from bleep_sc.models.nets.rules import NUMBER, each
from bleep_sc.models.search.spread import measure_spread


@dataclass(frozen=True)
class BleepRecipe(Training):
    """BLEEP (Xie et al., NeurIPS 2023, section 4.2)."""

    encoder: Any = "resnet50"
    dim: int = 256
    temperature: float = 1.0
    accumulate: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("dim", self.dim)
        check_int("accumulate", self.accumulate)
        check_number("temperature", self.temperature, above=0)


def _fit(task: Task[BleepRecipe]) -> Fitted:
    """Train the joint space of images and expression, and place every reference spot in it."""
    arguments = BleepArguments.filled(task.recipe, **encoder_arguments(task), n_genes=len(task.expression.genes))
    trained, history = train_network(task, arguments, accumulate=task.recipe.accumulate)
    model: Any = trained.to(task.compute.device)
    seen = embed_in_batches(model.encode_image, task.spots.rows, compute=task.compute, desc="Embedding images")
    image = embed_in_batches(model.after_encoder().embed_image, seen, compute=task.compute, desc="Embedding images")
    profile = embed_in_batches(
        model.embed_expression, task.expression.matrix, compute=task.compute, desc="Embedding expression"
    )
    spread = measure_spread(image, profile)
    report_spread(spread)
    return Fitted(
        model,
        arguments,
        task.expression.genes,
        image_embedding=image,
        expression_embedding=profile,
        seen=seen,
        history=history,
        record={"spread": spread.record()},
    )


METHOD = Method(
    name="bleep",
    kinds=(BleepArguments.kind,),
    presets={
        # four GPUs with 128 spots each, the loss per GPU, only gradients averaged; all 150 epochs, the best one kept
        "paper": BleepRecipe(accumulate=4, patience=0),
    },
    needs=lambda values: Needs(IMAGES, values.get("encoder")),
    fit=_fit,
    predict=retrieve,
    modes=("retrieval",),
    space=Space(match="expression"),
    held_out=HeldOut(spots=True),
    by_epochs=True,
    divides=True,
    own_config={"spread": each(NUMBER)},
    also_known_by="The published BLEEP has it: `preset='paper'`.",
)
