"""ST-Net (He et al., Nat Biomed Eng 2020): a DenseNet from image to expression that begins as the training mean."""

from dataclasses import dataclass
from typing import Any

from bleep_sc.methods.inputs import CROPS, Needs
from bleep_sc.methods.learning.network import encoder_arguments, train_network
from bleep_sc.methods.names import Optimizer
from bleep_sc.methods.predicting.outputs import put_out
from bleep_sc.methods.recipe import Training
from bleep_sc.methods.record import HeldOut, Method
from bleep_sc.methods.task import Fitted, Task
from bleep_sc.models.nets.regressor import RegressorArguments

_ADAM_LR = 3e-4


@dataclass(frozen=True)
class StNetRecipe(Training):
    """ST-Net (He et al., Nat Biomed Eng 2020; its repository's command line)."""

    encoder: Any = "densenet121"
    dropout: float = 0.0
    batch_size: int = 32
    lr: float = 1e-6
    weight_decay: float = 0.0
    max_epochs: int = 50
    optimizer: Optimizer = "sgd"


def _with_rate_of_optimizer(arguments: dict[str, Any]) -> dict[str, Any]:
    """Add the learning rate of the optimizer.

    The published rate is SGD's, for a loss summed over the batch. Adam scales its steps itself.
    """
    return arguments if arguments.get("optimizer", "sgd") == "sgd" else {"lr": _ADAM_LR, **arguments}


def _fit(task: Task[StNetRecipe]) -> Fitted:
    arguments = RegressorArguments.filled(
        task.recipe,
        **encoder_arguments(task),
        n_genes=len(task.expression.genes),
        hidden=None,
        rank=None,
        loss="stnet",
        symmetries=True,
    )
    model, history = train_network(task, arguments, learn_channels=True)
    return Fitted(model, arguments, task.expression.genes, history=history)


METHOD = Method(
    name="stnet",
    kinds=(RegressorArguments.kind,),
    presets={"default": StNetRecipe(), "paper": StNetRecipe(patience=0)},
    needs=lambda values: Needs(CROPS, values.get("encoder")),
    fit=_fit,
    predict=put_out,
    held_out=HeldOut(spots=True),
    by_epochs=True,
    divides=True,
    complete=_with_rate_of_optimizer,
)
