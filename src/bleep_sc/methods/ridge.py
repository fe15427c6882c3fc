"""The strongest floor: ridge regression from image features to a few principal components of expression."""

from dataclasses import dataclass
from typing import Any

from bleep_sc.methods.coordinates import CoordinatesRecipe
from bleep_sc.methods.inputs import IMAGES, Needs
from bleep_sc.methods.learning.closed_form import RIDGE_CONFIG, fit_ridge_method
from bleep_sc.methods.predicting.outputs import put_out
from bleep_sc.methods.record import HeldOut, Method
from bleep_sc.models.encoders.registry import COLOR
from bleep_sc.models.nets.regressor import RegressorArguments


@dataclass(frozen=True)
class RidgeRecipe(CoordinatesRecipe):
    """Ridge regression on image features; a penalty of None is chosen on held-out sections."""

    encoder: Any = COLOR


METHOD = Method(
    name="ridge",
    kinds=(RegressorArguments.kind,),
    presets={"default": RidgeRecipe()},
    needs=lambda values: Needs(IMAGES, values.get("encoder")),
    fit=fit_ridge_method,
    predict=put_out,
    held_out=HeldOut(folds=True),
    names_all_genes=True,
    own_config=RIDGE_CONFIG,
)
