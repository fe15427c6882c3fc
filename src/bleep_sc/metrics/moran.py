"""Moran's I as measured and as predicted, found once for a gene, and the metrics that compare the two."""

from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from bleep_sc.metrics.correlation import pearson
from bleep_sc.metrics.spatial import morans_i

_FEWEST_GENES_TO_CORRELATE = 3


class MoranValues(NamedTuple):
    """Moran's I of each gene, on both sides."""

    truth: np.ndarray
    """Moran's I as measured (n_genes,); NaN where the truth is constant."""
    prediction: np.ndarray
    """Moran's I as predicted (n_genes,); 0 where the prediction is constant, since it then has no pattern."""


def moran_values(truth: np.ndarray, prediction: np.ndarray, graph: sparse.csr_matrix) -> MoranValues:
    """Compute Moran's I of each gene over the neighbours in `graph`, of truth and prediction (n_obs, n_genes)."""
    return MoranValues(morans_i(truth, graph), np.nan_to_num(morans_i(prediction, graph)))


def moran_difference(truth: np.ndarray, prediction: np.ndarray, moran: MoranValues) -> np.ndarray:
    """Subtract measured from predicted Moran's I (n_genes,): above 0 where the prediction is too smooth."""
    return moran.prediction - moran.truth


def moran_agreement(truth: Any, prediction: Any, moran: MoranValues) -> float:
    """Correlate measured and predicted Moran's I over genes; NaN where fewer than 3 genes have both."""
    both = np.column_stack(moran)
    both = both[~np.isnan(both).any(axis=1)]
    return float(pearson(both[:, :1], both[:, 1:])[0]) if len(both) >= _FEWEST_GENES_TO_CORRELATE else float("nan")
