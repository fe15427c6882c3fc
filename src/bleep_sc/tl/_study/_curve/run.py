"""Trains and scores a method on every subset of a learning curve, and measures what that costs."""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
from anndata import AnnData
from scipy import sparse

from bleep_sc import _keys
from bleep_sc._logging import warn
from bleep_sc._progress import progress
from bleep_sc._settings import settings
from bleep_sc.methods.record import Method
from bleep_sc.models.search.nearest import nearest
from bleep_sc.tl._cv.folds import Fold
from bleep_sc.tl._cv.plan import Asked, Plan
from bleep_sc.tl._cv.run import MODEL_OF_FOLD, Prepared, impute_blind, prepare, train, validation_key
from bleep_sc.tl._cv.scores import FoldScores
from bleep_sc.tl._study._curve.subsets import Subset
from bleep_sc.tl._study.parts import Parts

Rows = list[dict[str, Any]]

THIN_SECTIONS = "image features are standardised within each section"


@dataclass
class Trainings:
    """Trains on the subsets of one fold after the other."""

    plan: Plan
    asked: Asked
    label: str
    folds: Sequence[Fold]
    scorer: FoldScores
    labels: Mapping[str, str]

    def run(self, subsets: Sequence[Subset], done: Parts, *, progress_bar: bool | None) -> tuple[Rows, Rows]:
        """Return the rows of scores, and the rows of costs, of all subsets."""
        scores: Rows = []
        costs: Rows = []
        at, prepared = -1, None
        largest = max(subset.size for subset in subsets)
        with settings.override(verbosity="warning"), each_told_once():
            for number, subset in enumerate(progress(subsets, desc="Learning curve", show=progress_bar)):
                name = f"training {number + 1}"
                found = done.read(name)
                if found is None:
                    if at != subset.fold or prepared is None:
                        at, prepared = subset.fold, prepare(self.plan, self.folds[subset.fold])
                    found = done.keep(name, self._one(subset, prepared, checked=subset.size == largest))
                scores += found["scores"]
                costs += found["costs"]
        return scores, costs

    def _one(self, subset: Subset, prepared: Prepared, *, checked: bool) -> dict[str, Rows]:
        """Train on one subset, and score what it predicts; places are compared with images on the largest alone."""
        fold, plan = self.folds[subset.fold], self.plan
        part = prepared.ref[subset.rows].copy()
        own = replace(prepared, ref=part, validation_key=validation_key(plan, part))
        arguments = self.asked.arguments if checked else {**self.asked.arguments, "check": "off"}
        asked = replace(self.asked, arguments=arguments)
        start = perf_counter()
        ref, query, chosen = train(plan, fold, own, asked)
        fitted = perf_counter()
        impute_blind(ref, query, chosen, asked)
        end = perf_counter()
        before = len(self.scorer.rows)
        named = {"size": subset.size, "draw": subset.draw, "n_spots": len(subset.rows)}
        layer: np.ndarray = np.asarray(query.layers[MODEL_OF_FOLD])
        extra = {**named, **self.labels}
        self.scorer.score(plan, fold, prepared, self.label, layer, extra=extra)
        cost = {
            "fold": fold.name,
            **named,
            "seconds_fit": fitted - start,
            "seconds_predict": end - fitted,
            **_search(asked.method, ref, query, int(chosen.get("k", 1))),
            "n_query": query.n_obs,
            "mb_reference": _bytes_of_reference(asked.method, ref) / 1e6,
        }
        return {"scores": self.scorer.rows[before:], "costs": [cost]}


@contextmanager
def each_told_once() -> Iterator[None]:
    """Tell warnings that many trainings repeat once, when all are done.

    They differ in numbers and in names of sections alone. That thin sections are standardised by the reference is left
    out: it cannot be otherwise where spots are drawn.
    """
    told: dict[str, tuple[str, type[Warning]]] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            for each in caught:
                text = str(each.message)
                if not text.startswith(THIN_SECTIONS):
                    told.setdefault(re.sub(r"'[^']*'|[-\d.]+", "", text), (text, each.category))
    for text, category in told.values():
        warn(text, category)


def _search(method: Method[Any], ref: AnnData, query: AnnData, k: int) -> dict[str, float]:
    """Time the search by itself, and count the reference spots that it finds; NaN for what retrieves nothing."""
    nothing = {"seconds_search": float("nan"), "k": float("nan"), "references_used": float("nan")}
    if method.space is None or _keys.image_embedding(MODEL_OF_FOLD) not in query.obsm:
        return nothing
    match = _keys.expression_embedding if method.space.has_expression else _keys.image_embedding
    images: np.ndarray = np.asarray(query.obsm[_keys.image_embedding(MODEL_OF_FOLD)])
    keys: np.ndarray = np.asarray(ref.obsm[match(MODEL_OF_FOLD)])
    start = perf_counter()
    rows, _ = nearest(images, keys, min(k, len(keys)))
    seconds = perf_counter() - start
    return {"seconds_search": seconds, "k": float(k), "references_used": float(len(np.unique(rows)))}


def _bytes_of_reference(method: Method[Any], ref: AnnData) -> int:
    """Count the bytes of all that predicting reads: the model, and places and profiles of spots where it retrieves."""
    total = int(np.asarray(ref.uns[MODEL_OF_FOLD]["model"]).nbytes)
    if method.space is None:
        return total
    made = (_keys.image_embedding, _keys.expression_embedding, _keys.components)
    total += sum(np.asarray(ref.obsm[key(MODEL_OF_FOLD)]).nbytes for key in made if key(MODEL_OF_FOLD) in ref.obsm)
    profiles = sparse.csr_matrix(ref.X)
    return total + profiles.data.nbytes + profiles.indices.nbytes + profiles.indptr.nbytes
