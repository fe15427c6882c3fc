import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from bleep_sc import _keys
from bleep_sc._adata import as_text, check_adata, recorded_library_key, section_of_spots, spatial_coordinates
from bleep_sc._all_or_nothing import all_or_nothing
from bleep_sc._blocks import is_lazy
from bleep_sc._checks import MAX_SEED, check_in, check_int, check_names, check_share
from bleep_sc._expression import expression_values, path_of, warn_if_counts
from bleep_sc._logging import log_table
from bleep_sc._progress import progress
from bleep_sc._stats import section_rows
from bleep_sc.metrics.summary import for_uns
from bleep_sc.models.threads import on_allowed_cores
from bleep_sc.tl._measured.record import without_measured
from bleep_sc.tl._predicted import check_predicted, predicted_values
from bleep_sc.tl._sections import check_section_sizes, ordered_by_name

CIRCULAR = (
    "A model sees the image, and regions can be told apart by eye. So a high AUROC shows that the image shows the "
    "region, which was known, not that the gene was predicted beyond it. `pearson_within` is what is left when each "
    "region's mean is taken off. Labels that were drawn on this very image are no independent truth either."
)
_CLUSTER_PANEL = "HVG-200"
_MARKERS = (
    *("section", "region", "n_spots", "n_other", "n_markers", "auroc_measured", "auroc_predicted"),
    *("log2_fold_measured", "log2_fold_predicted", "pearson", "pearson_within", "note"),
)
_CLUSTERS = (
    *("section", "n_clusters", "n_genes", "n_spots", "ari", "ari_chance", "pvalue", "ari_labels_measured"),
    *("ari_labels_predicted", "note"),
)
_SPATIAL = (
    *("section", "n_genes", "n_measured", "n_predicted", "n_both", "n_chance", "enrichment", "pvalue", "spearman"),
    "note",
)


@on_allowed_cores()
def evaluate_regions(
    query: AnnData,
    *,
    labels: str,
    markers: Mapping[str, Sequence[str]],
    layer: str = _keys.MODEL,
    truth: str | None = None,
    n_clusters: int | None = None,
    fdr: float = 0.05,
    library_key: str | None = None,
    random_state: int = 0,
    progress_bar: bool | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Compare predicted and measured expression in regions that a pathologist or another source has drawn.

    The function asks three questions. Are the markers of a region higher in that region? Do clusters of predicted and
    of measured expression agree? Do the same genes vary over the section? Measured expression is tested in the same
    way, for comparison.

    Parameters
    ----------
    query
        Spots with a predicted layer, measured expression and labels.
    labels
        Column of `obs` with each spot's region. Spots without a label are left out of all comparisons with labels. So
        are regions of fewer than 5 spots in a section.
    markers
        Genes that are high in each region, by the name of the region: ``{"tumour": ["ERBB2", "KRT8"]}``. Take them from
        other studies. Markers found on these spots make the measured side look too good.
    layer
        Name of the predicted layer.
    truth
        Layer with the measured expression, log-normalised as the predicted one; ``None`` is `query.X`.
    n_clusters
        Number of clusters on both sides; ``None`` takes as many as the section has regions.
    fdr
        False discovery rate at which genes count as spatially variable.
    library_key
        Column of `obs` with each spot's section. ``None`` takes the column that :func:`~bleep_sc.pp.crops` was given,
        else all spots are one section.
    random_state
        Seed of clusters and turned maps.
    progress_bar
        Overrides the value of the same name in :attr:`bleep_sc.settings` for this call.
    copy
        Return a changed copy instead of changing `query`.

    Returns
    -------
    ``None``, or the changed copy if ``copy=True``. Sets the following fields:

    `query.uns['{layer}_regions']` : `dict`
        Three tables with a row for each section, and ``summary``, the means of ``markers`` over sections.

        - ``markers`` has a row for each region. ``auroc_measured`` and ``auroc_predicted`` say how well the score of
          the markers separates the region from the rest of the section. The other columns are ``log2_fold_measured``,
          ``log2_fold_predicted``, ``pearson`` of predicted and measured score, and ``pearson_within``. The last is the
          same correlation after each region's mean was subtracted.
        - ``clusters``: ``ari`` is the adjusted Rand index between predicted and measured clusters. ``ari_chance`` and
          ``pvalue`` compare it with predicted clusters that are turned, mirrored and shifted at random.
          ``ari_labels_measured`` and ``ari_labels_predicted`` are the index against the labels.
        - ``spatial_genes``: ``n_measured`` is the number of genes whose measured expression varies over the section.
          The same number of genes with the highest Moran's I of predicted expression is taken, and ``n_both`` genes are
          in both lists. ``n_chance``, ``enrichment`` and ``pvalue`` compare this with chance. ``n_predicted`` genes
          pass the test on predicted expression. ``spearman`` compares Moran's I over genes.

        ``note`` says why values of a row are NaN. The other entries are ``circularity``, a text, ``in_sample`` and
        ``params``.

    Raises
    ------
    KeyError
        No such column or layer.
    ValueError
        - Labels that are missing for all spots, or of one kind.
        - A region in `markers` that no spot has.
        - No marker that is predicted.
        - A section of fewer than 3 spots.
        - A view of an AnnData (pass a copy).

    Notes
    -----
    **Circular in part.** A model sees the image, and regions can be told apart by eye. So a high AUROC only shows that
    the region is visible in the image, which was known. It does not show that the gene is predicted within the region.
    ``pearson_within`` tests that. Noise alone makes it low if the markers have few counts. Labels drawn on the same
    image are no independent truth either.

    The score of a spot is the mean expression of the markers, in standard deviations of the section. The fold change is
    that of 1 + expression, from means of log1p values. A gene that is not predicted is left out on both sides.

    Clusters are made by k-means on 20 principal components. These are computed from the reference's HVG-200 if the
    layer brings that panel, else from all predicted genes. Moran's I and its p-values (one-sided, normal) are
    squidpy's, over 6 neighbours. They are computed for genes with counts in a tenth of a section's spots. Predicted
    maps are smooth, so nearly all genes pass the test there. That is why lists of equal length are compared.

    Measured spots that corrected the layer (:func:`~bleep_sc.tl.impute` with `measured`) are left out.

    Examples
    --------
    >>> markers = {"tumour": ["ERBB2", "KRT8"], "stroma": ["COL1A1", "DCN"]}
    >>> bl.tl.evaluate_regions(query, labels="annotation", markers=markers)  # doctest: +SKIP
    >>> bl.pl.regions(query)  # doctest: +SKIP
    """
    check_adata(query, name="query", copy=copy)
    check_share("fdr", fdr)
    seed = check_int("random_state", random_state, minimum=0, maximum=MAX_SEED)
    if n_clusters is not None:
        check_int("n_clusters", n_clusters, minimum=2)

    from bleep_sc.tl._study._tissues.regions import SectionValues, cluster_row, large_enough, marker_rows, spatial_row

    check_in("query.layers", layer, query.layers.keys(), remedy="`bleep_sc.tl.impute(query, ref)` makes it.")
    if truth == layer:
        msg = f"`truth={truth!r}` is the predicted layer itself: name the layer with the measured expression."
        raise ValueError(msg)
    of_spots = _labels(query, labels)
    in_sample = _in_sample(query, layer)
    predicted = predicted_values(query.layers[layer], query.shape, path=f"query.layers[{layer!r}]")
    is_predicted = _is_predicted(predicted)
    columns, named = _markers(query, markers, of_spots, labels, is_predicted)
    measured = sparse.csr_matrix(expression_values(query, truth, name="query"))
    warn_if_counts(measured, path_of("query", truth))
    library_key = library_key or recorded_library_key(query)
    sections = ordered_by_name(query, section_rows(section_of_spots(query, library_key, name="query"), query.n_obs))
    scored = without_measured(query, layer, sections)
    check_section_sizes(scored)
    genes = _cluster_genes(query, layer, is_predicted)
    xy = spatial_coordinates(query, name="query") if _keys.SPATIAL in query.obsm else None

    of_markers, of_clusters, of_genes = [], [], []
    for name, rows in progress(scored, desc="Comparing regions", show=progress_bar):
        xy_of_section = None if xy is None else xy[rows]
        part = SectionValues(
            name, large_enough(of_spots[rows]), measured[rows], _in_memory(predicted, rows, layer), xy_of_section
        )
        of_markers += marker_rows(part, columns)
        of_clusters.append(cluster_row(part, genes, n_clusters=n_clusters, seed=seed))
        of_genes.append(spatial_row(part, fdr=fdr))
    tables = _tables(of_markers, of_clusters, of_genes)
    _report(layer, tables, in_sample=in_sample)
    query = query.copy() if copy else query
    with all_or_nothing(query):
        query.uns[_keys.regions(layer)] = {
            **tables,
            "circularity": CIRCULAR,
            "in_sample": in_sample,
            "params": {
                "labels": labels,
                "markers": json.dumps(named),  # a name of a region may hold '/', which no key of a file can
                "truth": "X" if truth is None else truth,
                "library_key": library_key or "",
                "n_clusters": n_clusters or 0,
                "fdr": fdr,
                "random_state": seed,
            },
        }
    return query if copy else None


def _labels(query: AnnData, labels: str) -> np.ndarray:
    """Read the region of each spot (n_obs,), empty where it has none; refuse labels that tell nothing apart."""
    check_in("query.obs", labels, query.obs.columns, remedy="`labels` names the column with each spot's region.")
    column = query.obs[labels]
    values = np.where(column.isna(), "", column.astype(str)).astype(str)
    kinds = sorted(set(values.tolist()) - {""})
    if len(kinds) < 2:
        found = f"only {kinds[0]!r}" if kinds else "no label at all"
        msg = f"`query.obs[{labels!r}]` must tell two or more regions apart, found {found} on {query.n_obs} spots."
        raise ValueError(msg)
    return values


def _in_sample(query: AnnData, layer: str) -> bool:
    entry = query.uns.get(layer)
    return isinstance(entry, Mapping) and bool(entry.get("in_sample", False))


def _is_predicted(predicted: Any) -> np.ndarray:
    first = predicted[:1].compute() if is_lazy(predicted) else predicted
    return ~np.isnan(np.asarray(first)).any(axis=0)


def _markers(
    query: AnnData, markers: Mapping[str, Sequence[str]], of_spots: np.ndarray, labels: str, is_predicted: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """Find the columns of the markers of each region, and their names; those that are not predicted are left out."""
    if not isinstance(markers, Mapping) or not markers:
        msg = f"`markers` must be genes by region, as `{{'tumour': ['ERBB2']}}`, found {markers!r}."
        raise ValueError(msg)
    kinds = sorted(set(of_spots.tolist()) - {""})
    # a region that is a number may be named by it
    texts: dict[Any, str] = {
        **dict(zip(query.obs[labels], of_spots.tolist(), strict=True)),
        **dict(zip(kinds, kinds, strict=True)),
    }
    columns: dict[str, np.ndarray] = {}
    named: dict[str, list[str]] = {}
    for key, genes in markers.items():
        region = texts.get(key, "")
        if region not in kinds or region in columns:
            why = "which no spot has" if region not in kinds else "which another name stands for too"
            msg = f"`markers` names the region {key!r}, {why}: `query.obs[{labels!r}]` has {kinds}."
            raise ValueError(msg)
        names = list(dict.fromkeys(map(str, check_names(f"markers[{key!r}]", genes))))
        place = as_text(query.var_names).get_indexer(names)
        known = (place >= 0) & is_predicted[place]
        columns[region], named[region] = (
            place[known],
            [name for name, is_known in zip(names, known, strict=True) if is_known],
        )
    if not any(map(len, columns.values())):
        first = list(check_names("markers", next(iter(markers.values()))))[:3]
        msg = f"none of the `markers` is predicted, such as {first}: name genes that the layer holds."
        raise ValueError(msg)
    return columns, named


def _cluster_genes(query: AnnData, layer: str, is_predicted: np.ndarray) -> np.ndarray:
    """Columns of the genes that are clustered: the reference's most variable ones, chosen without the query."""
    entry = query.uns.get(layer)
    panels = entry.get("panels") if isinstance(entry, Mapping) else None
    chosen = is_predicted
    if isinstance(panels, Mapping) and _CLUSTER_PANEL in panels:
        chosen = is_predicted & np.isin(as_text(query.var_names), np.asarray(panels[_CLUSTER_PANEL], dtype=str))
    return np.flatnonzero(chosen if chosen.sum() > 1 else is_predicted)


def _in_memory(predicted: Any, rows: np.ndarray, layer: str) -> np.ndarray:
    part = predicted[rows]
    part = np.asarray(part.compute() if is_lazy(part) else part)
    check_predicted(part, path=f"query.layers[{layer!r}]")
    return part


def _tables(
    of_markers: list[dict[str, Any]], of_clusters: list[dict[str, Any]], of_genes: list[dict[str, Any]]
) -> dict[str, pd.DataFrame]:
    table = _table(of_markers, _MARKERS)
    return {
        "markers": table,
        "summary": _summary(table),
        "clusters": _table(of_clusters, _CLUSTERS),
        "spatial_genes": _table(of_genes, _SPATIAL),
    }


def _table(rows: list[dict[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    return for_uns(pd.DataFrame(rows).reindex(columns=list(columns)))


def _summary(table: pd.DataFrame) -> pd.DataFrame:
    """Average over the sections that can tell, a row for each region."""
    scores = [name for name in table if name.startswith(("auroc", "log2", "pearson"))]
    grouped = table.groupby("region", sort=False)
    summary = (
        grouped[scores].mean().assign(n_sections=grouped["auroc_measured"].count(), n_spots=grouped["n_spots"].sum())
    )
    return for_uns(summary.reset_index())


_SHOWN = (
    ("AUROC, measured", 16),
    ("predicted", 11),
    ("log2 fold", 11),
    ("predicted", 11),
    ("r", 7),
    ("within", 8),
)
"""Columns of the report and their characters."""


def _report(layer: str, tables: Mapping[str, pd.DataFrame], *, in_sample: bool) -> None:
    summary, clusters, genes = (tables[name] for name in ("summary", "clusters", "spatial_genes"))
    of_sample = ", IN-SAMPLE: the model was trained on these spots" if in_sample else ""
    cells = [
        (
            f"{row.auroc_measured:.2f}",
            f"{row.auroc_predicted:.2f}",
            f"{row.log2_fold_measured:.2f}",
            f"{row.log2_fold_predicted:.2f}",
            f"{row.pearson:.2f}",
            f"{row.pearson_within:.2f}",
        )
        for row in summary.itertuples()
    ]
    agreement = (
        f"Means over sections: clusters agree with an adjusted Rand index of {clusters['ari'].mean():.2f} (turned maps "
        f"{clusters['ari_chance'].mean():.2f}); {genes['n_both'].mean():.0f} genes vary over the section on both "
        f"sides, by chance {genes['n_chance'].mean():.0f}."
    )
    log_table(
        f"Markers of layer {layer!r} by region, mean over sections{of_sample}:",
        pd.DataFrame(
            cells, index=pd.Index(summary["region"].str[:27], name="region"), columns=[name for name, _ in _SHOWN]
        ),
        widths=[28, *(width for _, width in _SHOWN)],
        notes=[agreement, CIRCULAR],
    )
