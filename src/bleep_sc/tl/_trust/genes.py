"""Judges each gene by its out-of-fold predictions: whether it can be read off an image, and how well."""

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import as_text, spatial_coordinates
from bleep_sc._blocks import threads
from bleep_sc._logging import logger, warn
from bleep_sc._progress import progress
from bleep_sc._stats import section_rows
from bleep_sc.io._calibration import Promise
from bleep_sc.metrics.correlation import pearson
from bleep_sc.metrics.predictable import combine_sections, expected_pearson
from bleep_sc.metrics.turns import beyond_depth
from bleep_sc.tl._sections import Sections
from bleep_sc.tl._trust.depth import as_they_are, differences
from bleep_sc.tl._trust.spots import HeldOutSpots
from bleep_sc.tl._trust.tables import gene_blocks
from bleep_sc.tl._trust.turned import turned_sections

_FEWEST_SPOTS = 10
"""Fewest spots of a section in which a correlation tells anything."""
LEAST_DETECTED = 0.1
"""Least share of the spots with counts of a gene that is tested, as `pp.select_genes` chooses genes to learn from.

Rarer genes could hardly be listed, and each would make it harder for the others.
"""


def judge_genes(
    ref: AnnData,
    spots: HeldOutSpots,
    *,
    key: str,
    n_turns: int,
    fdr: float,
    seed: int,
    progress_bar: bool | None,
) -> dict[str, Any] | None:
    """Return the columns of `var`; None where spots have no places, or sections are too small, to turn a map."""
    if _keys.SPATIAL not in ref.obsm:
        warn(
            "no list of predictable genes is made: `ref.obsm['spatial']` does not exist, and a predicted map must be "
            "turned on its section to tell whether it follows a gene by more than chance."
        )
        return None
    labels = spots.labels.sections.astype(str)
    sections = [part for part in section_rows(labels, len(labels)) if len(part[1]) >= _FEWEST_SPOTS]
    if not sections:
        warn(f"no list of predictable genes is made: no section has {_FEWEST_SPOTS} or more held-out spots.")
        return None
    xy = spatial_coordinates(ref, name="ref")[spots.rows]
    turned = turned_sections(xy, sections, n_turns=n_turns, seed=seed, name="ref")
    r, z = _scores(spots, sections, turned, seed=seed, progress_bar=progress_bar)
    groups = np.array([str(spots.labels.groups[rows[0]]) for _, rows in sections])
    patients = groups if not spots.joint else np.zeros(len(sections), dtype=int)
    detected = np.asarray((spots.measured.counts > 0).mean(axis=0)).ravel()
    z[:, detected < LEAST_DETECTED] = 0  # which combine_sections does not count among those tested
    listed = combine_sections(z, patients).qvalue <= fdr
    expected = expected_pearson(r, groups)
    place = pd.Index(spots.measured.genes).get_indexer(as_text(ref.var_names))
    values = [listed, expected.mean, expected.lower, expected.upper]
    return dict(zip(_keys.of_calibrated_genes(key), (_by_name(each, place) for each in values), strict=True))


def report_genes(columns: dict[str, Any], promise: Promise, *, key: str, fdr: float) -> None:
    """Log how many genes are listed, and what the list speaks of."""
    listed = columns[_keys.predictable(key)]
    logger.info(
        "%d of %d genes can be predicted from these images beyond sequencing depth (false discovery rate "
        "%.3g). The list was made %s. It may not hold for other patients.",
        listed.sum(),
        np.isfinite(columns[_keys.expected_pearson(key)]).sum(),
        fdr,
        promise.in_words,
    )


def _scores(
    spots: HeldOutSpots, sections: Sections, turned: list[np.ndarray], *, seed: int, progress_bar: bool | None
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the plain correlation of each gene in each section, and its z beyond depth (n_sections, n_genes)."""
    n_genes, depth = len(spots.measured.genes), np.log(spots.measured.totals)
    r, z = np.empty((len(sections), n_genes)), np.empty((len(sections), n_genes))
    at_depth = as_they_are(spots)
    blocks = gene_blocks(len(spots.rows), n_genes)
    with threads() as in_threads:
        for block in progress(blocks, desc="Turned maps", show=progress_bar):
            columns = np.arange(n_genes)[block]
            predicted = spots.predict(columns)
            truth = differences(spots, predicted, columns, at_depth, seed=seed) + predicted
            for number, ((_, rows), turns) in enumerate(zip(sections, turned, strict=True)):
                measured, imputed = (np.ascontiguousarray(values[:, rows].T) for values in (truth, predicted))
                r[number, block] = pearson(measured, imputed)
                z[number, block] = beyond_depth(measured, imputed, depth[rows], turns, in_threads=in_threads)[1]
    return r, z


def _by_name(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Put values in the order of the reference's genes; those that are not calibrated are False, or NaN."""
    if values.dtype == bool:
        return np.where(place >= 0, values[place], False)
    return np.where(place >= 0, values[place], np.nan)
