"""Trains each model of a sweep once in each split, and scores all settings that it serves."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bleep_sc._progress import progress
from bleep_sc._settings import settings
from bleep_sc.tl._cv.plan import Plan, readable
from bleep_sc.tl._cv.ready import Ready
from bleep_sc.tl._cv.run import Prepared, learn, prepare
from bleep_sc.tl._cv.scores import FoldScores
from bleep_sc.tl._study._sweep.folds import Split
from bleep_sc.tl._study._sweep.grid import Grid, Training
from bleep_sc.tl._study._sweep.readings import read_in_ways
from bleep_sc.tl._study.parts import Parts

Rows = list[dict[str, Any]]


def run_splits(
    ready: Ready,
    grid: Grid,
    splits: Sequence[Split],
    done: Parts,
    *,
    metrics: Sequence[str],
    choose_by: str,
    progress_bar: bool | None,
) -> Iterator[tuple[Split, Rows]]:
    """Yield what each training scores on its split: a row for each setting, section, panel and metric.

    What `done` has is not trained again, and what is trained is kept there. Inner splits have the one metric by which
    folds choose.
    """
    # a number of neighbours that is swept is not chosen besides
    plan = replace(ready.plan, k=grid.largest_k)
    outer, inner = (
        FoldScores(plan.adata, ready.sections, ready.patients, names, n_bootstrap=0, random_state=plan.random_state)
        for names in (metrics, [choose_by])
    )
    steps = iter(progress(range(len(splits) * len(grid.trainings)), desc="Sweeping", show=progress_bar))
    for number, split in enumerate(splits):
        prepared = None
        for training in grid.trainings:
            next(steps)
            name = f"split {number + 1}, {training.label}"
            rows = done.read(name)
            if rows is None:
                with settings.override(verbosity="warning"):
                    prepared = prepared or prepare(plan, split.fold)
                    scorer = inner if split.outer is None else outer
                    rows = done.keep(name, _scored(plan, split, prepared, training, scorer))
            yield split, rows
    next(steps, None)  # closes the bar


def _scored(plan: Plan, split: Split, prepared: Prepared, training: Training, scorer: FoldScores) -> Rows:
    fold = split.fold
    ref, chosen = learn(plan, prepared, training.asked)
    names = plan.adata.var_names.to_numpy().astype(str)
    genes = np.flatnonzero(np.isin(names, np.concatenate(list(prepared.panels.values()))))
    layer = np.full((len(fold.test), plan.adata.n_vars), np.nan, dtype=np.float32)
    scorer.rows = []
    for number, predicted in read_in_ways(
        plan, fold, prepared, training.asked, ref, genes=genes, k=chosen.get("k", 1), readings=training.readings
    ):
        layer[:, genes] = predicted
        scorer.score(plan, fold, prepared, "", layer, extra={"setting": number})
    return [{name: value for name, value in row.items() if name not in ("method", "fold")} for row in scorer.rows]


def outer_rows(split: Split, rows: Rows) -> Rows:
    """Take the rows that say how good the settings are; none of an inner split."""
    return [] if split.outer is None else [{**row, "fold": split.outer} for row in rows]


def inner_rows(split: Split, rows: Rows) -> Rows:
    """Take the rows by which outer folds choose, once for each fold that chooses by the split."""
    return [
        {**row, "fold": outer, "inner_fold": inner}
        for outer, (inner, sections) in split.inner.items()
        for row in rows
        if row["section"] in sections
    ]


def check_k(grid: Grid, splits: Sequence[Split]) -> None:
    """Refuse a number of neighbours that some split does not have."""
    largest, fewest = grid.largest_k, min(splits, key=lambda split: len(split.fold.training)).fold
    if largest is not None and largest > len(fewest.training):
        msg = (
            f"`parameters['k']` has {largest}, but with {fewest.name!r} held out only {len(fewest.training)} spots are "
            "left to retrieve from. Give smaller ones."
        )
        raise ValueError(msg)


def describe(ready: Ready, grid: Grid, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """List what the user asked for, as JSON can hold it."""
    return {
        **arguments,
        "parameters": grid.values,
        "method_kwargs": {name: readable(value) for name, value in arguments["method_kwargs"].items()},
        "library_key": ready.plan.library_key,
        "patient_key": ready.plan.patient_key,
        "counts_layer": arguments["counts_layer"] if ready.plan.is_counts else None,
    }
