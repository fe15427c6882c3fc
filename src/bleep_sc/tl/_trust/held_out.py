"""Finds the held-out spots of a predictor: those that `fit` has kept, or those of folds that are trained again."""

from collections.abc import Callable, Mapping
from typing import Any

from anndata import AnnData

from bleep_sc import _keys
from bleep_sc.io._out_of_fold import OUT_OF_FOLD
from bleep_sc.io._stored import StoredModel
from bleep_sc.io._trained import load_model
from bleep_sc.methods.task import Trained
from bleep_sc.tl._trust.cross_fit import cross_fitted
from bleep_sc.tl._trust.predictor import predictor_of
from bleep_sc.tl._trust.spots import HeldOutSpots, Labels, Measured, kept_spots


def usual_predictor(ref: AnnData, stored: StoredModel, trained: Trained, *, regression: bool) -> dict[str, Any]:
    """Return the record of the predictor that `fit` keeps predictions of, or of its regressions alone."""
    return predictor_of(ref, stored, trained, predict="regression" if regression else None)


def kept_predictors(ref: AnnData, key: str) -> dict[str, dict[str, Any]]:
    """Return the predictors whose predictions `fit` has kept, by the argument of `calibrate` that asks for them."""
    at_hand = _keys.COUNTS in ref.layers and _keys.fold(key) in ref.obs and OUT_OF_FOLD in ref.uns[key]
    if not at_hand:
        return {}
    stored, trained = load_model(ref, key)
    return {
        "predict='regression'" if regression else "": usual_predictor(ref, stored, trained, regression=regression)
        for regression, field in ((False, _keys.out_of_fold(key)), (True, _keys.out_of_fold_regression(key)))
        if field in ref.obsm
    }


def held_out_spots(
    ref: AnnData,
    key: str,
    measured: Measured,
    labels: Labels,
    *,
    stored: StoredModel,
    trained: Trained,
    again: bool,
    of_impute: Mapping[str, Any],
    encoder: Callable[..., Any] | None,
    of_compute: Mapping[str, Any],
    progress_bar: bool | None,
) -> tuple[HeldOutSpots, dict[str, Any]]:
    """Return held-out spots with their predictions, and the record of the predictor.

    Raises
    ------
    ValueError
        `fit` has kept nothing, or the predictions of another predictor, and the folds are not to be trained again.
    """
    predictor = predictor_of(ref, stored, trained, **of_impute)
    if again:
        spots = cross_fitted(
            ref,
            measured,
            labels,
            stored=stored,
            trained=trained,
            of_impute=of_impute,
            encoder=encoder,
            of_compute=of_compute,
            progress_bar=progress_bar,
        )
        return spots, predictor
    if encoder is not None:
        msg = "`encoder` reads the crops of folds that are trained again: pass `cross_fit=True` too, or leave it out."
        raise ValueError(msg)
    regression = predictor.get("predict") == "regression"
    usual = usual_predictor(ref, stored, trained, regression=regression)
    if predictor != usual:
        changed = ", ".join(f"{name}={predictor[name]!r}" for name in predictor if predictor[name] != usual.get(name))
        msg = (
            f"`fit` has kept the predictions of its usual predictor and of its regressions, not those with "
            f"{changed}. Pass `cross_fit=True`, which trains the folds again."
        )
        raise ValueError(msg)
    kept = kept_spots(ref, key, measured, labels, stored, regression=regression)
    if kept is None:
        msg = (
            f"the model {key!r} keeps no predictions of spots that it did not see. BLEEP's default recipe makes them "
            f"when it is fitted on two or more patients, or sections: `bleep_sc.tl.fit(ref, key_added={key!r})`. For "
            "any other method pass `cross_fit=True`, which trains the folds again. A concat of references drops them."
        )
        raise ValueError(msg)
    return kept, predictor
