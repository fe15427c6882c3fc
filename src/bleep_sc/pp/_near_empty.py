"""Warn of spots with next to no counts: a handful of them dominates every per-gene correlation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._expression import expression_values
from bleep_sc._logging import warn

SHARE_OF_MEDIAN = 0.1
MESSAGE = "near-empty spots"
"""Words with which the warning begins."""


def warn_of_near_empty(
    adata: AnnData, sections: Sequence[tuple[str, np.ndarray]], *, counts_layer: str = _keys.COUNTS
) -> None:
    """Warn of spots below a tenth of their section's median of counts; without counts, of detected genes."""
    if counts_layer in adata.layers:
        counts: Any = adata.layers[counts_layer]
        depth = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
        # `sc.pp.filter_cells` would read X, which is normalised by now
        what, kept = "counts", f"np.ravel(adata.layers[{counts_layer!r}].sum(axis=1)) > {{limit:g}}"
    else:
        depth = np.asarray((expression_values(adata, None, name="adata") > 0).sum(axis=1)).ravel()
        what, kept = "detected genes", "np.ravel((adata.X > 0).sum(axis=1)) > {limit:g}"
    numbers, limit = [], 0.0
    for section, rows in sections:
        near_empty = depth[rows] < SHARE_OF_MEDIAN * np.median(depth[rows])
        if near_empty.any():
            numbers.append(f"{near_empty.sum()}" + (f" in {section!r}" if section else ""))
            limit = max(limit, depth[rows][near_empty].max())
    if numbers:
        warn(
            f"{MESSAGE}, below a tenth of their section's median of {what}: {', '.join(numbers)}. One count in "
            "them becomes a huge value after normalising, and they dominate per-gene correlations. Remove them: "
            f"`adata = adata[{kept.format(limit=limit)}].copy()`."
        )
