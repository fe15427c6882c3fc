"""Predicted and measured expression of a section against regions that somebody else has drawn: arrays in, rows out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from bleep_sc._side_effects import parallel_numba, python_random_state_kept
from bleep_sc._stats import detected_fraction
from bleep_sc.metrics.correlation import pearson
from bleep_sc.metrics.spatial import spot_graph
from bleep_sc.metrics.turns import random_turns

FEWEST_SPOTS = 5
"""Fewest spots of a region in a section, and outside of it, of which anything is said."""
_N_COMPONENTS = 20
_N_TURNS = 100
LEAST_DETECTED = 0.1
"""Least share of a section's spots with counts of a gene whose pattern is tested, as `pp.select_genes` has it."""
NOT_TOLD = "cannot be told: "


@dataclass(frozen=True)
class SectionValues:
    """Both sides of one section, on the spots that are scored."""

    name: str
    labels: np.ndarray
    """Region of each spot (n_obs,); empty where it has none, or one of too few spots."""
    measured: sparse.csr_matrix
    """Measured expression (n_obs, n_genes)."""
    predicted: np.ndarray
    """Predicted expression of the same shape; a gene with NaN was not predicted."""
    xy: np.ndarray | None

    @property
    def regions(self) -> list[str]:
        """The regions that the section has."""
        return sorted(set(self.labels) - {""})


def large_enough(labels: np.ndarray) -> np.ndarray:
    """Empty the labels of regions that have too few spots (n_obs,)."""
    kinds, number = np.unique(labels, return_counts=True)
    return np.where(np.isin(labels, kinds[number >= FEWEST_SPOTS]), labels, "")


def marker_rows(section: SectionValues, markers: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Score the markers of each region, measured and predicted; columns of genes are given by place.

    The score of a spot is the mean over markers of expression in standard deviations of the section.
    """
    labelled = section.labels != ""
    rows = []
    for region, columns in markers.items():
        inside = section.labels[labelled] == region
        row: dict[str, Any] = {
            "section": section.name,
            "region": region,
            "n_spots": int(inside.sum()),
            "n_other": int((~inside).sum()),
            "n_markers": len(columns),
        }
        note = _not_told(inside, columns, region)
        if not note:
            sides = [section.measured[labelled][:, columns].toarray(), section.predicted[labelled][:, columns]]
            scores = [_standard_score(np.asarray(values, dtype=np.float64)) for values in sides]
            for side, values, score in zip(("measured", "predicted"), sides, scores, strict=True):
                row[f"auroc_{side}"] = auroc(score, inside)
                row[f"log2_fold_{side}"] = log2_fold(np.asarray(values, dtype=np.float64), inside)
            row["pearson"] = _correlation(*scores)
            row["pearson_within"] = _correlation(*(_within(score, section.labels[labelled]) for score in scores))
        rows.append({**row, "note": note})
    return rows


def _not_told(inside: np.ndarray, columns: np.ndarray, region: str) -> str:
    if not len(columns):
        return f"{NOT_TOLD}none of the markers of {region!r} is predicted"
    if min(inside.sum(), (~inside).sum()) < FEWEST_SPOTS:
        return f"{NOT_TOLD}fewer than {FEWEST_SPOTS} spots inside or outside of {region!r}"
    return ""


def _standard_score(values: np.ndarray) -> np.ndarray:
    spread = values.std(axis=0)
    z = (values - values.mean(axis=0)) / np.where(spread > 0, spread, np.inf)
    return np.asarray(z.mean(axis=1))


def auroc(score: np.ndarray, inside: np.ndarray) -> float:
    """Chance that a spot inside has a higher score than one outside; ties count half."""
    from scipy.stats import rankdata

    n = int(inside.sum())
    return float((rankdata(score)[inside].sum() - n * (n + 1) / 2) / (n * (len(inside) - n)))


def log2_fold(values: np.ndarray, inside: np.ndarray) -> float:
    """Log2 of how many times higher 1 + expression is inside than outside, from log1p values, mean over genes."""
    return float((values[inside].mean(axis=0) - values[~inside].mean(axis=0)).mean() / np.log(2))


def _within(score: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Take the mean of its region off each spot's score."""
    return score - pd.Series(score).groupby(labels).transform("mean").to_numpy()


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(pearson(one[:, None], other[:, None])[0])


def cluster_row(section: SectionValues, genes: np.ndarray, *, n_clusters: int | None, seed: int) -> dict[str, Any]:
    """Cluster measured and predicted expression into as many clusters each, and compare them with one another.

    `chance` is what the predicted clusters reach where they are turned, mirrored and shifted at random: patches that
    are as large and as smooth.
    """
    with python_random_state_kept():
        from sklearn.metrics import adjusted_rand_score

    k = len(section.regions) if n_clusters is None else n_clusters
    row: dict[str, Any] = {
        "section": section.name,
        "n_clusters": k,
        "n_genes": len(genes),
        "n_spots": len(section.labels),
    }
    if k < 2 or len(section.labels) <= k or len(genes) < 2:
        return {
            **row,
            "note": f"{NOT_TOLD}two regions and two predicted genes are needed, and more spots than clusters",
        }
    measured = clusters(section.measured[:, genes].toarray(), k, seed=seed)
    predicted = clusters(section.predicted[:, genes], k, seed=seed)
    row["ari"] = float(adjusted_rand_score(measured, predicted))
    if section.xy is not None:
        turns = random_turns(section.xy, n_turns=_N_TURNS, rng=np.random.default_rng(seed))
        turned = [
            adjusted_rand_score(measured[turn >= 0], predicted[turn[turn >= 0]]) for turn in turns if (turn >= 0).any()
        ]
        if turned:
            row["ari_chance"] = float(np.mean(turned))
            row["pvalue"] = float((1 + np.sum(np.array(turned) >= row["ari"])) / (1 + len(turned)))
    labelled = section.labels != ""
    if labelled.any():
        row["ari_labels_measured"] = float(adjusted_rand_score(section.labels[labelled], measured[labelled]))
        row["ari_labels_predicted"] = float(adjusted_rand_score(section.labels[labelled], predicted[labelled]))
    return {**row, "note": ""}


def clusters(values: np.ndarray, n_clusters: int, *, seed: int) -> np.ndarray:
    """Put spots into clusters (n_obs,) by k-means on principal components."""
    with python_random_state_kept():
        from sklearn.cluster import KMeans
        from sklearn.decomposition import PCA

    values = np.asarray(values, dtype=np.float64)
    n_components = min(_N_COMPONENTS, *values.shape)
    if np.ptp(values, axis=0).max() == 0:  # which has no components
        return np.zeros(len(values), dtype=int)
    scores = PCA(n_components, svd_solver="full").fit_transform(values)
    n_clusters = min(n_clusters, len(np.unique(scores, axis=0)))
    return np.asarray(KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(scores))


def spatial_row(section: SectionValues, *, fdr: float) -> dict[str, Any]:
    """Find spatially variable genes on both sides, by Moran's I, and compare their overlap with chance.

    Predicted maps are smooth, so nearly all genes pass a test there. Both lists are therefore made equally long: all
    genes that pass as measured, and as many of those with the highest I as predicted.
    """
    from scipy.stats import hypergeom, spearmanr

    predicted = ~np.isnan(section.predicted).any(axis=0) & (np.ptp(section.predicted, axis=0) > 0)
    genes = np.flatnonzero(predicted & (detected_fraction(section.measured) >= LEAST_DETECTED))
    row: dict[str, Any] = {"section": section.name, "n_genes": len(genes)}
    if section.xy is None or len(genes) < 2 or len(section.labels) < FEWEST_SPOTS:
        return {**row, "note": f"{NOT_TOLD}places of the spots and two predicted genes are needed"}
    graph = spot_graph(section.xy)
    of_measured = moran(section.measured[:, genes].toarray(), graph)
    of_predicted = moran(section.predicted[:, genes], graph)
    found = of_measured["qvalue"].to_numpy() <= fdr
    n = int(found.sum())
    row |= {"n_measured": n, "n_predicted": int((of_predicted["qvalue"] <= fdr).sum())}
    row["spearman"] = float(spearmanr(of_measured["moran"], of_predicted["moran"])[0])
    if n in (0, len(genes)):
        which = "no gene varies" if n == 0 else "all genes vary"
        return {**row, "note": f"{NOT_TOLD}{which} over the section as measured, so no overlap can be above chance"}
    top = np.argsort(-of_predicted["moran"].to_numpy(), kind="stable")[:n]
    both = int(found[top].sum())
    chance = n * n / len(genes)
    pvalue = float(hypergeom.sf(both - 1, len(genes), n, n))
    return {**row, "n_both": both, "n_chance": chance, "enrichment": both / chance, "pvalue": pvalue, "note": ""}


def moran(values: np.ndarray, graph: sparse.csr_matrix) -> pd.DataFrame:
    """Compute Moran's I of each gene with squidpy, and its q-value by Benjamini and Hochberg, in order of genes."""
    with python_random_state_kept():
        import squidpy as sq

    made = AnnData(np.asarray(values, dtype=np.float64))
    made.obsp["spatial_connectivities"] = sparse.csr_matrix(graph, dtype=np.float64)
    with parallel_numba():
        table = sq.gr.spatial_autocorr(made, mode="moran", copy=True, show_progress_bar=False, two_tailed=False)
    table = table.reindex(made.var_names)
    return pd.DataFrame({"moran": table["I"].to_numpy(), "qvalue": table["pval_norm_fdr_bh"].fillna(1).to_numpy()})
