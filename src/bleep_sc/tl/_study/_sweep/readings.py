"""Predicts the test spots of a fold in several ways by one model: what `impute` would do for each, read once."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from bleep_sc import _keys
from bleep_sc.io._trained import load_model
from bleep_sc.methods.prediction import Neighbors, Request
from bleep_sc.models.device import resolve_compute
from bleep_sc.tl._cv.folds import Fold
from bleep_sc.tl._cv.plan import Asked, Plan
from bleep_sc.tl._cv.run import MODEL_OF_FOLD, Prepared, own_encoders
from bleep_sc.tl._inputs import AsStored, read
from bleep_sc.tl._inputs.genes import Available, shared_genes
from bleep_sc.tl._inputs.reference import read_reference
from bleep_sc.tl._load import sections_like


def read_in_ways(
    plan: Plan,
    fold: Fold,
    prepared: Prepared,
    asked: Asked,
    ref: Any,
    *,
    genes: np.ndarray,
    k: int,
    readings: Mapping[int, Mapping[str, Any]],
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the number of each reading with its prediction of some genes, float32 (n_test, n_genes).

    Parameters
    ----------
    ref
        The training spots with the model.
    genes
        The columns to predict.
    k
        The number of neighbours of readings that do not name one.
    readings
        `k` and `predict` by number.
    """
    arguments = asked.arguments
    wanted: Any = slice(None)
    query = prepared.query[:, genes].copy()
    if asked.reads_query_counts:  # those of all genes tell the depth
        query, wanted = prepared.query.copy(), genes
        query.layers[_keys.COUNTS] = plan.values[fold.test]
    compute = resolve_compute(device=arguments.get("device"), precision=arguments.get("precision"), progress_bar=False)
    stored, trained = load_model(ref, MODEL_OF_FOLD)
    method, image_key = trained.method, arguments.get("image_key")
    sections = sections_like(query, stored, image_key, name="query")
    known = pd.Index(ref.var_names if method.retrieves else stored.genes)
    columns = shared_genes(query, Available(known, "the reference", "ref.var_names", ref.var))
    images = AsStored(stored.config.image, image_key, own_encoders(asked), trained.networks)
    spots = read(query, method.needs(trained.method_config), images, sections=sections, compute=compute, name="query")
    spots = method.see_in_section(trained, spots)
    for mode, of_mode in _by_mode(readings, arguments.get("predict")).items():
        how = None
        if method.space is not None:
            how = Neighbors(method.mode(mode), k, method.space.match, "mean", 1.0, "exact", None)
        reference = read_reference(query, ref, MODEL_OF_FOLD, trained=trained, stored=stored, how=how)
        imputation = method.predict(trained, spots, reference, Request(columns, compute, how))
        impute: Any = imputation.impute
        for number, of_k in of_mode.items():
            if how is not None:
                impute = replace(impute, how=replace(how, k=of_k or k))
            yield number, np.asarray(impute(**imputation.inputs).expression)[:, wanted]


def _by_mode(readings: Mapping[int, Mapping[str, Any]], usual: Any) -> dict[Any, dict[int, int | None]]:
    """Gather readings by their way to predict: number and `k` of each."""
    modes: dict[Any, dict[int, int | None]] = {}
    for number, reading in readings.items():
        modes.setdefault(reading.get("predict", usual), {})[number] = reading.get("k")
    return modes
