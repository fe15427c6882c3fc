"""Trains and scores every method on every fold, and collects what comes of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bleep_sc._progress import progress
from bleep_sc._settings import settings
from bleep_sc.metrics.summary import for_uns, summarize, tabulate
from bleep_sc.tl._cv.folds import Fold
from bleep_sc.tl._cv.plan import Asked, Plan
from bleep_sc.tl._cv.run import predict, prepare
from bleep_sc.tl._cv.scores import FoldScores


@dataclass(frozen=True)
class Comparison:
    """The results of a cross-validation."""

    layers: dict[str, np.ndarray]
    """The out-of-fold predictions of each method (n_obs, n_vars)."""
    scores: pd.DataFrame
    """The scores: a row for each method, section, panel and metric."""
    summary: pd.DataFrame
    """The means of the scores over sections, then patients, with intervals."""
    chosen: pd.DataFrame
    """The values that each method chose in each fold."""


def compare(
    plan: Plan,
    asked: Mapping[str, Asked],
    folds: Sequence[Fold],
    scorer: FoldScores,
    *,
    labels: Mapping[str, str],
    progress_bar: bool | None,
) -> Comparison:
    """Train and score each method on each fold; `labels` are columns that say of what kind the folds are."""
    layers = {label: np.full(plan.adata.shape, np.nan, dtype=np.float32) for label in asked}
    chosen: list[dict[str, Any]] = []
    steps = iter(progress(range(len(folds) * len(asked)), desc="Cross-validating", show=progress_bar))
    with settings.override(verbosity="warning"):
        for fold in folds:
            prepared = prepare(plan, fold)
            for label, asked_method in asked.items():
                next(steps)
                layer, chosen_values = predict(plan, fold, prepared, asked_method)
                layers[label][fold.test] = layer
                chosen += [
                    {"method": label, "fold": fold.name, "parameter": name, "value": float(value)}
                    for name, value in chosen_values.items()
                ]
                extra = {**labels, "uses_query_counts": asked_method.reads_query_counts}
                scorer.score(plan, fold, prepared, label, layer, extra=extra)
        next(steps, None)  # closes the bar
    summary = summarize(scorer.rows, draws=scorer.draws, n_bootstrap=scorer.n_bootstrap, random_state=plan.random_state)
    for name, value in labels.items():
        summary[name] = value
    summary["uses_query_counts"] = [asked[label].reads_query_counts for label in summary["method"]]
    table = pd.DataFrame(chosen, columns=["method", "fold", "parameter", "value"])
    return Comparison(layers, tabulate(scorer.rows), summary, for_uns(table))
