"""The slim form of a model, which predicts without the reference's spots: what goes into it, and what stays behind."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData

from bleep_sc._expression import reference_values
from bleep_sc._logging import logger, warn
from bleep_sc.io._calibration import CALIBRATION, Calibration, Promise
from bleep_sc.io._components import read_components
from bleep_sc.io._config import Config
from bleep_sc.io._gene_columns import GENE_COLUMNS, columns_to_bytes
from bleep_sc.io._novelty import NOVELTY
from bleep_sc.io._stored import StoredModel, check_gene_names
from bleep_sc.io._trained import rebuilt
from bleep_sc.methods.task import Trained
from bleep_sc.models.nets.serialize import weights_to_bytes

_MODE = "regression"
_IN_WORDS = {
    NOVELTY: "what tells unusual spots",
    CALIBRATION: "half-widths of intervals",
    GENE_COLUMNS: "the list of predictable genes",
}
"""The entries that say how far to trust a model, in words."""


def slim_form(adata: AnnData, key: str, stored: StoredModel) -> tuple[StoredModel, dict[str, np.ndarray]]:
    """Make the slim form of a model, and the entries that say how far to trust it.

    Raises
    ------
    ValueError
        The model predicts nothing without the reference's spots.
    """
    trained = rebuilt(stored, where=f"`adata.uns[{key!r}]`")
    if trained.method.needs_spots:
        kind = f"{stored.config.method!r}, preset {stored.config.preset!r}," if stored.config.preset else ""
        msg = (
            f"`slim=True`: the model {key!r} (method {kind or repr(stored.config.method)}) averages measured profiles "
            "of the reference's spots, so nothing can be predicted without them. Fit BLEEP's default recipe, "
            "`preset='best'` or a regression, or leave `slim` out and share the reference itself."
        )
        raise ValueError(msg)
    slim = _without_spots(adata, key, stored, trained)
    entry = adata.uns[key]
    trust = {NOVELTY: np.asarray(entry[NOVELTY])} if NOVELTY in entry else {}
    if CALIBRATION in entry:
        where = f"`adata.uns[{key!r}][{CALIBRATION!r}]`"
        calibration = Calibration.from_bytes(entry[CALIBRATION], where=where)
        trust |= _calibration(adata, key, calibration, stored, slim, has_modes=len(trained.method.modes) > 1)
    return slim, trust


def log_what_travels(folder: Path, stored: StoredModel, trust: Mapping[str, np.ndarray]) -> None:
    """Say what is in the folder of a model, and what is not."""
    config = stored.config
    inside = ["weights", f"{len(stored.genes)} gene names", "panels", "training history"]
    inside += [said for name, said in _IN_WORDS.items() if name in trust]
    also = {
        "the image features of {n} spots, which its kernel regression is built on": config.model.get("n_landmarks", 0),
        "the names of {n} sections": len(config.method_config.get("centers", {})),
        "the names of the {n} patients or sections that were held out": _n_groups(trust),
    }
    named = [] if config.slim else [said.format(n=n) for said, n in also.items() if n]
    logger.info(
        "%r holds the %s: %s. No measured profile, no crop and no name of a spot is in it.%s",
        str(folder),
        "slim model" if config.slim else "model",
        ", ".join(inside),
        f" It does hold {', '.join(named)}: `slim=True` writes a form without them." if named else "",
    )


def _n_groups(trust: Mapping[str, np.ndarray]) -> int:
    if CALIBRATION not in trust:
        return 0
    return len(Calibration.from_bytes(trust[CALIBRATION], where="`trust`").promise.groups)


def _without_spots(adata: AnnData, key: str, stored: StoredModel, trained: Trained) -> StoredModel:
    config = stored.config
    if trained.method.slim is None:
        return replace(stored, config=replace(config, slim=True))
    check_gene_names(adata.var_names, path="adata.var_names")
    scores = read_components(adata, key, trained)
    fitted = trained.method.slim(trained, config.model, scores, reference_values(adata, config.expression.layer))
    of_slim = Config(
        method=config.method,
        preset=config.preset,
        params=config.params,
        model=fitted.arguments.spec(),
        image=config.image,
        expression=config.expression,
        library_key=config.library_key,
        patient_key=config.patient_key,
        units=config.units,
        method_config=fitted.record,
        versions=config.versions,
        slim=True,
    )
    genes = adata.var_names.to_numpy().astype(str)
    return StoredModel(weights_to_bytes(fitted.model), genes, of_slim, stored.history, stored.panels)


def _calibration(
    adata: AnnData, key: str, calibration: Calibration, stored: StoredModel, slim: StoredModel, *, has_modes: bool
) -> dict[str, np.ndarray]:
    """Return the calibration and the columns of genes, if they are of what the slim form predicts; else warn."""
    promise = calibration.promise
    predictor: Mapping[str, Any] = promise.predictor
    if has_modes:
        layer = stored.config.expression.layer or "X"
        fits = predictor.get("predict") == _MODE and predictor.get("layer") == layer
        predictor = {"method": predictor.get("method"), "predict": _MODE}
    else:
        fits = True
    if not fits or promise.model_sha256 != stored.sha256:
        warn(
            f"the slim form predicts by {_MODE}, and the calibration of the model {key!r} is of "
            f"{promise.predictor.get('predict', 'another model')!r}, whose errors are others. So the slim form is "
            "written without intervals and without the list of predictable genes. For both, run "
            f"`bleep_sc.tl.calibrate(ref, predict={_MODE!r})` and write it again."
        )
        return {}
    promise = replace(_nameless(promise), predictor=dict(predictor), model_sha256=slim.sha256)
    entries = {CALIBRATION: replace(calibration, promise=promise).to_uns()[CALIBRATION]}
    columns = columns_to_bytes(adata.var, key, slim.genes)
    return entries if columns is None else {**entries, GENE_COLUMNS: columns}


def _nameless(promise: Promise) -> Promise:
    """Put numbers in the place of the names of patients or sections."""
    kind = "section" if promise.joint else "patient"
    numbered = {name: f"{kind} {number}" for number, name in enumerate(promise.groups, 1)}
    coverage = [[numbered[row[0]], *row[1:]] for row in promise.coverage]
    return replace(promise, groups=list(numbered.values()), coverage=coverage)
