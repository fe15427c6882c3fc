"""The cells of a transfer matrix: each trains on one tissue, or on all, and scores one section after the other."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from bleep_sc import _keys
from bleep_sc.metrics.summary import summarize
from bleep_sc.tl._cv.folds import Fold, scope_of
from bleep_sc.tl._cv.plan import Asked, Plan
from bleep_sc.tl._cv.run import Prepared, bare, log_normalized, predict_and_judge, prepare, validation_key
from bleep_sc.tl._cv.scores import FoldScores
from bleep_sc.tl._study._tissues.joined import ALL, GROUP, Joined
from bleep_sc.tl._study.parts import Parts
from bleep_sc.tl._trust.reliability import GRADES

METRICS = ("pearson", "pearson_depth_free")
PANELS = ("all", "HEG-50", "HVG-50", "HVG-200")
TRANSFER, CROSS_VALIDATED = "transfer", "cross-validated"
ONE_GROUP = "cannot be told: one section or patient only, so nothing of the tissue would be left to train on"


@dataclass(frozen=True)
class Cell:
    """One fold of one cell: the reference that is trained on, and the part of a tissue that is scored."""

    trained_on: str
    tested_on: str
    fold: Fold


def folds_of(joined: Joined) -> Iterator[tuple[Fold, list[Cell]]]:
    """Give each part that is scored, with the spots that its genes are chosen on, and the cells that score it.

    Genes and panels are chosen on the other groups of the tissue that is tested; where there are none, on the other
    tissues. So all cells of a column are scored on the same genes, and none was chosen on what is scored.
    """
    obs: pd.DataFrame = joined.adata.obs
    groups = obs[GROUP].to_numpy(dtype=str)
    for tested in joined.names:
        of_tissue = joined.tissues == tested
        names = np.unique(groups[of_tissue])
        for group in names:
            test = groups == group
            several = len(names) > 1
            rest = of_tissue & ~test if several else ~of_tissue
            training = {name: joined.tissues == name for name in joined.names if name != tested}
            if several:
                training |= {tested: rest, ALL: ~test}
            cells = [Cell(name, tested, _fold(group, rows, test, groups)) for name, rows in training.items()]
            yield _fold(group, rest, test, groups), cells


def _fold(name: str, training: np.ndarray, test: np.ndarray, groups: np.ndarray) -> Fold:
    return Fold(name, np.flatnonzero(training), np.flatnonzero(test), groups)


def score_cells(
    joined: Joined, plan: Plan, asked: Asked, done: Parts, *, steps: Callable[[Any], Any]
) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """Train and score every cell; what `done` has is not trained again, and what is trained is kept there.

    Returns
    -------
    The rows of `score_panels`, whose method is a pair of names, and the verdicts on the sections.
    """
    obs: pd.DataFrame = joined.adata.obs
    sections, patients = obs[plan.library_key].to_numpy(dtype=str), obs[_keys.PATIENT].to_numpy(dtype=str)
    scorer = FoldScores(
        joined.adata,
        sections,
        dict(zip(sections, patients, strict=True)),
        METRICS,
        n_bootstrap=0,
        random_state=plan.random_state,
    )
    rows: list[dict[str, Any]] = []
    verdicts: list[dict[str, Any]] = []
    prepared: tuple[str, Prepared] | None = None
    for column, cell in steps([(column, cell) for column, cells in folds_of(joined) for cell in cells]):
        name = f"{_pair(cell.trained_on, cell.tested_on)}, {column.name!r} held out"
        found = done.read(name)
        if found is None:
            if prepared is None or prepared[0] != column.name:
                prepared = column.name, _prepare_column(plan, column, joined)
            scorer.rows = []
            verdict = _score_cell(joined, plan, asked, cell, column=prepared[1], scorer=scorer, patients=patients)
            found = done.keep(name, {"scores": scorer.rows, "verdicts": verdict})
        rows += found["scores"]
        verdicts += found["verdicts"]
    return rows, pd.DataFrame(verdicts)


def _score_cell(
    joined: Joined,
    plan: Plan,
    asked: Asked,
    cell: Cell,
    *,
    column: Prepared,
    scorer: FoldScores,
    patients: np.ndarray,
) -> list[dict[str, Any]]:
    """Train on the reference of one cell and score it; return the verdicts on its sections."""
    ref = _reference(plan, cell.fold, joined, column)
    own = replace(column, ref=ref, validation_key=validation_key(plan, ref))
    layer, verdict = predict_and_judge(plan, cell.fold, own, asked)
    pair = {"trained_on": cell.trained_on, "tested_on": cell.tested_on}
    extra = {**pair, "scope": scope_of([cell.fold], patients)}
    scorer.score(plan, cell.fold, own, _pair(**pair), layer, extra=extra)
    return [] if verdict is None else verdict.assign(**pair).to_dict("records")


def _pair(trained_on: str, tested_on: str) -> str:
    """Name a cell: names of tissues are quoted, since they may have an arrow of their own."""
    return f"{trained_on!r} > {tested_on!r}"


def _prepare_column(plan: Plan, column: Fold, joined: Joined) -> Prepared:
    """Choose genes and panels, and normalise the truth to the scale of its own tissue."""
    prepared = prepare(plan, column)
    if not plan.is_counts or joined.tissues[column.training[0]] == joined.tissues[column.test[0]]:
        return prepared
    counts = plan.values[column.test]
    total = _median_total(counts)
    return replace(prepared, truth=log_normalized(counts, total), target_sum=total)


def _reference(plan: Plan, fold: Fold, joined: Joined, prepared: Prepared) -> AnnData:
    """Make the spots that are trained on, each tissue normalised to the median total of its own of them."""
    from bleep_sc.pp import harmonize

    ref = bare(plan, fold.training)
    values, tissues = plan.values[fold.training], joined.tissues[fold.training]
    if plan.is_counts:
        ref.layers[_keys.COUNTS] = values
        parts = [values[tissues == name] for name in joined.names if (tissues == name).any()]
        values = sparse.csr_matrix(sparse.vstack([log_normalized(part, _median_total(part)) for part in parts]))
    ref.X = values
    ref.uns["log1p"] = {}
    ref.var[_keys.HIGHLY_VARIABLE] = prepared.ref.var[_keys.HIGHLY_VARIABLE]
    if plan.harmonize:
        harmonize(ref, batch_key=plan.library_key, random_state=plan.random_state)
    return ref


def _median_total(counts: sparse.csr_matrix) -> float:
    # a spot may hold none of the shared genes
    return max(1.0, float(np.median(np.asarray(counts.sum(axis=1)))))


def tabulate_cells(
    joined: Joined, rows: Sequence[dict[str, Any]], verdicts: pd.DataFrame, *, n_bootstrap: int, random_state: int
) -> pd.DataFrame:
    """Make the tidy table: a row for each trained-on, tested-on and panel, also where a cell cannot be told."""
    summary = summarize(rows, n_bootstrap=n_bootstrap, random_state=random_state)
    scopes = {row["method"]: row["scope"] for row in rows}
    table = []
    for trained in (*joined.names, ALL):
        for tested in joined.names:
            label = _pair(trained, tested)
            of_cell = summary[summary["method"] == label]
            common = {
                "trained_on": trained,
                "tested_on": tested,
                "how": CROSS_VALIDATED if trained in (tested, ALL) else TRANSFER,
            }
            for panel in PANELS:
                of_panel = of_cell[of_cell["panel"] == panel].set_index("metric")
                scored = _scored(of_panel) if len(of_panel) else {"note": ONE_GROUP}
                told = _verdict(verdicts, trained, tested)
                table.append({**common, "panel": panel, **scored, "scope": scopes.get(label, ""), **told})
    out = pd.DataFrame(table).assign(n_shared_genes=joined.adata.n_vars)
    return _with_cost(out)[list(COLUMNS)]


COLUMNS = (
    *("trained_on", "tested_on", "panel", "value", "low", "high", "interval_over", "depth_free", "ceiling"),
    *("n_genes", "n_shared_genes", "n_sections", "n_patients", "how", "scope", "verdict", "n_unlike", "share_unlike"),
    *("cost", "note"),
)


def _scored(of_panel: pd.DataFrame) -> dict[str, Any]:
    first = of_panel.loc[METRICS[0]]
    names = ("value", "low", "high", "interval_over", "ceiling", "n_genes", "n_sections", "n_patients")
    free = float(of_panel["value"].get(METRICS[1], np.nan))
    return {**{name: first[name] for name in names}, "depth_free": free, "note": ""}


def _verdict(verdicts: pd.DataFrame, trained: str, tested: str) -> dict[str, Any]:
    """Give the worst verdict on the sections of a cell, how many share it, and the share of unlike spots."""
    nothing: dict[str, Any] = {"verdict": "", "n_unlike": 0, "share_unlike": float("nan")}
    if verdicts.empty:
        return nothing
    own = verdicts[(verdicts["trained_on"] == trained) & (verdicts["tested_on"] == tested)]
    if own.empty:
        return nothing
    return {
        "verdict": max(own["verdict"], key=GRADES.index),
        "n_unlike": int((own["verdict"] == GRADES[-1]).sum()),
        "share_unlike": float(np.average(own["share_unlike"], weights=own["n_spots"])),
    }


def _with_cost(table: pd.DataFrame) -> pd.DataFrame:
    """Say what the joint reference loses against the tissue's own sections, in rows of the joint reference."""
    own = table[table["trained_on"] == table["tested_on"]].set_index(["tested_on", "panel"])["value"]
    keys = list(table[["tested_on", "panel"]].itertuples(index=False, name=None))
    cost = own.reindex(pd.MultiIndex.from_tuples(keys)).to_numpy(dtype=float) - table["value"].to_numpy(dtype=float)
    table["cost"] = np.where(table["trained_on"] == ALL, cost, np.nan)
    for name in ("n_genes", "n_sections", "n_patients"):
        table[name] = table[name].fillna(0).astype(int)
    table["interval_over"] = table["interval_over"].fillna("")
    return table
