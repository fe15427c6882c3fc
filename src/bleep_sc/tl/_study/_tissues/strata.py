"""Genes put into strata on the training sections of each fold, and scored on the held-out ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from bleep_sc import _keys
from bleep_sc._adata import as_text, spatial_coordinates
from bleep_sc._blocks import budget
from bleep_sc._logging import logger
from bleep_sc._stats import log_depth, mean_variance, section_rows
from bleep_sc.metrics.correlation import partial_pearson, pearson
from bleep_sc.metrics.spatial import morans_i, spot_graph
from bleep_sc.metrics.turns import FEWEST_TURNS
from bleep_sc.tl._cv.folds import Fold
from bleep_sc.tl._cv.plan import Asked, Plan
from bleep_sc.tl._cv.ready import Ready
from bleep_sc.tl._cv.run import Prepared, predict, prepare
from bleep_sc.tl._cv.scores import FoldScores
from bleep_sc.tl._predictability import predictability
from bleep_sc.tl._study.parts import Parts

EXPRESSION, AUTOCORRELATION, MORPHOLOGY = "expression", "autocorrelation", "morphology"
GENE_SET = "gene set"
STATISTICS = (EXPRESSION, AUTOCORRELATION, MORPHOLOGY)
METRICS = ("pearson", "pearson_depth_free")
Rows = list[dict[str, Any]]
_N_MATCHED = 5
"""Number of strata of expression within which genes of a random set are drawn."""


@dataclass(frozen=True)
class Asking:
    """What strata and sets are asked for."""

    by: tuple[str, ...]
    n_strata: int
    sets: Mapping[str, Sequence[str]]
    min_genes: int
    n_draws: int
    looks: np.ndarray | None
    """Image features (n_obs, n_features) of the screen; None where it is not asked for."""


@dataclass
class Found:
    """What folds have found."""

    rows: Rows = field(default_factory=list)
    """Rows of `score_panels`; a panel is named as `panel_name` has it."""
    ranges: Rows = field(default_factory=list)
    """Lowest and highest value of each stratum's statistic, by fold."""
    programmes: Rows = field(default_factory=list)
    """Correlation of each set's mean, and of random sets (n_draws,), by section."""
    untold: dict[str, str] = field(default_factory=dict)
    """Why a statistic could not be had in a fold, by its name."""

    def add(self, *, rows: Rows, ranges: Rows, programmes: Rows, untold: Mapping[str, str]) -> None:
        """Add what a further fold has found."""
        self.rows += rows
        self.ranges += ranges
        self.programmes += programmes
        self.untold |= untold


def panel_name(by: str, stratum: str) -> str:
    """Name a panel by what its genes have in common."""
    return f"{by}\t{stratum}"


def score_folds(ready: Ready, asked: Asked, asking: Asking, done: Parts, *, steps: Callable[[Any], Any]) -> Found:
    """Form strata on the training sections of each fold, and score them on its held-out sections.

    What `done` has is not scored again, and what is scored is kept there.
    """
    seed = ready.plan.random_state
    scorer = FoldScores(ready.plan.adata, ready.sections, ready.patients, METRICS, n_bootstrap=0, random_state=seed)
    of_all = Found()
    for fold in steps(ready.folds):
        name = f"fold of {fold.name}"
        found = done.read(name)
        if found is None:
            found = done.keep(name, vars(_score_fold(ready, fold, asked, asking, scorer=scorer)))
        of_all.add(**found)
    return of_all


def _score_fold(ready: Ready, fold: Fold, asked: Asked, asking: Asking, *, scorer: FoldScores) -> Found:
    plan = ready.plan
    scorer.rows = []
    found = Found(rows=scorer.rows)
    prepared = prepare(plan, fold)
    panels = _strata(plan, fold, prepared, asking, found)
    learned = prepared.panels["all"]
    sets = {name: np.intersect1d(genes, learned) for name, genes in asking.sets.items()}
    sets = {name: genes for name, genes in sets.items() if len(genes) >= asking.min_genes}
    panels |= {panel_name(GENE_SET, name): genes for name, genes in sets.items()}
    prepared = replace(prepared, panels={panel_name("all", "all"): learned, **panels})
    layer, _ = predict(plan, fold, prepared, asked)
    scorer.score(plan, fold, prepared, "", layer, extra={"scope": ready.labels["scope"]})
    found.programmes += _programmes(
        plan, fold, prepared, layer, sets=sets, n_draws=asking.n_draws, sections=ready.sections
    )
    return found


def _strata(plan: Plan, fold: Fold, prepared: Prepared, asking: Asking, found: Found) -> dict[str, np.ndarray]:
    """Part the genes that are learned into strata of equal size, lowest first, by each statistic."""
    learned = prepared.panels["all"]
    columns = as_text(prepared.ref.var_names).get_indexer(pd.Index(learned))
    panels = {}
    for by in asking.by:
        values, why = _statistic(by, plan, fold, prepared.ref, columns=columns, looks=asking.looks)
        if values is None:
            found.untold[by] = why
            continue
        known = np.flatnonzero(np.isfinite(values))
        order = known[np.argsort(values[known], kind="stable")]
        for number, part in enumerate(np.array_split(order, asking.n_strata), start=1):
            stratum = f"{number} of {asking.n_strata}"
            panels[panel_name(by, stratum)] = learned[part]
            span = {"from": values[part].min(), "to": values[part].max()} if len(part) else {}
            found.ranges.append({"by": by, "stratum": stratum, **span})
    return panels


def _statistic(
    by: str, plan: Plan, fold: Fold, ref: AnnData, *, columns: np.ndarray, looks: np.ndarray | None
) -> tuple[np.ndarray | None, str]:
    """Compute what genes are parted by, on the training spots alone (n_genes,); else say why it cannot be told."""
    expression: Any = ref.X
    if by == EXPRESSION:
        return mean_variance(expression[:, columns])[0], ""
    if by == AUTOCORRELATION:
        return _mean_moran(ref, expression[:, columns], plan.library_key), ""
    if ref.obs[plan.library_key].nunique() < 2:
        return None, "cannot be told: a fold trains on one section, and looks are compared between sections"
    bare = AnnData(expression[:, columns], obs=ref.obs, var=pd.DataFrame(index=ref.var_names[columns]))
    bare.obsm[_keys.SPATIAL] = ref.obsm[_keys.SPATIAL]
    bare.obsm["X_looks"] = looks[fold.training] if looks is not None else None
    if plan.is_counts:  # of all genes, whose totals are the spots' depth
        bare = _with_depth(bare, plan.values[fold.training])
    table = predictability(
        bare,
        use_rep="X_looks",
        library_key=plan.library_key,
        patient_key=plan.patient_key,
        n_turns=FEWEST_TURNS,  # which only p-values need
        random_state=plan.random_state,
        progress_bar=False,
    )
    return 1 - table["geary"].to_numpy(dtype=float), ""


def _with_depth(bare: AnnData, counts: sparse.csr_matrix) -> AnnData:
    """Add counts whose totals are those of all genes: the screen takes depth out by them."""
    totals = np.asarray(counts.sum(axis=1)).ravel()
    stand_in = sparse.lil_matrix(bare.shape, dtype=np.float32)
    stand_in[:, 0] = totals[:, None]
    bare.layers[_keys.COUNTS] = sparse.csr_matrix(stand_in)
    return bare


def _mean_moran(ref: AnnData, expression: Any, library_key: str) -> np.ndarray:
    """Average Moran's I over the training sections in which a gene varies; NaN where there is none."""
    obs: pd.DataFrame = ref.obs
    xy, sections = spatial_coordinates(ref), obs[library_key].to_numpy(dtype=str)
    n_genes = expression.shape[1]
    total, number = np.zeros(n_genes), np.zeros(n_genes)
    expression = expression.tocsc() if sparse.issparse(expression) else expression
    for _, rows in section_rows(sections, ref.n_obs):
        graph = spot_graph(xy[rows])
        step = budget(4 * 8 * len(rows))
        for start in range(0, n_genes, step):
            part = expression[rows][:, start : start + step]
            found = morans_i(part, graph)
            known = np.isfinite(found)
            total[start : start + step] += np.where(known, found, 0)
            number[start : start + step] += known
    return np.divide(total, number, out=np.full(n_genes, np.nan), where=number > 0)


def _programmes(
    plan: Plan,
    fold: Fold,
    prepared: Prepared,
    layer: np.ndarray,
    *,
    sets: Mapping[str, np.ndarray],
    n_draws: int,
    sections: np.ndarray,
) -> list[dict[str, Any]]:
    """Correlate each set's mean, measured and predicted, over the spots of each held-out section.

    Beside it stand random sets of as many genes, of like expression. The mean is over genes in standard deviations of
    the section.
    """
    if not sets:
        return []
    learned = prepared.panels[panel_name("all", "all")]
    columns = as_text(prepared.ref.var_names).get_indexer(pd.Index(learned))
    expression: Any = prepared.ref.X
    order = np.argsort(mean_variance(expression[:, columns])[0], kind="stable")
    matched = np.array_split(order, _N_MATCHED)
    lots = _lots(prepared.ref.n_vars, n_draws, seed=plan.random_state)[:, columns]
    drawn = {name: _weights(np.isin(learned, genes), matched, lots) for name, genes in sets.items()}
    rows = []
    for section, members in section_rows(sections[fold.test], len(fold.test)):
        truth = _standard(prepared.truth[members][:, columns].toarray())
        predicted = _standard(layer[members][:, columns])
        depth = log_depth(plan.values[fold.test[members]]) if plan.is_counts else None
        for name, weights in drawn.items():
            measured, imputed = truth @ weights, predicted @ weights
            found = pearson(measured, imputed) if depth is None else partial_pearson(measured, imputed, depth)
            scores = np.nan_to_num(found)
            rows.append({"stratum": name, "section": section, "programme": scores[0], "draws": scores[1:]})
    return rows


def _lots(n_genes: int, n_draws: int, *, seed: int) -> np.ndarray:
    """Draw a lot for each gene in each draw, float32 (n_draws, n_genes): the genes of the lowest lots are taken.

    Lots are those of genes, not of folds, so that a random set is the same genes in every fold, as a gene set is. Other
    genes in each fold would average the luck of their choice away, and nearly every set would stand out from them.
    """
    return np.random.default_rng(seed).random((n_draws, n_genes), dtype=np.float32)


def _weights(chosen: np.ndarray, matched: Sequence[np.ndarray], lots: np.ndarray) -> np.ndarray:
    """Weights of the set's mean, and of so many random sets', float32 (n_genes, 1 + n_draws).

    Each random set has as many genes as the set in each part of `matched`, the genes of like expression.
    """
    draws = np.arange(len(lots))[:, None]
    weights = np.zeros((len(chosen), 1 + len(lots)), dtype=np.float32)
    weights[chosen, 0] = 1
    for pool in matched:
        taken = np.argsort(lots[:, pool], axis=1, kind="stable")[:, : int(chosen[pool].sum())]
        weights[pool[taken], 1 + draws] = 1
    return weights / chosen.sum()


def _standard(values: np.ndarray) -> np.ndarray:
    """Put each gene in standard deviations of the section; 0 where it does not vary or was not predicted."""
    values = np.nan_to_num(np.asarray(values, dtype=np.float64))
    spread = values.std(axis=0)
    return np.asarray((values - values.mean(axis=0)) / np.where(spread > 0, spread, np.inf), dtype=np.float32)


def report(table: pd.DataFrame, scope: str) -> None:
    """Log the strata, lowest first, and the sets that are read best."""
    lines = [f"Pearson by gene within held-out sections, by stratum ({scope}):"]
    for by, rows in table[table["by"].isin(STATISTICS)].groupby("by", sort=False):
        scores = ", ".join(f"{row.value:.3f} (ceiling {row.ceiling:.2f})" for row in rows.itertuples())
        lines.append(f"{by}, lowest to highest: {scores}")
    sets = table[(table["by"] == GENE_SET) & table["programme"].notna()].sort_values("programme", ascending=False)
    if len(sets):
        best = ", ".join(f"{row.stratum} {row.programme:.2f}" for row in sets.head(5).itertuples())
        above = int((sets["qvalue"] <= 0.1).sum())
        lines.append(f"{above} of {len(sets)} gene sets are read better than random sets of like genes. Best: {best}")
    logger.info("\n".join(lines))
