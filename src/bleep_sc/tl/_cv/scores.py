"""The scores of a cross-validation, and the table of them that is printed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import as_text, spatial_coordinates
from bleep_sc._blocks import threads
from bleep_sc._grid import grid_positions
from bleep_sc._logging import log_table
from bleep_sc._side_effects import one_thread
from bleep_sc._stats import log_depth, section_rows
from bleep_sc.metrics.panels import SectionPair, score_genes, score_panels
from bleep_sc.metrics.registry import NEEDS_OF_PLACES, needs_of
from bleep_sc.metrics.summary import interval_unit, spot_draws
from bleep_sc.tl._cv.folds import Fold
from bleep_sc.tl._cv.plan import Plan
from bleep_sc.tl._cv.run import Prepared
from bleep_sc.tl._noise_ceiling import ceiling_of


class FoldScores:
    """Scores each prediction as soon as it is there."""

    def __init__(
        self,
        adata: AnnData,
        sections: np.ndarray,
        patients: Mapping[str, str],
        metrics: Sequence[str],
        *,
        n_bootstrap: int,
        random_state: int,
    ) -> None:
        self._adata, self._sections, self._metrics = adata, sections, metrics
        self._patients = patients
        self.n_bootstrap, self._seed = n_bootstrap, random_state
        self._over_spots = n_bootstrap > 0 and interval_unit(list(patients.values())) == "spots"
        self._needs = needs_of(metrics)
        with_places = self._needs & NEEDS_OF_PLACES and _keys.SPATIAL in adata.obsm
        self._xy = spatial_coordinates(adata) if with_places else None
        self._ceilings: dict[str, np.ndarray] = {}
        self.rows: list[dict[str, Any]] = []
        self.draws: dict[tuple[str, str, str, str], np.ndarray] = {}

    def score(
        self, plan: Plan, fold: Fold, prepared: Prepared, label: str, layer: np.ndarray, *, extra: dict[str, Any]
    ) -> None:
        genes = as_text(self._adata.var_names)
        # only genes of a panel are scored: the others were neither chosen nor, by all methods, predicted
        scored = np.flatnonzero(genes.isin(np.concatenate(list(prepared.panels.values()))))
        for name, rows in section_rows(self._sections[fold.test], len(fold.test)):
            where = fold.test[rows]
            xy = None if self._xy is None else self._xy[where]
            pair = SectionPair(
                name,
                self._patients[name],
                prepared.truth[rows][:, scored],
                layer[rows][:, scored],
                depth=log_depth(plan.values[where]) if "depth" in self._needs and plan.is_counts else None,
                xy=xy,
                grid=None
                if xy is None or "grid" not in self._needs
                else grid_positions(self._adata.obs.iloc[where], xy),
            )
            with threads() as in_threads, one_thread():
                table = score_genes(pair, self._metrics, in_threads=in_threads)
            common: dict[str, Any] = {"gene_names": genes[scored], "panels": prepared.panels, "metrics": self._metrics}
            panel_scores = score_panels(
                label, pair, table, ceiling=self._ceiling(plan, name, where, prepared, scored), **common
            )
            self.rows += [{**row, "fold": fold.name, **extra} for row in panel_scores]
            if self._over_spots:
                self.draws |= spot_draws(label, pair, n_bootstrap=self.n_bootstrap, random_state=self._seed, **common)

    def _ceiling(
        self, plan: Plan, section: str, rows: np.ndarray, prepared: Prepared, scored: np.ndarray
    ) -> np.ndarray | None:
        if not plan.is_counts:
            return None
        if section not in self._ceilings:
            counts = plan.values[rows]
            self._ceilings[section] = ceiling_of(
                counts, [np.arange(len(rows))], target_sum=prepared.target_sum, random_state=self._seed
            )
        return self._ceilings[section][scored]


def leading(names: Sequence[str]) -> str:
    """Choose the metric that a log shows first."""
    return "pearson" if "pearson" in names else names[0]


def report(summary: pd.DataFrame, *, metric: str, n_folds: int, group_key: str) -> None:
    first = summary.iloc[0]
    metric_rows = summary[summary["metric"] == metric]
    panels = list(dict.fromkeys(metric_rows["panel"]))
    over = first["interval_over"] or "nothing"
    heading = (
        f"{metric} by gene within sections; {n_folds} folds by {group_key!r}, {first['scope'].upper()}; normalised "
        f"{first['normalisation']}; bootstrap intervals over {over}:"
    )
    cells = {}
    for method, rows in metric_rows.groupby("method", sort=False):
        mark = " *" if rows["uses_query_counts"].any() else ""
        of_panel = rows.drop_duplicates("panel").set_index("panel")
        cells[f"{method}{mark}"] = [with_interval(of_panel.loc[panel]) for panel in panels]
    if metric_rows["ceiling"].notna().any():
        ceilings = metric_rows.groupby("panel", sort=False)["ceiling"].first()
        cells["ceiling"] = [f"{ceilings[panel]:.3f}" for panel in panels]
    notes = []
    if metric_rows["uses_query_counts"].any():
        notes.append("* reads the total counts of the spots that it predicts")
    width = max(len(str(method)) for method in metric_rows["method"]) + 3
    table = pd.DataFrame.from_dict(cells, orient="index", columns=panels)
    log_table(heading, table, widths=[width] + [24] * len(panels), notes=notes)


def with_interval(row: pd.Series) -> str:
    """Write a score, and its interval where it has one."""
    interval = "" if np.isnan(row["low"]) else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['value']:.3f}{interval}"
