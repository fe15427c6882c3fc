"""Reads the calibration of a reference for a query, and checks that it is that of the query's layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._logging import warn
from bleep_sc.io._calibration import CALIBRATION, Calibration
from bleep_sc.io._stored import StoredModel, from_uns
from bleep_sc.tl._measured.record import refuse_corrected
from bleep_sc.tl._trust.held_out import kept_predictors
from bleep_sc.tl._trust.predictor import check_same_predictor
from bleep_sc.tl._trust.spots import HeldOutSpots, kept_spots, read_labels, read_measured


@dataclass(frozen=True)
class Calibrated:
    """A calibration, and the reference that it was made on."""

    calibration: Calibration
    ref: AnnData
    key: str
    stored: StoredModel
    layer: str
    """The imputed layer of the query."""

    def spots(self, what: str) -> HeldOutSpots:
        """Read the held-out spots of the reference, for what its tables do not tell.

        Raises
        ------
        ValueError
            The reference does not hold them any more. The message says what the tables do tell.
        """
        calibration, key = self.calibration, self.key
        at_hand = _keys.COUNTS in self.ref.layers and _keys.out_of_fold(key) in self.ref.obsm
        regression = calibration.promise.predictor.get("predict") == "regression"
        spots = None
        if at_hand and not calibration.promise.cross_fit:
            labels = read_labels(self.ref, self.stored, key, patient_key=None, again=False)
            measured = read_measured(self.ref, self.stored, key)
            spots = kept_spots(self.ref, key, measured, labels, self.stored, regression=regression)
        if spots is None:
            depths = ", ".join(f"{depth:.0f}" for depth in calibration.depths[1:])
            levels = ", ".join(f"{level:g}" for level in calibration.levels)
            msg = (
                f"{what} must be worked out from the reference's raw counts and out-of-fold predictions, "
                f"`ref.layers['counts']` and `ref.obsm[{_keys.out_of_fold(key)!r}]`, which `ref` does not hold. "
                f"Without them there are the levels {levels}, each with `depth=None` or one of the depths {depths}; "
                "`bleep_sc.tl.calibrate(ref, levels=...)` makes others."
            )
            raise ValueError(msg)
        promise = calibration.promise
        if (
            self.ref.n_obs != promise.n_reference
            or len(spots.rows) != promise.n_reference - promise.n_left_out
            or spots.group_names.tolist() != promise.groups
        ):
            msg = (
                f"`ref` is not the reference that was calibrated: it has {self.ref.n_obs} spots, {len(spots.rows)} of "
                f"them held out in {len(spots.group_names)} groups, and it had {promise.n_reference}, "
                f"{promise.n_reference - promise.n_left_out} and {len(promise.groups)}. {what} is worked out from it, "
                "so calibrate it again: `bleep_sc.tl.calibrate(ref)`."
            )
            raise ValueError(msg)
        return spots


def read_calibrated(query: AnnData, ref: AnnData, key: str, layer: str) -> Calibrated:
    """Read the calibration of a model, and refuse a layer that it does not belong to."""
    stored = from_uns(ref.uns, key)
    entry = ref.uns[key]
    if CALIBRATION not in entry:
        msg = (
            f"the model {key!r} is not calibrated, so nothing is known of how far its predictions are off. Run "
            f"`bleep_sc.tl.calibrate(ref{'' if key == _keys.MODEL else f', key={key!r}'})` first."
        )
        raise ValueError(msg)
    where = f"`ref.uns[{key!r}][{CALIBRATION!r}]`"
    calibration = Calibration.from_bytes(entry[CALIBRATION], where=where)
    promise = calibration.promise
    if promise.model_sha256 != stored.sha256:
        msg = f"{where} is of another model than `ref.uns[{key!r}]`. Run `bleep_sc.tl.calibrate(ref)` again."
        raise ValueError(msg)
    made_by = query.uns.get(layer)
    if not isinstance(made_by, Mapping) or "model_sha256" not in made_by:
        msg = (
            f"`query.layers[{layer!r}]` has no record of what imputed it (`query.uns[{layer!r}]`), so no calibration "
            "can be known to belong to it. Impute it with `bleep_sc.tl.impute(query, ref)`."
        )
        raise ValueError(msg)
    if _text(made_by["model_sha256"]) != promise.model_sha256:
        msg = (
            f"`query.layers[{layer!r}]` was imputed by another model than `ref.uns[{key!r}]`, whose errors are not "
            "known here. Impute it with this one, `bleep_sc.tl.impute(query, ref)`, or pass the reference that it is "
            "of."
        )
        raise ValueError(msg)
    refuse_corrected(query, layer)
    check_same_predictor(
        query,
        layer,
        promise.predictor,
        n_reference=promise.n_reference,
        key=key,
        kept=partial(kept_predictors, ref, key),
    )
    if np.asarray(made_by.get("in_sample", False)).any():
        warn(
            f"`query.layers[{layer!r}]` holds spots that the model was trained on. Predictions for those are closer "
            "than for new tissue, so the bounds are wider than needed there, and do not show how good the model "
            "is."
        )
    return Calibrated(calibration, ref, key, stored, layer)


def _text(value: Any) -> str:
    return str(np.asarray(value).item())
