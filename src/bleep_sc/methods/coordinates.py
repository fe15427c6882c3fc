"""The floor that sees no image: ridge regression from the place in the section to components of expression."""

from dataclasses import dataclass

from bleep_sc._checks import check_int, check_number
from bleep_sc.methods.inputs import PLACES, Needs
from bleep_sc.methods.learning.closed_form import RIDGE_CONFIG, fit_ridge_method
from bleep_sc.methods.predicting.outputs import put_out
from bleep_sc.methods.record import HeldOut, Method
from bleep_sc.models.nets.regressor import RegressorArguments


@dataclass(frozen=True)
class CoordinatesRecipe:
    """Ridge regression on the place in the section; a penalty of None is chosen on held-out sections."""

    n_components: int = 5
    alpha: float | None = None

    def __post_init__(self) -> None:
        check_int("n_components", self.n_components, minimum=0)
        if self.alpha is not None:
            check_number("alpha", self.alpha, above=0)


METHOD = Method(
    name="coordinates",
    kinds=(RegressorArguments.kind,),
    presets={"default": CoordinatesRecipe()},
    needs=lambda _: Needs(PLACES),
    fit=fit_ridge_method,
    predict=put_out,
    held_out=HeldOut(folds=True),
    names_all_genes=True,
    own_config=RIDGE_CONFIG,
)
