"""Scores of one section: of each gene, then of each panel of genes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from bleep_sc._blocks import InThreads, LazyColumns, one_after_another
from bleep_sc.metrics._common import MOST_GENES_OF_A_STORE, by_gene, constant, dense, gene_slabs
from bleep_sc.metrics.moran import MoranValues, moran_values
from bleep_sc.metrics.registry import METRICS, Need, needs_of
from bleep_sc.metrics.spatial import spot_graph, windows

LEAST_SPOTS_FOR_CORRELATION = 3
"""Sections of fewer spots are refused: over two spots any correlation is 1 or -1."""

_BLOCK_VALUES = 250_000
_MORAN = ("moran_truth", "moran_prediction")
"""Columns of `score_genes` that keep both parts of `MoranValues`, so metrics of panels need not find them again."""


@dataclass(frozen=True)
class SectionPair:
    """Measured and predicted expression of one section."""

    name: str
    patient: str
    """Name of the patient; empty where unknown."""
    truth: Any
    """Measured expression (n_obs, n_genes), dense or CSR."""
    prediction: Any
    """Predicted expression of the same shape, dense, CSR or `LazyColumns`; a gene with NaN was not predicted."""
    depth: np.ndarray | None = None
    """Log total counts (n_obs,)."""
    xy: np.ndarray | None = None
    """Coordinates (n_obs, 2)."""
    grid: np.ndarray | None = None
    """Row and column of each spot (n_obs, 2)."""


def check_metrics(metrics: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of metrics, each once and in the order of `METRICS`; None is all of them."""
    known = tuple(METRICS)  # unlike a dict, it can be asked for what has no hash, such as a list in place of a name
    if metrics is None:
        return known
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        msg = f"`metrics` must be some of {', '.join(map(repr, known))}; found {unknown or names}."
        raise ValueError(msg)
    return tuple(name for name in known if name in names)


def score_genes(
    pair: SectionPair, metrics: Sequence[str], *, in_threads: InThreads = one_after_another
) -> pd.DataFrame:
    """Score every gene of a section.

    Parameters
    ----------
    pair
        Measured and predicted expression.
    metrics
        Names out of `METRICS`.
    in_threads
        Function that does the work in threads. How genes are split into blocks does not follow from their number, so
        that no score does.

    Returns
    -------
    One row per gene. There is a column for each metric of genes that is asked for. The masks are ``missing``,
    ``constant_truth`` and ``constant_prediction``; the last one is of genes that were predicted and do vary. Where a
    metric needs Moran's I, there are ``moran_truth`` and ``moran_prediction``, which is 0 for a constant prediction.
    Scores are NaN where a gene is missing or constant as measured. They are NaN for all genes where the depth,
    coordinates or grid that they need are not known.
    """
    n_obs, n_genes = pair.truth.shape
    all_truth = by_gene(pair.truth)
    with_moran = "moran" in needs_of(metrics)
    graph = spot_graph(pair.xy) if with_moran and pair.xy is not None else None
    names = [name for name, metric in METRICS.items() if name in metrics and not metric.whole_panel]
    scores = {name: np.full(n_genes, np.nan) for name in [*names, *_MORAN * with_moran]}
    missing, constant_truth, constant_prediction = np.zeros((3, n_genes), dtype=bool)
    step = max(1, _BLOCK_VALUES // n_obs)

    def score(slab: slice, predicted: Any, starts_left: Iterator[int], _: slice) -> None:
        for start in starts_left:
            part = slice(start, min(start + step, slab.stop))
            truth = dense(all_truth[:, part])
            prediction = dense(predicted[:, part.start - slab.start : part.stop - slab.start])
            missing[part] = np.isnan(prediction).any(axis=0)
            constant_truth[part] = constant(truth)
            constant_prediction[part] = constant(prediction) & ~constant_truth[part]
            scored = ~missing[part] & ~constant_truth[part]
            genes = start + np.flatnonzero(scored)
            blocks = _score_block(truth[:, scored], prediction[:, scored], pair, names, graph) if len(genes) else {}
            for name, values in blocks.items():
                scores[name][genes] = values

    for slab, predicted in gene_slabs(pair.prediction):
        starts = range(slab.start, slab.stop, step)
        in_threads(partial(score, slab, predicted, iter(starts)), len(starts))
    windows.cache_clear()
    masks = {"missing": missing, "constant_truth": constant_truth, "constant_prediction": constant_prediction}
    return pd.DataFrame(scores | masks)


def _score_block(
    truth: np.ndarray, prediction: np.ndarray, pair: SectionPair, names: Sequence[str], graph: Any
) -> dict[str, np.ndarray]:
    """Score some genes by the metrics of these names, leaving out those that need what is not known."""
    moran = None if graph is None else moran_values(truth, prediction, graph)
    beside = _beside(pair, moran)
    scores = {name: METRICS[name].value(truth, prediction, beside) for name in names}
    scores |= {} if moran is None else dict(zip(_MORAN, moran, strict=True))
    return {name: values for name, values in scores.items() if values is not None}


def _beside(pair: SectionPair, moran: MoranValues | None) -> dict[Need, Any]:
    """Give what metrics may need beside truth and prediction; None for what is not known of this section."""
    return {"depth": pair.depth, "grid": pair.grid, "moran": moran}


def score_panels(
    method: str,
    pair: SectionPair,
    per_gene: pd.DataFrame,
    *,
    gene_names: Sequence[str] | np.ndarray | pd.Index,
    panels: Mapping[str, np.ndarray],
    metrics: Sequence[str],
    ceiling: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """Score the panels of a section, and give the rows of the tidy table: one per panel and metric.

    Missing and constant genes, and genes of the panel that the section lacks, count as 0 in the mean of a correlation
    or similarity; none is dropped. In the mean of an error, of which 0 would be the best value, genes without a score
    are left out (`Metric.zero_without_value`). Both are counted.

    Parameters
    ----------
    method
        Name of what made the prediction.
    pair
        Measured and predicted expression.
    per_gene
        What `score_genes` gave for it.
    gene_names
        Names of the genes.
    panels
        Names of the genes of each panel.
    metrics
        Names out of `METRICS`.
    ceiling
        Noise ceiling of each gene. Its mean over the panel counts genes as the mean of ``pearson`` does.

    Returns
    -------
    Rows with ``method``, ``section``, ``patient``, ``panel``, ``metric``, ``value``, ``n_genes``, ``n_missing``,
    ``n_constant_truth``, ``n_constant_prediction`` and ``ceiling`` (of ``pearson``; NaN otherwise).
    """
    rows = []
    of_genes = {name: values.to_numpy() for name, values in per_gene.items()}
    names_of_genes = pd.Index(gene_names)
    whole_panel = [name for name in metrics if METRICS[name].whole_panel]
    for panel, genes in panels.items():
        position = names_of_genes.get_indexer(pd.Index(genes))
        columns = position[position >= 0]
        of_panel = {name: values[columns] for name, values in of_genes.items()}
        common = {
            "method": method,
            "section": pair.name,
            "patient": pair.patient,
            "panel": panel,
            "n_genes": len(genes),
            "n_missing": len(genes) - len(columns) + int(of_panel["missing"].sum()),
            "n_constant_truth": int((of_panel["constant_truth"] & ~of_panel["missing"]).sum()),
            "n_constant_prediction": int(of_panel["constant_prediction"].sum()),
        }
        values = _score_whole_panel(whole_panel, pair, of_panel, columns)
        values |= {
            name: _panel_mean(name, of_genes, of_panel, len(genes)) for name in metrics if name not in whole_panel
        }
        limit = _panel_ceiling(ceiling, columns, len(genes))
        for name in metrics:
            of_metric = limit if METRICS[name].has_ceiling else float("nan")
            rows.append(common | {"metric": name, "value": values[name], "ceiling": of_metric})
    return rows


def _panel_mean(
    metric: str, of_genes: Mapping[str, np.ndarray], of_panel: Mapping[str, np.ndarray], n_genes: int
) -> float:
    """Average a metric of genes over a panel; NaN where it could not be had for any gene of the section."""
    of_scored = of_genes[metric][~of_genes["missing"] & ~of_genes["constant_truth"]]
    if n_genes == 0 or (len(of_scored) and np.isnan(of_scored).all()):
        return float("nan")
    values = of_panel[metric][~np.isnan(of_panel[metric])]
    if METRICS[metric].zero_without_value:
        return float(values.sum() / n_genes)
    return float(values.mean()) if len(values) else float("nan")


def _score_whole_panel(
    names: Sequence[str], pair: SectionPair, of_panel: Mapping[str, np.ndarray], columns: np.ndarray
) -> dict[str, float]:
    """Score a panel by the metrics of whole panels of these names; NaN where something they need is not known.

    A large panel of a layer in a store has no such scores: it would have to be in memory whole.
    """
    if not names:
        return {}
    predicted = ~of_panel["missing"]
    genes = columns[predicted]
    if isinstance(pair.prediction, LazyColumns) and len(genes) > MOST_GENES_OF_A_STORE:
        return dict.fromkeys(names, float("nan"))
    truth, prediction = pair.truth[:, genes], pair.prediction[:, genes]
    with_moran = pair.xy is not None and set(_MORAN) <= set(of_panel)
    moran = MoranValues(*(of_panel[name][predicted] for name in _MORAN)) if with_moran else None
    scores = {name: METRICS[name].value(truth, prediction, _beside(pair, moran)) for name in names}
    return {name: float("nan") if value is None else float(value) for name, value in scores.items()}


def _panel_ceiling(ceiling: np.ndarray | None, columns: np.ndarray, n_genes: int) -> float:
    """Average the noise ceiling over a panel, genes without one as 0; NaN where it is not known of any gene."""
    if ceiling is None or n_genes == 0 or np.isnan(ceiling).all():
        return float("nan")
    return float(np.nan_to_num(ceiling[columns]).sum() / n_genes)
