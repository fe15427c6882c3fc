"""One fold of a cross-validation: all is chosen on its training spots, and its test spots are predicted blind."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from bleep_sc import _keys
from bleep_sc._side_effects import parallel_numba
from bleep_sc._stats import panels
from bleep_sc.io._novelty import NOVELTY
from bleep_sc.io._stored import from_uns
from bleep_sc.methods.learning.heldout import choose_k
from bleep_sc.methods.record import Method
from bleep_sc.pp._near_empty import MESSAGE as NEAR_EMPTY
from bleep_sc.tl._cv.folds import Fold
from bleep_sc.tl._cv.plan import OF_IMPUTE, Asked, Plan
from bleep_sc.tl._fit import fit
from bleep_sc.tl._impute import impute
from bleep_sc.tl._inputs.held_out import by_section, inner_folds, validation_spots
from bleep_sc.tl._inputs.units import units_known
from bleep_sc.tl._trust.reliability import RELIABILITY

_GRID = ("array_row", "array_col")
MODEL_OF_FOLD = "model_of_fold"
"""The name of the model within a fold, whatever the user calls the method."""
PANELS = ("all", "HEG-50", "HVG-50", "HVG-200")
"""The panels of genes that every fold chooses; markers are another where the user names some."""


@dataclass(frozen=True)
class Prepared:
    """The training spots of a fold, ready to fit, its test spots without expression, and what these are scored on."""

    ref: AnnData
    query: AnnData
    truth: sparse.csr_matrix
    """The measured expression of the test spots, which only scoring sees."""
    target_sum: float | None
    panels: dict[str, np.ndarray]
    validation_key: str | None


def prepare(plan: Plan, fold: Fold) -> Prepared:
    """Normalise, select genes, correct batches and choose panels on the training spots alone."""
    target_sum = None
    training, truth = plan.values[fold.training], plan.values[fold.test]
    counts = None
    if plan.is_counts:
        counts, target_sum = training, float(np.median(np.asarray(training.sum(axis=1))))
        training, truth = log_normalized(training, target_sum), log_normalized(truth, target_sum)
    ref = bare(plan, fold.training)
    ref.X = training
    ref.uns["log1p"] = {}
    if counts is not None:
        ref.layers[_keys.COUNTS] = counts
    _select(plan, ref)
    chosen = ref.var[_keys.HIGHLY_VARIABLE].to_numpy()
    names = ref.var_names.to_numpy().astype(str)
    sections = ref.obs[plan.library_key].astype(str).to_numpy()
    genes_of_panels = {"all": names[chosen], **panels(training[:, chosen], names[chosen], sections)}
    if plan.markers:
        genes_of_panels["markers"] = np.array(plan.markers)
    return Prepared(ref, bare(plan, fold.test), truth, target_sum, genes_of_panels, validation_key(plan, ref))


def predict(plan: Plan, fold: Fold, prepared: Prepared, asked: Asked) -> tuple[np.ndarray, dict[str, Any]]:
    """Fit one method and predict the test spots.

    Returns
    -------
    The predicted layer (n_test, n_genes), and the values that the method chose.
    """
    ref, query, chosen = train(plan, fold, prepared, asked)
    impute_blind(ref, query, chosen, asked)
    return np.asarray(query.layers[MODEL_OF_FOLD]), chosen


def predict_and_judge(
    plan: Plan, fold: Fold, prepared: Prepared, asked: Asked
) -> tuple[np.ndarray, pd.DataFrame | None]:
    """Fit one method and predict the test spots, as `predict` does.

    Returns
    -------
    The predicted layer (n_test, n_genes), and the verdict on each test section: how far it looks like the training
    spots. There is none of a method that reads no image.
    """
    ref, query, chosen = train(plan, fold, prepared, asked, judged=True)
    impute_blind(ref, query, chosen, asked)
    return np.asarray(query.layers[MODEL_OF_FOLD]), query.uns[MODEL_OF_FOLD].get(RELIABILITY)


def train(
    plan: Plan, fold: Fold, prepared: Prepared, asked: Asked, *, judged: bool = False
) -> tuple[AnnData, AnnData, dict[str, Any]]:
    """Fit one method; return the reference with its model, what will be predicted, and what the method chose.

    With `judged` the model tells how far a section looks like its training spots.
    """
    # objects of this method's own, so that it finds nothing of another's
    query = prepared.query.copy()
    if asked.reads_query_counts:
        query.layers[_keys.COUNTS] = plan.values[fold.test]
    ref, chosen = learn(plan, prepared, asked, judged=judged)
    return ref, query, chosen


def impute_blind(ref: AnnData, query: AnnData, chosen: Mapping[str, Any], asked: Asked) -> None:
    """Predict the spots of `query`, which holds no expression, into its layer `MODEL_OF_FOLD`."""
    arguments = asked.arguments
    impute(
        query,
        ref,
        key=MODEL_OF_FOLD,
        k=chosen.get("k", 1),
        predict=arguments.get("predict"),
        encoder=own_encoders(asked),
        image_key=arguments.get("image_key"),
        device=arguments.get("device"),
        precision=arguments.get("precision"),
        progress_bar=False,
    )


def learn(plan: Plan, prepared: Prepared, asked: Asked, *, judged: bool = False) -> tuple[AnnData, dict[str, Any]]:
    """Fit one method on the training spots of a fold.

    Returns
    -------
    The reference with the model, and the values that the method chose.
    """
    ref, method = prepared.ref.copy(), asked.method
    common: dict[str, Any] = {
        "library_key": plan.library_key,
        "patient_key": plan.patient_key,
        "random_state": plan.random_state,
        "progress_bar": False,
        "key_added": MODEL_OF_FOLD,
    }
    of_fit = {name: value for name, value in asked.arguments.items() if name not in OF_IMPUTE}
    with units_known():
        fit(ref, **{**of_fit, **common}, validation_key=prepared.validation_key)
    chosen: dict[str, Any] = dict(from_uns(ref.uns, MODEL_OF_FOLD).config.method_config.get("chosen", {}))
    if method.space is not None:
        chosen["k"] = plan.k or chosen.get("k") or _choose_k(plan, prepared, ref, method)
    if method.held_out.spots:
        chosen["best_epoch"] = int(np.atleast_1d(ref.uns[MODEL_OF_FOLD]["history"]["best_epoch"])[0])
        if plan.refit:
            again = {**of_fit, **common, "max_epochs": chosen["best_epoch"] + 1}
            with units_known():
                fit(ref, **again, validation_share=0.0)
    if not judged:  # scores say how well each section is predicted: no verdict in every fold
        ref.uns[MODEL_OF_FOLD].pop(NOVELTY, None)
    return ref, chosen


def own_encoders(asked: Asked) -> list[Any] | None:
    """List the encoders of the user's own, which a model does not keep; None where there are none."""
    encoder = asked.arguments.get("encoder")
    return [each for each in (encoder if isinstance(encoder, list | tuple) else [encoder]) if callable(each)] or None


def log_normalized(counts: sparse.csr_matrix, target_sum: float) -> sparse.csr_matrix:
    """Normalise counts to one total and take log1p; a spot without counts stays empty."""
    import scanpy as sc

    made = AnnData(counts.astype(np.float32))
    with warnings.catch_warnings(), parallel_numba():
        warnings.filterwarnings("ignore", message="Some cells have zero counts")
        sc.pp.normalize_total(made, target_sum=target_sum)
    sc.pp.log1p(made)
    return sparse.csr_matrix(made.X)


def bare(plan: Plan, rows: np.ndarray) -> AnnData:
    """Make an AnnData of some spots with their names, places and images, but no expression in any form."""
    adata = plan.adata
    named = (plan.library_key, plan.group_key, plan.patient_key)
    columns = [column for column in dict.fromkeys((*named, *_GRID)) if column in adata.obs]
    made = AnnData(obs=adata.obs[columns].iloc[rows].copy(), var=pd.DataFrame(index=adata.var_names))
    for key in dict.fromkeys((_keys.SPATIAL, *plan.image_keys)):
        if key in adata.obsm:
            values = adata.obsm[key]
            made.obsm[key] = (values.to_numpy() if isinstance(values, pd.DataFrame) else values)[rows]
        if key != _keys.SPATIAL and key in adata.uns:
            made.uns[key] = adata.uns[key]
    return made


def _select(plan: Plan, ref: AnnData) -> None:
    """Mark the genes to learn from and to score: the sections' highly variable genes and the markers."""
    from bleep_sc.pp import harmonize, select_genes

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=NEAR_EMPTY)  # said once for all folds
        select_genes(ref, batch_key=plan.library_key, n_top_genes=plan.n_top_genes, min_fraction=plan.min_fraction)
    var: pd.DataFrame = ref.var
    var.loc[list(plan.markers), _keys.HIGHLY_VARIABLE] = True
    if plan.harmonize:
        harmonize(ref, batch_key=plan.library_key, random_state=plan.random_state)


def validation_key(plan: Plan, ref: AnnData) -> str | None:
    """Validate on whole training groups where there are two, else on whole sections, else on spots."""
    for key in (plan.group_key, plan.library_key):
        if ref.obs[key].nunique() > 1:
            return key
    return None


def _choose_k(plan: Plan, prepared: Prepared, ref: AnnData, method: Method[Any]) -> int:
    sections = ref.obs[plan.library_key].astype(str).to_numpy()
    arguments: dict[str, Any] = {
        "sections": sections,
        "validation_key": prepared.validation_key,
        "random_state": plan.random_state,
    }
    if method.held_out.spots:  # only spots that the training did not see can tell
        held_out = validation_spots(ref, **arguments)
        folds = [(np.flatnonzero(~held_out), by_section(held_out, sections))]
    else:
        folds = inner_folds(ref, **arguments)
    expression: Any = ref.X
    scored = expression[:, ref.var[_keys.HIGHLY_VARIABLE].to_numpy()]
    images: np.ndarray = np.asarray(ref.obsm[_keys.image_embedding(MODEL_OF_FOLD)])
    has_expression = method.space is not None and method.space.has_expression
    keys = np.asarray(ref.obsm[_keys.expression_embedding(MODEL_OF_FOLD)]) if has_expression else images
    return choose_k(images, keys, scored, folds)[0]
