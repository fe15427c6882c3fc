"""A yardstick: least squares on the logarithm of the total counts of the very spots that are predicted."""

from typing import Any

from bleep_sc.methods.inputs import TOTAL_COUNTS, Needs
from bleep_sc.methods.learning.closed_form import regression, standardized
from bleep_sc.methods.learning.ridge_regression import fit_ridge
from bleep_sc.methods.predicting.outputs import put_out
from bleep_sc.methods.recipe import NoRecipe
from bleep_sc.methods.record import Method
from bleep_sc.methods.task import Fitted, Task
from bleep_sc.models.nets.regressor import RegressorArguments


def _fit(task: Task[Any]) -> Fitted:
    encoder, features = standardized(task)
    return regression(task, fit_ridge(features, task.everything.matrix, alpha=1e-6), encoder)


METHOD = Method(
    name="counts",
    kinds=(RegressorArguments.kind,),
    presets={"default": NoRecipe()},
    needs=lambda _: Needs(TOTAL_COUNTS),
    fit=_fit,
    predict=put_out,
    names_all_genes=True,
)
