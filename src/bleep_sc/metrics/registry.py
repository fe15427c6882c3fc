"""The list of metrics: what each is called, how it is computed, and how its values are averaged and drawn.

A new metric is a function in one of the files of this folder and a record here. The check of `metrics=`, the tables of
scores, `tl.evaluate`, `tl.cross_validate` and the plots take all they need to know of it from the record.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

import pandas as pd

from bleep_sc.metrics.correlation import ccc, partial_pearson, pearson, spearman
from bleep_sc.metrics.error import mae, r2, rmse, variance_ratio
from bleep_sc.metrics.moran import moran_agreement, moran_difference
from bleep_sc.metrics.spatial import ssim
from bleep_sc.metrics.structure import gene_gene

Need = Literal["depth", "grid", "moran"]
"""Name of something that a metric may read beside truth and prediction.

``"depth"`` is the log total counts (n_obs,), ``"grid"`` the row and column of each spot (n_obs, 2), ``"moran"`` the
`MoranValues` of the same genes.
"""

NEEDS_OF_PLACES: frozenset[Need] = frozenset({"grid", "moran"})
"""Needs that are worked out from the coordinates of the spots."""


@dataclass(frozen=True)
class PlottedMetric:
    """What a plot knows of a metric: its words, and which values are good."""

    name: str
    """Name that users call the metric by, and that tables hold in the column ``metric``."""
    label: str
    """Name of the metric in words, as an axis shows it."""
    _: KW_ONLY
    best: float | None = None
    """The best value, to which others should be near; None where higher values are better."""
    mark: float | None = 0.0
    """The value that an axis shows in any case, because it means something; None where there is none."""
    has_ceiling: bool = False
    """Whether the noise ceiling limits the metric, so that its share of the ceiling means something."""

    @property
    def title(self) -> str:
        """The label of the metric, and which values are good where those are not the high ones."""
        if self.best is None:
            return self.label
        return f"{self.label} ({'lower is better' if self.best == 0 else f'best is {self.best:g}'})"

    def rank(self, values: pd.Series) -> pd.Series:
        """Turn values into numbers of which the higher is the better."""
        return values if self.best is None else -(values - self.best).abs()


@dataclass(frozen=True)
class Metric(PlottedMetric):
    """The record of a metric: all that the package knows of it."""

    score: Callable[..., Any]
    """Function that takes truth and prediction (n_obs, n_genes), then each of `needs`, all by place.

    A metric of genes gets dense float64 of genes that vary as measured and were predicted, and returns (n_genes,). A
    metric of whole panels gets the predicted genes of a panel, dense or CSR, and returns one number.
    """
    _: KW_ONLY
    whole_panel: bool = False
    """Whether the metric has one value for a panel and section; otherwise it has one for each gene."""
    needs: tuple[Need, ...] = ()
    """Things that the metric reads beside truth and prediction; without any of them its values are NaN."""
    zero_without_value: bool = True
    """Whether a gene without a value counts as 0 in the mean of a panel; otherwise it is left out.

    Only right where 0 is the score of a prediction that knows nothing.
    """
    over_spots: Literal["plain", "partial"] | None = None
    """Result of `bootstrap_pearson` that redraws the metric over spots: the correlations, or those with depth regressed
    out. With None the metric has no interval where sections and patients are too few."""

    def value(self, truth: Any, prediction: Any, beside: Mapping[Need, Any]) -> Any:
        """Compute the metric; None where something that it needs is None in `beside`."""
        needed = [beside[need] for need in self.needs]
        return None if any(values is None for values in needed) else self.score(truth, prediction, *needed)


RECORDS = (
    Metric("pearson", "Pearson correlation", pearson, has_ceiling=True, over_spots="plain"),
    Metric("spearman", "Spearman correlation", spearman),
    Metric("rmse", "RMSE", rmse, best=0.0, mark=None, zero_without_value=False),
    Metric("mae", "Mean absolute error", mae, best=0.0, mark=None, zero_without_value=False),
    Metric("r2", "R²", r2, zero_without_value=False),
    Metric("ccc", "Concordance correlation", ccc),
    Metric(
        "pearson_depth_free",
        "Pearson correlation, depth regressed out",
        partial_pearson,
        needs=("depth",),
        over_spots="partial",
    ),
    Metric("ssim", "SSIM", ssim, needs=("grid",)),
    Metric(
        "moran_difference",
        "Difference of Moran's I",
        moran_difference,
        needs=("moran",),
        best=0.0,
        zero_without_value=False,
    ),
    Metric(
        "variance_ratio",
        "Variance, predicted to measured",
        variance_ratio,
        best=1.0,
        mark=1.0,
        zero_without_value=False,
    ),
    Metric("gene_gene", "Agreement of gene–gene correlation", gene_gene, whole_panel=True),
    Metric(
        "moran_agreement",
        "Agreement of Moran's I over genes",
        moran_agreement,
        whole_panel=True,
        needs=("moran",),
    ),
)

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in RECORDS}
"""The metrics by name. Tables list them in this order."""


def needs_of(metrics: Iterable[str]) -> frozenset[Need]:
    """All that the metrics of these names read beside truth and prediction."""
    return frozenset(need for name in metrics for need in METRICS[name].needs)
