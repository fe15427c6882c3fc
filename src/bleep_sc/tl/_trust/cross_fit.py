"""Trains the folds of a reference again, for models that keep no out-of-fold predictions."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import as_text
from bleep_sc._expression import expression_values
from bleep_sc._progress import progress
from bleep_sc._settings import settings
from bleep_sc.io._stored import StoredModel
from bleep_sc.methods.inputs import InputRecord
from bleep_sc.methods.task import Trained
from bleep_sc.tl._fit import fit
from bleep_sc.tl._impute import impute
from bleep_sc.tl._inputs.held_out import inner_folds
from bleep_sc.tl._inputs.units import units_known
from bleep_sc.tl._trust.spots import HeldOutSpots, Labels, Measured, spots_at

_FOLD = "model_of_fold"
_GRID = ("array_row", "array_col")
_MOST_FOLDS = 5


def cross_fitted(
    ref: AnnData,
    measured: Measured,
    labels: Labels,
    *,
    stored: StoredModel,
    trained: Trained,
    of_impute: Mapping[str, Any],
    encoder: Callable[..., Any] | None,
    of_compute: Mapping[str, Any],
    progress_bar: bool | None,
) -> HeldOutSpots:
    """Train a model of the same method on each fold, and predict the spots that it left out.

    Parameters
    ----------
    ref, measured, labels
        The reference, its counts, its sections and patients.
    stored, trained
        The model whose method and arguments are taken.
    of_impute
        Arguments of `impute`.
    encoder
        The user's own image encoder, where the model was fitted with one.
    of_compute
        The arguments `device` and `precision`.
    progress_bar
        Whether a bar over the folds is shown.
    """
    of_fit = _arguments(ref, stored, trained, encoder)
    folds = inner_folds(
        ref,
        sections=labels.sections,
        patients=labels.groups,
        validation_key=None,
        random_state=int(stored.config.params.get("random_state", 0)),
        at_most=_MOST_FOLDS,
    )
    values = expression_values(ref, stored.config.expression.layer, name="ref")
    counts: Any = ref.layers[_keys.COUNTS]
    predicted = np.full((ref.n_vars, ref.n_obs), np.nan, dtype=np.float32)
    with settings.override(verbosity="warning"), units_known():
        for training, parts in progress(folds, desc="Training the folds again", show=progress_bar):
            held_out = np.sort(np.concatenate(parts))
            part = _part(ref, training, stored, labels, values)
            query = _part(ref, held_out, stored, labels, None)
            if trained.method.needs(trained.method_config).source.reads_query_counts:
                query.layers[_keys.COUNTS] = counts[held_out]
            fit(part, **_within(of_fit, part), **of_compute, progress_bar=False, key_added=_FOLD)
            impute(query, part, key=_FOLD, encoder=encoder, **of_impute, **of_compute, progress_bar=False)
            predicted[:, held_out] = np.asarray(query.layers[_FOLD]).T
    has_prediction = np.isfinite(predicted).any(axis=0) & (measured.totals > 0)
    rows = np.flatnonzero(has_prediction)
    known = np.asarray(np.isfinite(predicted[:, rows]).all(axis=1))
    return spots_at(rows, measured, labels, lambda columns: predicted[np.ix_(columns, rows)], known=known)


def _arguments(
    ref: AnnData, stored: StoredModel, trained: Trained, encoder: Callable[..., Any] | None
) -> dict[str, Any]:
    """Gather the arguments with which `fit` makes a model like this one."""
    config = stored.config
    if config.expression.use_rep is not None:
        msg = (
            f"`cross_fit=True`: the model learned from `obsm[{config.expression.use_rep!r}]`, which was made with all "
            "sections, so that no fold could be blind to the one that it leaves out. Fit on expression itself."
        )
        raise ValueError(msg)
    recipe = {field.name for field in fields(next(iter(trained.method.presets.values())))}
    known = set(inspect.signature(fit).parameters)
    arguments = {name: value for name, value in config.params.items() if name in recipe & known and value is not None}
    arguments.pop("encoder", None)
    if "encoder" in recipe and config.image.kind.from_crops:
        arguments["encoder"] = _encoders(config.image, encoder)
    presets = trained.method.presets
    return {
        **arguments,
        "method": config.method,
        # of a preset that an earlier version had, all values are among the arguments
        "preset": config.preset if config.preset in presets else next(iter(presets)),
        "weights": config.params.get("weights"),
        "image_key": config.image.key,
        "library_key": config.library_key or None,
        "validation_key": config.params.get("validation_key"),
        "validation_share": config.params.get("validation_share", 0.2),
        "random_state": int(config.params.get("random_state", 0)),
    }


def _encoders(image: InputRecord, own: Any) -> Any:
    """Name the encoders that read the crops, with the user's own in their places."""
    passed = [] if own is None else list(own) if isinstance(own, list | tuple) else [own]
    needed = image.of_user
    if len(passed) != len(needed):
        msg = (
            f"`cross_fit=True`: the model was trained with {len(needed)} encoders of your own "
            f"({', '.join(needed) or 'none'}), found {len(passed)}: pass the same, and no other, as `encoder=`."
        )
        raise ValueError(msg)
    of_user = iter(passed)
    if not image.encoders:
        return next(of_user) if image.kind.by_user else image.encoder
    encoders = [next(of_user) if encoder.kind.by_user else encoder.name for encoder in image.encoders]
    return encoders if len(encoders) > 1 else encoders[0]


def _within(arguments: Mapping[str, Any], part: AnnData) -> dict[str, Any]:
    """Leave out a column of validation groups that has only one group left."""
    key = arguments["validation_key"]
    lost = key is not None and (key not in part.obs or part.obs[key].nunique() < 2)
    return {**arguments, "validation_key": None if lost else key}


def _part(ref: AnnData, rows: np.ndarray, stored: StoredModel, labels: Labels, values: Any) -> AnnData:
    """Make an AnnData of some spots with their images; with expression where values are given, else without any."""
    config = stored.config
    columns = (config.library_key, labels.patient_key, config.params.get("validation_key"), *_GRID)
    named = [column for column in dict.fromkeys(columns) if column and column in ref.obs]
    names = as_text(ref.var_names)
    made = AnnData(obs=ref.obs[named].iloc[rows].copy(), var=pd.DataFrame(index=names))
    for key in (_keys.SPATIAL, config.image.key):
        if key in ref.obsm:
            stored_rows = ref.obsm[key]
            made.obsm[key] = (stored_rows.to_numpy() if isinstance(stored_rows, pd.DataFrame) else stored_rows)[rows]
    if config.image.key in ref.uns:
        made.uns[config.image.key] = ref.uns[config.image.key]
    if values is not None:
        made.X = values[rows]
        made.uns["log1p"] = {}
        counts: Any = ref.layers[_keys.COUNTS]
        made.layers[_keys.COUNTS] = counts[rows]
        learned = names.isin(stored.genes)
        if not learned.all():
            made.var[_keys.HIGHLY_VARIABLE] = learned
        elif _keys.HIGHLY_VARIABLE in ref.var:
            made.var[_keys.HIGHLY_VARIABLE] = ref.var[_keys.HIGHLY_VARIABLE].to_numpy()
    return made
