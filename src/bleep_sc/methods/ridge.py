"""The strongest floor: ridge regression from image features to a few principal components of expression.

The features are standardised within each section, which takes differences in staining out.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from bleep_sc._untrusted import REMEDY
from bleep_sc.methods.coordinates import CoordinatesRecipe
from bleep_sc.methods.hybrid.in_section import SectionView
from bleep_sc.methods.inputs import IMAGES, Needs, Spots
from bleep_sc.methods.learning.closed_form import RIDGE_CONFIG, fit_ridge_method
from bleep_sc.methods.predicting.outputs import put_out
from bleep_sc.methods.prediction import Imputation, Reference, Request
from bleep_sc.methods.record import HeldOut, Method
from bleep_sc.methods.task import Trained
from bleep_sc.models.encoders.registry import COLOR
from bleep_sc.models.nets.regressor import RegressorArguments
from bleep_sc.models.nets.rules import BOOL
from bleep_sc.models.scheduled import encode_images


@dataclass(frozen=True)
class RidgeRecipe(CoordinatesRecipe):
    """Ridge regression on image features; a penalty of None is chosen on held-out sections."""

    encoder: Any = COLOR


def _predict(trained: Trained, spots: Spots, reference: Reference, request: Request) -> Imputation:
    """Standardise what the encoder makes of the spots within their sections, and let the rest of the model go on.

    A model of an earlier version, which does not say `by_section`, reads the features as they are.
    """
    if trained.method_config.get("by_section"):
        # where `look.see` has run the encoder already, it is one that changes nothing
        seen = encode_images(trained.model, spots.rows, compute=request.compute)
        features = SectionView.of_standardized(seen.shape[1]).apply(seen, sections=spots.sections, xy=None)
        trained, spots = replace(trained, model=trained.model.after_encoder()), replace(spots, rows=features)
    return put_out(trained, spots, reference, request)


def _check_stored(trained: Trained, where: str) -> None:
    """Refuse a config, which comes from a file, of a model whose features cannot be standardised by section."""
    if trained.method_config.get("by_section") and trained.model.after_encoder() is None:
        msg = (
            f"{where}: in the config `by_section` and `model.symmetries` do not go together, so it is damaged. {REMEDY}"
        )
        raise ValueError(msg)


METHOD = Method(
    name="ridge",
    kinds=(RegressorArguments.kind,),
    presets={"default": RidgeRecipe()},
    needs=lambda values: Needs(IMAGES, values.get("encoder")),
    fit=partial(fit_ridge_method, by_section=True),
    predict=_predict,
    held_out=HeldOut(folds=True),
    names_all_genes=True,
    own_config={**RIDGE_CONFIG, "by_section": BOOL},
    check_stored=_check_stored,
)
