"""Scores of a prediction against the truth: arrays in, arrays out, one number per gene where not said otherwise."""

from bleep_sc.metrics.bootstrap import bootstrap_mean, bootstrap_pearson, interval
from bleep_sc.metrics.ceiling import ceiling_from_halves, split_half_pearson
from bleep_sc.metrics.correlation import ccc, partial_pearson, pearson, spearman
from bleep_sc.metrics.error import mae, r2, rmse, variance_ratio
from bleep_sc.metrics.spatial import morans_i, spot_graph, ssim
from bleep_sc.metrics.structure import gene_gene

__all__ = [
    "bootstrap_mean",
    "bootstrap_pearson",
    "ccc",
    "ceiling_from_halves",
    "gene_gene",
    "interval",
    "mae",
    "morans_i",
    "partial_pearson",
    "pearson",
    "r2",
    "rmse",
    "spearman",
    "split_half_pearson",
    "spot_graph",
    "ssim",
    "variance_ratio",
]
