"""The lowest floor: the training mean of every gene."""

from typing import Any

import numpy as np

from bleep_sc.methods.inputs import NO_INPUT, Needs
from bleep_sc.methods.learning.closed_form import regression, standardized
from bleep_sc.methods.learning.ridge_regression import Ridge
from bleep_sc.methods.predicting.outputs import put_out
from bleep_sc.methods.recipe import NoRecipe
from bleep_sc.methods.record import Method
from bleep_sc.methods.task import Fitted, Task
from bleep_sc.models.nets.regressor import RegressorArguments


def _fit(task: Task[Any]) -> Fitted:
    encoder, features = standardized(task)
    mean = np.asarray(task.everything.matrix.mean(axis=0), dtype=np.float64).ravel()
    nothing = np.zeros((len(mean), 0))
    return regression(task, Ridge(nothing, None, features.mean(axis=0), mean), encoder)


METHOD = Method(
    name="mean",
    kinds=(RegressorArguments.kind,),
    presets={"default": NoRecipe()},
    needs=lambda _: Needs(NO_INPUT),
    fit=_fit,
    predict=put_out,
    names_all_genes=True,
)
