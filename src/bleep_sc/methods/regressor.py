"""A plain regressor: the image encoder that BLEEP would train, a head, and mean squared error."""

from dataclasses import dataclass
from typing import Any

from bleep_sc._checks import check_int
from bleep_sc.methods.inputs import IMAGES, Needs
from bleep_sc.methods.learning.network import encoder_arguments, train_network
from bleep_sc.methods.predicting.outputs import put_out
from bleep_sc.methods.recipe import Training
from bleep_sc.methods.record import HeldOut, Method
from bleep_sc.methods.task import Fitted, Task
from bleep_sc.models.nets.regressor import RegressorArguments


@dataclass(frozen=True)
class RegressorRecipe(Training):
    """A network with a linear or one-hidden-layer head and mean squared error."""

    encoder: Any = "resnet50"
    hidden: int | None = None
    lr: float = 3e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden is not None:
            check_int("hidden", self.hidden)


def _fit(task: Task[RegressorRecipe]) -> Fitted:
    arguments = RegressorArguments.filled(
        task.recipe,
        **encoder_arguments(task),
        n_genes=len(task.expression.genes),
        rank=None,
        loss="mse",
        symmetries=False,
    )
    model, history = train_network(task, arguments)
    return Fitted(model, arguments, task.expression.genes, history=history)


METHOD = Method(
    name="regressor",
    kinds=(RegressorArguments.kind,),
    presets={"default": RegressorRecipe()},
    needs=lambda values: Needs(IMAGES, values.get("encoder")),
    fit=_fit,
    predict=put_out,
    held_out=HeldOut(spots=True),
    by_epochs=True,
    divides=True,
)
