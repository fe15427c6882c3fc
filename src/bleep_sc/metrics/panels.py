"""One way to score for all: genes of a section, panels of genes, then sections and patients.

`tl.evaluate` and `tl.cross_validate` both go through `score_genes`, `score_panels` and `summarize`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bleep_sc import metrics as m
from bleep_sc.metrics._common import by_gene, constant, dense

PER_GENE = (
    *("pearson", "spearman", "rmse", "mae", "r2", "ccc", "pearson_depth_free"),
    *("ssim", "moran_difference", "variance_ratio"),
)
"""Metrics with one value per gene and section."""

PANEL_WIDE = ("gene_gene", "moran_agreement")
"""Metrics with one value per panel and section."""

METRICS = PER_GENE + PANEL_WIDE

ERROR_LIKE = ("rmse", "mae", "r2", "moran_difference", "variance_ratio")
"""Metrics of which 0 is not the score of a prediction that knows nothing: genes without a value are left out."""

OVER_SPOTS = ("pearson", "pearson_depth_free")
"""Metrics whose interval can be had from the spots, where sections and patients are too few."""

MIN_UNITS = 3
MIN_SPOTS = 3
_BLOCK_VALUES = 500_000
_MIN_GENES = 3
_COUNTED = ("n_genes", "n_missing", "n_constant_truth", "n_constant_prediction")

Draws = Mapping[tuple[str, str, str, str], np.ndarray]
"""Bootstrap draws over spots by method, section, panel and metric."""


@dataclass(frozen=True)
class SectionPair:
    """Measured and predicted expression of one section."""

    name: str
    patient: str
    """Empty where unknown."""
    truth: Any
    """(n_obs, n_genes), dense or CSR."""
    prediction: Any
    """The same shape, dense or CSR; a gene with NaN was not predicted."""
    depth: np.ndarray | None = None
    """Log total counts (n_obs,)."""
    xy: np.ndarray | None = None
    """Coordinates (n_obs, 2)."""
    grid: np.ndarray | None = None
    """Row and column of each spot (n_obs, 2)."""


def check_metrics(metrics: Sequence[str] | None) -> tuple[str, ...]:
    """Names of metrics, each once and in the order of `METRICS`; None is all of them."""
    if metrics is None:
        return METRICS
    wanted = [metrics] if isinstance(metrics, str) else list(metrics)
    unknown = [name for name in wanted if name not in METRICS]
    if unknown or not wanted:
        msg = f"`metrics` must be some of {', '.join(map(repr, METRICS))}; found {unknown or wanted}."
        raise ValueError(msg)
    return tuple(name for name in METRICS if name in wanted)


def reads_places(metrics: Sequence[str]) -> bool:
    """Whether any of the metrics needs the spots' coordinates."""
    return any(name in ("ssim", "moran_difference", "moran_agreement") for name in metrics)


def score_genes(pair: SectionPair, metrics: Sequence[str]) -> pd.DataFrame:
    """Score every gene of a section.

    Parameters
    ----------
    pair
        Measured and predicted expression.
    metrics
        Names out of `METRICS`.

    Returns
    -------
    One row per gene: a column per metric of `PER_GENE` that is asked for, the masks ``missing``, ``constant_truth`` and
    ``constant_prediction`` (of a gene that was predicted and does vary), and, for the metrics of Moran's I,
    ``moran_truth`` and ``moran_prediction`` (0 where the prediction is constant: it has no pattern). Scores are NaN
    where a gene is missing or constant as measured, and for all genes where depth, coordinates or grid are not given.
    """
    n_obs, n_genes = pair.truth.shape
    all_truth, all_predicted = by_gene(pair.truth), by_gene(pair.prediction)
    with_moran = any(name in metrics for name in ("moran_difference", "moran_agreement"))
    names = [name for name in PER_GENE if name in metrics] + ["moran_truth", "moran_prediction"] * with_moran
    scores = {name: np.full(n_genes, np.nan) for name in names}
    missing, constant_truth, constant_prediction = np.zeros((3, n_genes), dtype=bool)
    graph = m.spot_graph(pair.xy) if with_moran and pair.xy is not None else None
    step = max(1, _BLOCK_VALUES // n_obs)
    for start in range(0, n_genes, step):
        part = slice(start, start + step)
        truth, prediction = dense(all_truth[:, part]), dense(all_predicted[:, part])
        missing[part] = np.isnan(prediction).any(axis=0)
        constant_truth[part] = constant(truth)
        constant_prediction[part] = constant(prediction) & ~constant_truth[part]
        scored = ~missing[part] & ~constant_truth[part]
        genes = start + np.flatnonzero(scored)
        found = _score_block(truth[:, scored], prediction[:, scored], pair, names, graph) if len(genes) else {}
        for name, values in found.items():
            scores[name][genes] = values
    masks = {"missing": missing, "constant_truth": constant_truth, "constant_prediction": constant_prediction}
    return pd.DataFrame(scores | masks)


def _score_block(
    truth: np.ndarray, prediction: np.ndarray, pair: SectionPair, names: Sequence[str], graph: Any
) -> dict[str, np.ndarray]:
    simple = {
        "pearson": m.pearson,
        "spearman": m.spearman,
        "rmse": m.rmse,
        "mae": m.mae,
        "r2": m.r2,
        "ccc": m.ccc,
        "variance_ratio": m.variance_ratio,
    }
    found = {name: score(truth, prediction) for name, score in simple.items() if name in names}
    if "pearson_depth_free" in names and pair.depth is not None:
        found["pearson_depth_free"] = m.partial_pearson(truth, prediction, pair.depth)
    if "ssim" in names and pair.grid is not None:
        found["ssim"] = m.ssim(truth, prediction, pair.grid)
    if graph is not None:
        found["moran_truth"] = m.morans_i(truth, graph)
        found["moran_prediction"] = np.nan_to_num(m.morans_i(prediction, graph))
        if "moran_difference" in names:
            found["moran_difference"] = found["moran_prediction"] - found["moran_truth"]
    return found


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
    """Score the panels of a section: the rows of the tidy table, one per panel and metric.

    Missing and constant genes, and genes of the panel that the section lacks, count as 0 in the mean of a correlation
    or similarity; none is dropped. In the mean of an error (`ERROR_LIKE`), of which 0 would be the best value, genes
    without a score are left out. Both are counted.

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
    for panel, genes in panels.items():
        position = pd.Index(gene_names).get_indexer(pd.Index(genes))
        there = position[position >= 0]
        of_panel = per_gene.iloc[there]
        common = {
            "method": method,
            "section": pair.name,
            "patient": pair.patient,
            "panel": panel,
            "n_genes": len(genes),
            "n_missing": len(genes) - len(there) + int(of_panel["missing"].sum()),
            "n_constant_truth": int((of_panel["constant_truth"] & ~of_panel["missing"]).sum()),
            "n_constant_prediction": int(of_panel["constant_prediction"].sum()),
        }
        for metric in metrics:
            if metric in PANEL_WIDE:
                value = _score_whole_panel(metric, pair, of_panel, there)
            else:
                value = _panel_mean(metric, per_gene, of_panel, len(genes))
            limit = np.nan
            if metric == "pearson" and ceiling is not None and len(genes) and not np.isnan(ceiling).all():
                limit = float(np.nan_to_num(ceiling[there]).sum() / len(genes))
            rows.append(common | {"metric": metric, "value": value, "ceiling": limit})
    return rows


def _panel_mean(metric: str, per_gene: pd.DataFrame, of_panel: pd.DataFrame, n_genes: int) -> float:
    scored = ~per_gene["missing"] & ~per_gene["constant_truth"]
    unavailable = scored.any() and per_gene.loc[scored, metric].isna().all()
    if unavailable or n_genes == 0:
        return float("nan")
    values = of_panel[metric].dropna()
    if metric in ERROR_LIKE:
        return float(values.mean()) if len(values) else float("nan")
    return float(values.sum() / n_genes)


def _score_whole_panel(metric: str, pair: SectionPair, of_panel: pd.DataFrame, there: np.ndarray) -> float:
    if metric == "gene_gene":
        predicted = there[~of_panel["missing"].to_numpy()]
        return m.gene_gene(pair.truth[:, predicted], pair.prediction[:, predicted])
    maps = of_panel[["moran_truth", "moran_prediction"]].dropna().to_numpy()
    return float(m.pearson(maps[:, :1], maps[:, 1:])[0]) if len(maps) >= _MIN_GENES else float("nan")


def tabulate(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The tidy table of all sections, ready for `uns`."""
    first = ["method", "section", "patient", "panel", "metric", "value", *_COUNTED]
    table = pd.DataFrame(list(rows)).drop(columns="ceiling")
    return for_uns(table[[*first, *(name for name in table if name not in first)]])


def interval_unit(patients: Sequence[str]) -> str:
    """What intervals are drawn over, from the patient of each section: the largest unit of which there are three.

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
    """Draws of a section's panel scores over its spots, for the metrics that allow it: what `summarize` takes.

    Parameters
    ----------
    method, pair, gene_names, panels, metrics
        As in `score_panels`.
    n_bootstrap
        Number of draws.
    random_state
        Seed; with the same seed all methods see the same draws of spots.
    """
    if not any(metric in metrics for metric in OVER_SPOTS):
        return {}
    names = pd.Index(gene_names)
    predicted = np.flatnonzero(~np.isnan(dense(pair.prediction.sum(axis=0))).ravel())
    truth, prediction = pair.truth, pair.prediction
    if len(predicted) < len(names):
        truth, prediction = truth[:, predicted], prediction[:, predicted]
    shares = []
    for genes in panels.values():
        position = names[predicted].get_indexer(pd.Index(genes))
        shares.append(np.bincount(position[position >= 0], minlength=len(predicted)) / max(len(genes), 1))
    covariate = pair.depth if "pearson_depth_free" in metrics else None
    drawn = m.bootstrap_pearson(
        truth,
        prediction,
        panels=shares,
        n_draws=n_bootstrap,
        rng=np.random.default_rng(random_state),
        covariate=covariate,
    )
    return {
        (method, pair.name, panel, metric): draws[:, number]
        for metric, draws in zip(OVER_SPOTS, drawn, strict=True)
        if metric in metrics and draws is not None
        for number, panel in enumerate(panels)
    }


def summarize(
    rows: Sequence[Mapping[str, Any]], *, draws: Draws | None = None, n_bootstrap: int, random_state: int
) -> pd.DataFrame:
    """Take the mean over the sections of each patient, then over patients, with an interval.

    A patient with many sections weighs as much as one with a single section. The interval (percentile bootstrap, 2.5 to
    97.5 %) is over patients where there are at least 3, else over the sections within each patient where each has at
    least 3, else over spots for the metrics that `draws` holds. All rows share the same draws, so differences between
    methods are not blurred by them.

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
    summary = []
    table = pd.DataFrame(list(rows))
    for (method, panel, metric), group in table.groupby(["method", "panel", "metric"], sort=False):
        known = group.dropna(subset="value")
        value = _over_patients(known["value"], known["patient"])
        low, high, over = _interval(known, draws or {}, n_bootstrap=n_bootstrap, random_state=random_state)
        limit = _over_patients(known["ceiling"], known["patient"])
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
                **{name: int(group[name].max()) for name in _COUNTED},
                "n_sections": group["section"].nunique(),
                "n_patients": len(set(group["patient"]) - {""}),
            }
        )
    return for_uns(pd.DataFrame(summary))


def _over_patients(values: Any, patients: pd.Series) -> Any:
    """Mean over sections, then over patients; of numbers or of whole rows of draws."""
    if not len(patients):
        return float("nan")
    sections = np.asarray(values, dtype=np.float64)
    means = [sections[(patients == patient).to_numpy()].mean(axis=0) for patient in patients.unique()]
    return np.mean(means, axis=0)


def _interval(known: pd.DataFrame, draws: Draws, *, n_bootstrap: int, random_state: int) -> tuple[float, float, str]:
    nothing = float("nan"), float("nan"), ""
    if n_bootstrap == 0 or known.empty:
        return nothing
    unit = interval_unit(list(known["patient"]))
    by_patient = [values.to_numpy() for _, values in known.groupby("patient", sort=False)["value"]]
    if unit == "spots":
        keys = list(known[["method", "section", "panel", "metric"]].itertuples(index=False, name=None))
        if not all(key in draws for key in keys):
            return nothing
        drawn = _over_patients([draws[key] for key in keys], known["patient"])
    else:
        groups = [np.array([values.mean() for values in by_patient])] if unit == "patients" else by_patient
        drawn = m.bootstrap_mean(groups, n_draws=n_bootstrap, rng=np.random.default_rng(random_state))
    return *m.interval(drawn), unit


def for_uns(table: pd.DataFrame) -> pd.DataFrame:
    """With an index of strings: what h5ad can write."""
    table.index = pd.RangeIndex(len(table)).astype(str)
    return table
