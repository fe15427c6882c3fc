"""The scores of all sections: their tidy table, and means over sections and patients with an interval."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bleep_sc._blocks import LazyColumns
from bleep_sc.metrics._common import MOST_GENES_OF_A_STORE, dense
from bleep_sc.metrics.bootstrap import bootstrap_mean, bootstrap_pearson, interval
from bleep_sc.metrics.panels import SectionPair
from bleep_sc.metrics.registry import METRICS

MIN_UNITS = 3
_COUNTED = ("n_genes", "n_missing", "n_constant_truth", "n_constant_prediction")

Draws = Mapping[tuple[str, str, str, str], np.ndarray]
"""Bootstrap draws over spots by method, section, panel and metric."""


def tabulate(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Make the tidy table of all sections from the rows of `score_panels`, ready for `uns`."""
    first = ["method", "section", "patient", "panel", "metric", "value", *_COUNTED]
    table = pd.DataFrame(list(rows)).drop(columns="ceiling")
    return for_uns(table[[*first, *(name for name in table if name not in first)]])


def interval_unit(patients: Sequence[str]) -> str:
    """Choose what intervals are over, given the patient of each section: the largest unit of which there are three.

    Sections are redrawn within their patient, so each patient needs three: one with a single section has no spread.
    """
    if len(set(patients) - {""}) >= MIN_UNITS:
        return "patients"
    fewest = min(Counter(patients).values(), default=0)
    return "sections" if fewest >= MIN_UNITS else "spots"


def spot_draws(
    method: str,
    pair: SectionPair,
    *,
    gene_names: Sequence[str] | np.ndarray | pd.Index,
    panels: Mapping[str, np.ndarray],
    metrics: Sequence[str],
    n_bootstrap: int,
    random_state: int,
) -> dict[tuple[str, str, str, str], np.ndarray]:
    """Redraw a section's panel scores over its spots, for the metrics that can be: `summarize` takes these draws.

    Parameters
    ----------
    method, pair, gene_names, panels, metrics
        As in `score_panels`.
    n_bootstrap
        Number of draws.
    random_state
        Seed; with the same seed all methods see the same draws of spots.
    """
    kinds = {name: kind for name in metrics if (kind := METRICS[name].over_spots) is not None}
    if not kinds:
        return {}
    names = pd.Index(gene_names)
    truth, prediction = pair.truth, pair.prediction
    if isinstance(prediction, LazyColumns):  # all of it would not be in memory
        panels = {panel: genes for panel, genes in panels.items() if len(genes) <= MOST_GENES_OF_A_STORE}
        wanted = np.flatnonzero(names.isin(np.concatenate([[], *panels.values()])))
        names, truth, prediction = names[wanted], truth[:, wanted], prediction[:, wanted]
    predicted = np.flatnonzero(~np.isnan(dense(prediction.sum(axis=0))).ravel())
    if len(predicted) < len(names):
        truth, prediction = truth[:, predicted], prediction[:, predicted]
    shares = []
    for genes in panels.values():
        position = names[predicted].get_indexer(pd.Index(genes))
        shares.append(np.bincount(position[position >= 0], minlength=len(predicted)) / max(len(genes), 1))
    plain, partial = bootstrap_pearson(
        truth,
        prediction,
        panels=shares,
        n_draws=n_bootstrap,
        rng=np.random.default_rng(random_state),
        covariate=pair.depth if "partial" in kinds.values() else None,
    )
    drawn = {"plain": plain, "partial": partial}
    return {
        (method, pair.name, panel, metric): draws[:, number]
        for metric, kind in kinds.items()
        if (draws := drawn[kind]) is not None
        for number, panel in enumerate(panels)
    }


def summarize(
    rows: Sequence[Mapping[str, Any]], *, draws: Draws | None = None, n_bootstrap: int, random_state: int
) -> pd.DataFrame:
    """Take the mean over the sections of each patient, then over patients, with an interval.

    A patient with many sections weighs as much as one with a single section. The interval is a percentile bootstrap
    from 2.5 to 97.5 %. It is over patients where there are at least 3, else over the sections within each patient where
    each has at least 3. Else it is over spots, for the metrics that `draws` holds. All rows share the same draws, so
    differences between methods are not blurred by them.

    Parameters
    ----------
    rows
        What `score_panels` gave for all methods and sections.
    draws
        What `spot_draws` gave for all of them; needed where `interval_unit` says ``"spots"``.
    n_bootstrap
        Number of draws; 0 gives no interval.
    random_state
        Seed.

    Returns
    -------
    One row per method, panel and metric. Counts of genes are those of the section where they are largest.
    ``n_patients`` is 0 where the patients are unknown.
    """
    table = pd.DataFrame(list(rows))
    column = {name: table[name].to_numpy() for name in table}
    summary = []
    # rows of a table by number, since a table of its own for each score takes longer than all its numbers
    for (method, panel, metric), group in _grouped(column["method"], column["panel"], column["metric"]).items():
        known = group[~np.isnan(column["value"][group].astype(np.float64))]
        value = _over_patients(column["value"][known], column["patient"][known])
        keys = [(method, section, panel, metric) for section in column["section"][known]]
        low, high, over = _interval(
            column["value"][known],
            column["patient"][known],
            [draws[key] for key in keys] if draws is not None and all(key in draws for key in keys) else None,
            n_bootstrap=n_bootstrap,
            random_state=random_state,
        )
        limit = _over_patients(column["ceiling"][known], column["patient"][known])
        summary.append(
            {
                "method": method,
                "panel": panel,
                "metric": metric,
                "value": float(value),
                "low": low,
                "high": high,
                "interval_over": over,
                "ceiling": float(limit),
                "share_of_ceiling": float(value / limit) if limit > 0 else float("nan"),
                **{name: int(column[name][group].max()) for name in _COUNTED},
                "n_sections": len(set(column["section"][group])),
                "n_patients": len(set(column["patient"][group]) - {""}),
            }
        )
    return for_uns(pd.DataFrame(summary))


def _grouped(*columns: np.ndarray) -> dict[tuple[Any, ...], np.ndarray]:
    """Find the rows of each combination of values, in the order in which they come first."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for row, key in enumerate(zip(*columns, strict=True)):
        groups.setdefault(key, []).append(row)
    return {key: np.array(rows) for key, rows in groups.items()}


def _over_patients(values: Any, patients: np.ndarray) -> Any:
    """Take the mean over the sections of each patient, then over patients, of numbers or of whole rows of draws."""
    if not len(patients):
        return float("nan")
    sections = np.asarray(values, dtype=np.float64)
    return np.mean([sections[rows].mean(axis=0) for rows in _grouped(patients).values()], axis=0)


def _interval(
    values: np.ndarray,
    patients: np.ndarray,
    draws: Sequence[np.ndarray] | None,
    *,
    n_bootstrap: int,
    random_state: int,
) -> tuple[float, float, str]:
    """Give both ends of the interval of one score and what it is over; NaN and "" where there is none.

    `draws` are those over the spots of each section; None where they are not there.
    """
    nothing = float("nan"), float("nan"), ""
    if n_bootstrap == 0 or not len(values):
        return nothing
    unit = interval_unit(list(patients))
    if unit == "spots":
        return nothing if draws is None else (*interval(_over_patients(draws, patients)), unit)
    groups = [values[rows].astype(np.float64) for rows in _grouped(patients).values()]
    if unit == "patients":
        groups = [np.array([sections.mean() for sections in groups])]
    drawn = bootstrap_mean(groups, n_draws=n_bootstrap, rng=np.random.default_rng(random_state))
    return *interval(drawn), unit


def for_uns(table: pd.DataFrame) -> pd.DataFrame:
    """Number the rows of a table by strings, since h5ad can write no other index."""
    table.index = pd.RangeIndex(len(table)).astype(str)
    return table
