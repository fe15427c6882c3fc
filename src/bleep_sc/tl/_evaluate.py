import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from bleep_sc import _keys
from bleep_sc._adata import (
    as_text,
    check_adata,
    check_reference,
    recorded_library_key,
    section_of_spots,
    spatial_coordinates,
    with_frames,
)
from bleep_sc._all_or_nothing import all_or_nothing
from bleep_sc._blocks import LazyColumns, is_lazy, row_blocks, threads
from bleep_sc._checks import check_in, check_int, check_names
from bleep_sc._expression import count_values, expression_values, path_of, warn_if_counts
from bleep_sc._grid import grid_positions
from bleep_sc._logging import log_table, logger, warn
from bleep_sc._side_effects import one_thread
from bleep_sc._stats import log_depth, looks_like_counts, section_rows
from bleep_sc._stats import panels as choose_panels
from bleep_sc.metrics.panels import SectionPair, check_metrics, score_genes, score_panels
from bleep_sc.metrics.registry import METRICS, NEEDS_OF_PLACES, needs_of
from bleep_sc.metrics.summary import interval_unit, spot_draws, summarize, tabulate
from bleep_sc.models.threads import on_allowed_cores
from bleep_sc.tl._measured.record import without_measured
from bleep_sc.tl._noise_ceiling import ceiling_by_name, ceiling_params, common_total
from bleep_sc.tl._predicted import aligned_prediction, check_predicted, known_values, predicted_values
from bleep_sc.tl._sections import check_section_sizes, known_patient_key, ordered_by_name, patient_of_sections

_ALL, _MARKERS = "all", "markers"


@on_allowed_cores()
def evaluate(
    query: AnnData,
    *,
    layer: str = _keys.MODEL,
    prediction: AnnData | None = None,
    truth: str | None = None,
    ref: AnnData | None = None,
    markers: Sequence[str] | None = None,
    library_key: str | None = None,
    patient_key: str | None = None,
    metrics: Sequence[str] | None = None,
    n_bootstrap: int = 1000,
    random_state: int = 0,
    copy: bool = False,
) -> AnnData | None:
    """Compare a predicted layer with measured expression.

    Each gene is scored over the spots of each section. The score says how well the *pattern within the tissue* is
    predicted. Correlation over the genes of a spot is not offered, since gene means alone reach 0.7 there. Scores are
    averaged over the genes of each panel, then over the sections of each patient, then over patients. The mean gets a
    bootstrap interval. You can score any layer, also one that another program predicted. Measured spots that corrected
    the layer (:func:`~bleep_sc.tl.impute` with `measured`) are left out.

    Parameters
    ----------
    query
        Spots with a predicted layer and measured expression.
    layer
        Name of the predicted layer. Genes with NaN count as not predicted.
    prediction
        A prediction from another program, to score instead of the layer. Pass an AnnData that holds it in `X`. Spots
        and genes are matched by name. Genes that are missing from it count as not predicted. `layer` then only names
        the scores.
    truth
        Layer with the measured expression, in the units of the predicted layer; ``None`` is `query.X`.
    ref
        Reference that defines the gene panels. They are those of the model in its `uns`, else HEG-50, HVG-50 and
        HVG-200 of its `X`. ``None`` takes the panels that :func:`~bleep_sc.tl.impute` stored in ``query.uns[layer]``. A
        layer without panels is scored over all genes and `markers` only. Panels are never chosen on the query. The
        genes that vary most in the scored section itself make any method look too good.
    markers
        Genes of your own, scored as a panel.
    library_key
        Column of `obs` with each spot's section. ``None`` takes the column that :func:`~bleep_sc.pp.crops` was given,
        else all spots are one section.
    patient_key
        Column of `obs` with each spot's patient; ``None`` takes ``"patient"`` if that column exists.
    metrics
        Names of the scores to compute, out of those in the Notes; ``None`` is all.
    n_bootstrap
        Number of bootstrap draws. 0 gives no intervals.
    random_state
        Seed of the bootstrap, and of the noise ceiling where it is estimated here. The order of spots and genes does
        not matter: random numbers are drawn in the order of their names.
    copy
        Return a changed copy instead of changing `query`.

    Returns
    -------
    ``None``, or the changed copy if ``copy=True``. Sets the following fields:

    `query.var['{layer}_{metric}']` : :class:`pandas.Series` (dtype `float`)
        Score of each gene by each metric, averaged over sections. It is NaN if the gene was not predicted. It is also
        NaN if the measured gene is constant in every section, since there is nothing to predict. Correlations are 0
        where the prediction is constant, since it predicts nothing.
    `query.uns['{layer}_scores']` : `dict`
        ``summary`` is a :class:`pandas.DataFrame` with one row per panel and metric. Its columns are ``value``, ``low``
        and ``high`` (bootstrap interval, over what ``interval_over`` says), ``ceiling`` and ``share_of_ceiling`` (for
        ``pearson``), and counts. The counts are ``n_genes``, ``n_missing`` (not in the query, or not predicted),
        ``n_constant_truth`` and ``n_constant_prediction`` (in the section where they are most), ``n_sections`` and
        ``n_patients`` (0 if unknown). ``scores`` holds the same per section, without intervals. The other entries are
        ``n_sections``, ``in_sample`` and ``params``.
    `query.var['noise_ceiling']`, `query.uns['noise_ceiling']`
        The noise ceiling, as :func:`~bleep_sc.tl.noise_ceiling` sets it. They are set only if `query` has
        ``layers['counts']`` and no ceiling yet.

    Raises
    ------
    KeyError
        No such layer or column. Or measured spots corrected the layer, and the column that marks them no longer exists.
    ValueError
        - No measured expression.
        - No spot left to score.
        - A `prediction` that lacks spots of the query or shares no gene with it.
        - A section of fewer than 3 spots or of several patients.
        - NaN in the truth.
        - A reference that holds the query's own spots.
        - An unknown metric.
        - A view of an AnnData (pass a copy).

    Notes
    -----
    **Scores of each gene.**

    - ``pearson`` and ``spearman``: correlations.
    - ``pearson_depth_free``: Pearson correlation after both sides were regressed on log total counts. Depth alone
      correlates with most genes after log-normalisation. It needs ``layers['counts']``. The total is over the genes of
      `query`, so score before you leave genes out.
    - ``ccc``: Lin's concordance correlation.
    - ``rmse``, ``mae`` and ``r2``: errors, and the share of variance explained.
    - ``variance_ratio``: predicted / measured variance.
    - ``ssim``: structural similarity of the maps on the spot grid. It needs `obsm['spatial']`.
    - ``moran_difference``: Moran's I over 6 neighbours, predicted - measured. It is above 0 where the prediction is too
      smooth. It needs `obsm['spatial']`.

    **Scores of a whole panel.**

    - ``gene_gene``: Pearson of measured and predicted gene–gene correlations.
    - ``moran_agreement``: Pearson over genes of measured and predicted Moran's I. It needs `obsm['spatial']`.

    **Mean of a panel.** For correlations and similarities, missing and constant genes count as 0, and none is dropped.
    For ``rmse``, ``mae``, ``r2``, ``variance_ratio`` and ``moran_difference``, a 0 could be a good score. So genes
    without a score are left out there, and their number is given. The panel's ``ceiling`` is the mean over the same
    genes as ``pearson``.

    **A layer in a store** (:func:`~bleep_sc.tl.impute` with `store`) is read a few hundred genes at a time. For panels
    of more than 2,000 genes, such as ``"all"``, it gets no scores of a whole panel and no interval over spots.

    **Intervals** are percentile bootstraps, 2.5 to 97.5 %. They are over patients if there are at least 3, else over
    sections if each patient has at least 3. Otherwise they are over spots (``pearson`` and ``pearson_depth_free``
    only), and say nothing about other patients. With few patients or sections, intervals are too narrow. For normal
    scores, they contain the true mean in about 76 % of cases with 3 units, 83 % with 5 and 89 % with 8.
    """
    check_adata(query, name="query", copy=copy)
    if ref is not None:
        check_reference(ref)
    metrics = check_metrics(metrics)
    n_bootstrap = check_int("n_bootstrap", n_bootstrap, minimum=0)
    random_state = check_int("random_state", random_state, minimum=0)
    entry = _entry(query, layer)
    if prediction is None:
        remedy = "`bleep_sc.tl.impute(query, ref)` makes an imputed layer."
        check_in("query.layers", layer, query.layers.keys(), remedy=remedy)
    elif layer in query.layers or layer in query.uns:
        msg = f"`layer={layer!r}` names something else in `query`: give the scores of `prediction` another name."
        raise ValueError(msg)
    measured = _measured(query, truth)
    if prediction is None:
        predicted = predicted_values(query.layers[layer], query.shape, path=f"query.layers[{layer!r}]")
    else:
        predicted = aligned_prediction(prediction, query)
    library_key = library_key or recorded_library_key(query)
    patient_key = known_patient_key(query, patient_key)
    sections = ordered_by_name(query, section_rows(section_of_spots(query, library_key, name="query"), query.n_obs))
    scored = sections if prediction is not None else without_measured(query, layer, sections)
    check_section_sizes(scored)
    patients = patient_of_sections(query, scored, patient_key, name="query")
    panels = _panels(query, layer, ref, markers, truth=measured, library_key=library_key)
    if looks_like_counts(measured) and not looks_like_counts(known_values(predicted)):
        warn(
            f"`{path_of('query', truth)}` looks like raw counts, `query.layers[{layer!r}]` does not: sequencing depth "
            "would blur the comparison. Normalise the measured expression as the reference's, or name it by `truth`."
        )
    pairs = _pairs(
        query,
        measured=measured,
        predicted=predicted,
        path=f"query.layers[{layer!r}]",
        sections=scored,
        patients=patients,
        metrics=metrics,
    )
    ceiling = new_ceiling = None
    if any(METRICS[name].has_ceiling for name in metrics):
        ceiling, new_ceiling = _ceiling(query, measured, sections, library_key, random_state)

    with threads() as in_threads, one_thread():
        per_section = [score_genes(pair, metrics, in_threads=in_threads) for pair in pairs]
    rows = []
    draws: dict[tuple[str, str, str, str], np.ndarray] = {}
    shared: dict[str, Any] = {"gene_names": as_text(query.var_names), "panels": panels, "metrics": metrics}
    for pair, per_gene in zip(pairs, per_section, strict=True):
        rows += score_panels(layer, pair, per_gene, **shared, ceiling=ceiling)
        if n_bootstrap and interval_unit([pair.patient for pair in pairs]) == "spots":
            draws |= spot_draws(layer, pair, **shared, n_bootstrap=n_bootstrap, random_state=random_state)
    summary = summarize(rows, draws=draws, n_bootstrap=n_bootstrap, random_state=random_state)
    in_sample = bool(entry.get("in_sample", False))
    _report(layer, summary, metrics, n_sections=len(scored), in_sample=in_sample)

    query = query.copy() if copy else query
    with all_or_nothing(query):
        for metric in metrics:
            if not METRICS[metric].whole_panel:
                query.var[_keys.score(layer, metric)] = _mean_over_sections([scores[metric] for scores in per_section])
        if new_ceiling is not None:
            query.var[_keys.NOISE_CEILING], query.uns[_keys.NOISE_CEILING] = ceiling, new_ceiling
        query.uns[_keys.scores(layer)] = {
            "summary": summary,
            "scores": tabulate(rows),
            "n_sections": len(scored),
            "in_sample": in_sample,
            "params": {
                "truth": "X" if truth is None else truth,
                "library_key": library_key or "",
                "patient_key": patient_key or "",
                "metrics": np.array(metrics, dtype=object),
                "n_bootstrap": n_bootstrap,
                "random_state": random_state,
            },
        }
    return query if copy else None


def _measured(query: AnnData, truth: str | None) -> Any:
    if truth is None and query.X is None:
        msg = (
            "`query` has no measured expression (`X` is empty), so there is nothing to compare with: this slide was "
            "never sequenced. Evaluate on a section that was, held out from the reference."
        )
        raise ValueError(msg)
    return expression_values(query, truth, name="query")


def _pairs(
    query: AnnData,
    *,
    measured: Any,
    predicted: Any,
    path: str,
    sections: Sequence[tuple[str, np.ndarray]],
    patients: Sequence[str],
    metrics: Sequence[str],
) -> list[SectionPair]:
    depth = xy = None
    needs = needs_of(metrics)
    if "depth" in needs:
        if _keys.COUNTS in query.layers:
            depth = log_depth(expression_values(query, _keys.COUNTS, name="query"))
        else:
            logger.info("No depth-free Pearson: `query.layers['counts']` does not exist.")
    if needs & NEEDS_OF_PLACES:
        if _keys.SPATIAL in query.obsm:
            xy = spatial_coordinates(query, name="query")
        else:
            logger.info("No SSIM and no Moran's I: `query.obsm['spatial']` does not exist.")
    check, obs = partial(check_predicted, path=path), with_frames(query).obs
    return [
        SectionPair(
            name=name,
            patient=patient,
            truth=measured[rows],
            prediction=LazyColumns(predicted, rows, check=check) if is_lazy(predicted) else predicted[rows],
            depth=None if depth is None else depth[rows],
            xy=None if xy is None else xy[rows],
            grid=None if xy is None or "grid" not in needs else grid_positions(obs.iloc[rows], xy[rows]),
        )
        for (name, rows), patient in zip(sections, patients, strict=True)
    ]


def _ceiling(
    query: AnnData,
    measured: Any,
    sections: Sequence[tuple[str, np.ndarray]],
    library_key: str | None,
    random_state: int,
) -> tuple[np.ndarray | None, dict[str, Any] | None]:
    """The noise ceiling of each gene, and how it was estimated if that was done here."""
    if _keys.NOISE_CEILING in query.var:
        return pd.to_numeric(query.var[_keys.NOISE_CEILING], errors="coerce").to_numpy(dtype=np.float64), None
    if _keys.COUNTS not in query.layers:
        return None, None
    try:
        counts = count_values(query, _keys.COUNTS, name="query")
    except ValueError as err:
        warn(f"No noise ceiling: {err}")
        return None, None
    target_sum = common_total(measured)
    ceiling = ceiling_by_name(query, counts, sections, target_sum=target_sum, random_state=random_state)
    params = ceiling_params(_keys.COUNTS, library_key, target_sum=target_sum, random_state=random_state)
    return ceiling, {"params": params}


def _entry(adata: AnnData, key: str) -> Mapping[str, Any]:
    entry = adata.uns.get(key)
    return entry if isinstance(entry, Mapping) else {}


def _panels(
    query: AnnData,
    layer: str,
    ref: AnnData | None,
    markers: Sequence[str] | None,
    *,
    truth: Any,
    library_key: str | None,
) -> dict[str, np.ndarray]:
    genes_of_panels = {_ALL: as_text(query.var_names).to_numpy()}
    if ref is None:
        stored = _entry(query, layer).get("panels")
        if stored is None:
            logger.info(
                "Only all genes%s are scored: `query.uns[%r]` has no gene panels of a reference (pass `ref=`).",
                "" if markers is None else " and the markers",
                layer,
            )
    else:
        stored = _entry(ref, layer).get("panels") or _entry(ref, _keys.MODEL).get("panels")
        if ref.X is not None:
            _check_other_spots(query, ref, truth, expression_values(ref, None, name="ref"))
        stored = _panels_of_values(ref, library_key) if stored is None else stored
    genes_of_panels |= _as_panels(stored, path=f"{'query' if ref is None else 'ref'}.uns[{layer!r}]['panels']")
    return genes_of_panels if markers is None else genes_of_panels | {_MARKERS: _markers(query, markers)}


def _as_panels(stored: Any, *, path: str) -> dict[str, np.ndarray]:
    stored_panels = dict(stored) if isinstance(stored, Mapping) else {}
    panels = {str(name): np.asarray(genes, dtype=object) for name, genes in stored_panels.items()}
    if not isinstance(stored, Mapping | None) or any(genes.ndim != 1 for genes in panels.values()):
        msg = (
            f"`{path}` must hold a list of genes for each panel, found {type(stored).__name__}. Impute again, or take "
            "it out to score all genes only."
        )
        raise ValueError(msg)
    # a file sorts by letters, so HVG-200 would come before HVG-50
    return {name: panels[name].astype(str) for name in sorted(panels, key=_by_size)}


def _by_size(panel: str) -> list[str | int]:
    """Order panels by name, and those of one name by their number."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"([0-9]+)", panel))]


def _panels_of_values(ref: AnnData, library_key: str | None) -> dict[str, np.ndarray]:
    """Choose panels on a reference that no model was trained on."""
    values = expression_values(ref, None, name="ref")
    warn_if_counts(values, "ref.X")
    library_key = library_key if library_key in ref.obs else recorded_library_key(ref)
    sections = section_of_spots(ref, library_key, name="ref")
    return choose_panels(values, ref.var_names.to_numpy().astype(str), sections)


def _check_other_spots(query: AnnData, ref: AnnData, truth: Any, values: Any) -> None:
    """Refuse a reference that holds the query's own spots: panels chosen on the spots that are scored would flatter.

    Spots are told apart by their expression, since names recur.
    """
    row = as_text(ref.obs_names).get_indexer(as_text(query.obs_names))
    column = as_text(ref.var_names).get_indexer(as_text(query.var_names))
    shared_spots, shared_genes = row >= 0, column >= 0
    if not shared_spots.any() or not shared_genes.any():
        return
    of_query, of_ref = truth[shared_spots][:, shared_genes], values[row[shared_spots]][:, column[shared_genes]]
    same = np.zeros(int(shared_spots.sum()), dtype=bool)
    for part in row_blocks(of_query):
        a, b = (m.toarray() if sparse.issparse(m) else m for m in (of_query[part], of_ref[part]))
        same[part] = np.isclose(a, b).all(axis=1) & (a != 0).any(axis=1)
    if same.any():
        msg = (
            f"`ref` holds {same.sum()} of the query's own spots, such as {query.obs_names[shared_spots][same][0]!r}: "
            "gene panels chosen on the scored spots make any method look too good. Leave them out of `ref`."
        )
        raise ValueError(msg)


def _markers(query: AnnData, markers: Sequence[str]) -> np.ndarray:
    genes = np.array(list(dict.fromkeys(check_names("markers", markers))), dtype=str)
    known = np.isin(genes, as_text(query.var_names))
    if not known.any():
        msg = (
            f"`markers` must name genes: none of {genes[:3].tolist()} is in `query.var_names`, such as "
            f"{list(query.var_names[:3])}."
        )
        raise ValueError(msg)
    return genes


def _mean_over_sections(scores: Sequence[pd.Series]) -> np.ndarray:
    values = np.array(scores)
    known = ~np.isnan(values)
    number = known.sum(axis=0)
    mean = np.where(known, values, 0).sum(axis=0) / np.maximum(number, 1)
    return np.where(number > 0, mean, np.nan)


_WIDTHS = (10, 9, 18, 12, 12, 7, 9, 10)
"""Characters of each column of the report."""


def _report(layer: str, summary: pd.DataFrame, metrics: Sequence[str], *, n_sections: int, in_sample: bool) -> None:
    """Log the table that a reader wants first; all other scores stay in `uns`."""
    lead = "pearson" if "pearson" in metrics else metrics[0]
    wide = summary.pivot(index="panel", columns="metric", values="value")
    of_lead = summary[summary["metric"] == lead].set_index("panel")
    n_patients = int(of_lead["n_patients"].iloc[0])
    heading = (
        f"{lead.replace('_', ' ').capitalize()} of layer {layer!r} within {n_sections} section{'s' * (n_sections > 1)}"
        + (f" of {n_patients} patient{'s' * (n_patients > 1)}" if n_patients else "")
        + (", IN-SAMPLE: the model was trained on these spots" if in_sample else "")
        + ":"
    )
    rows = {}
    for panel, row in of_lead.iterrows():
        free = wide["pearson_depth_free"][panel] if "pearson_depth_free" in wide else np.nan
        rows[panel] = {
            lead: f"{row['value']:.3f}",
            "interval": f"{row['low']:.3f} to {row['high']:.3f}" if row["interval_over"] else "-",
            "of ceiling": f"{row['share_of_ceiling']:.0%}" if np.isfinite(row["share_of_ceiling"]) else "-",
            "depth-free": f"{free:.3f}" if np.isfinite(free) else "-",
            "genes": str(row["n_genes"]),
            "missing": str(row["n_missing"]),
            "constant": str(row["n_constant_truth"] + row["n_constant_prediction"]),
        }
    notes = []
    over = max(of_lead["interval_over"])  # a large panel of a layer in a store has none
    if over:
        narrow = ", so they say nothing of other patients" if over != "patients" else ""
        notes.append(f"Intervals are over {over}{narrow}.")
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("panel")
    log_table(heading, table, widths=_WIDTHS, notes=notes)
