"""Bounds of imputed values: half-widths from the tables of a calibration, or worked out at a depth or level."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.stats import norm

from bleep_sc import _keys
from bleep_sc._adata import as_text, section_of_spots
from bleep_sc._checks import MissingKeyError, check_in
from bleep_sc._expression import count_values
from bleep_sc._logging import logger, warn
from bleep_sc._stats import section_rows
from bleep_sc.io._calibration import Calibration, nearest
from bleep_sc.tl._trust.calibrated import Calibrated
from bleep_sc.tl._trust.calibration import announce
from bleep_sc.tl._trust.depth import Depths, as_they_are, differences, like_query, thinned_to
from bleep_sc.tl._trust.spots import HeldOutSpots
from bleep_sc.tl._trust.tables import gene_blocks, widths_of

Depth = int | Literal["query"] | None

_FEWEST_IN_REGION = 5
"""Fewest spots of a region whose mean is looked at."""
_LEAST_SHARED = 0.9
"""Least share of the reference's counts in genes that the query has; below it, totals are of other genes."""
_MANY_TOO_DEEP = 0.25
"""Share of the calibration spots; above it, a query is called deeper than they are."""


@dataclass(frozen=True)
class Columns:
    """The genes that bounds are made for."""

    of_query: np.ndarray
    """Their columns in the query (n,)."""
    of_table: np.ndarray
    """Their columns in the tables of the calibration (n,)."""


def asked_genes(query: AnnData, calibration: Calibration, genes: list[str] | None) -> Columns:
    """Find the genes that the user asks for, or all that query and calibration share."""
    names, table = as_text(query.var_names), pd.Index(calibration.genes)
    if genes is None:
        of_query = np.flatnonzero(table.get_indexer(names) >= 0)
        if not len(of_query):
            msg = (
                f"`query` shares none of the {len(table)} genes that are calibrated, such as {table[0]!r}: its "
                f"`var_names` are spelt differently, such as {names[0]!r}."
            )
            raise ValueError(msg)
        return Columns(of_query, table.get_indexer(names[of_query]))
    of_query, of_table = names.get_indexer(genes), table.get_indexer(genes)
    if (of_query < 0).any():
        check_in("query.var_names", genes[int(np.argmax(of_query < 0))], names)
    if (of_table < 0).any():
        msg = (
            f"the gene {genes[int(np.argmax(of_table < 0))]!r} is not calibrated: the model does not predict it, or "
            "the reference has no counts of it."
        )
        raise MissingKeyError(msg)
    return Columns(of_query, of_table)


def half_widths_of(
    query: AnnData, calibrated: Calibrated, columns: Columns, *, level: float, depth: Depth, target: str
) -> np.ndarray:
    """Find the half-width of each gene, float64 (n_genes,)."""
    calibration = calibrated.calibration
    if target == "rate":
        spread = calibration.rate_sd[columns.of_table].astype(np.float64)
        return np.asarray(norm.ppf((1 + level) / 2) * spread)
    row = None if depth == "query" else nearest(calibration.depths, depth or 0)
    column = nearest(calibration.levels, level)
    if row is not None and column is not None:
        return calibration.half_width[row, column, columns.of_table].astype(np.float64)
    spots = calibrated.spots(f"`level={level:g}` with `depth={depth!r}`")
    at_depth = _depths(query, spots, depth)
    of_spots = _in_spots(spots, calibration, columns)
    out = np.empty(len(of_spots))
    for block in gene_blocks(len(spots.rows), len(of_spots)):
        found = differences(spots, spots.predict(of_spots[block]), of_spots[block], at_depth, seed=_seed(calibration))
        out[block] = widths_of(spots, np.abs(found), at_depth, [level])[0]
    return out


def bounds_of_spots(query: AnnData, layer: str, columns: Columns, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make the bounds of each spot (n_obs, n_genes)."""
    return _bounds(_imputed(query, layer, columns), widths)


def bounds_of_regions(
    query: AnnData, calibrated: Calibrated, columns: Columns, *, level: float, depth: Depth, groupby: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make the bounds of the mean of each region, from the errors of region means in the reference."""
    ref, calibration = calibrated.ref, calibrated.calibration
    for name, adata in (("query", query), ("ref", ref)):
        check_in(f"{name}.obs", groupby, adata.obs.columns, remedy="`groupby` is a column of both.")
    spots = calibrated.spots(f"`groupby={groupby!r}`")
    at_depth = _depths(query, spots, depth)
    regions = np.asarray(section_of_spots(ref, groupby, name="ref"), dtype=str)[spots.rows][at_depth.rows]
    sections = spots.labels.sections.astype(str)[at_depth.rows]
    pairs = np.unique(np.stack([sections, regions], axis=1), axis=0, return_inverse=True)[1].ravel()
    regions_of_sections = (np.flatnonzero(pairs == pair) for pair in np.unique(pairs))
    members = [rows for rows in regions_of_sections if len(rows) >= _FEWEST_IN_REGION]
    group = spots.group[at_depth.rows]
    of_regions = np.array([group[rows[0]] for rows in members], dtype=np.int64)
    _check_enough_regions(of_regions, spots, level=level, groupby=groupby)
    of_spots = _in_spots(spots, calibration, columns)
    widths = np.empty(len(of_spots))
    for block in gene_blocks(len(spots.rows), len(of_spots)):
        found = differences(spots, spots.predict(of_spots[block]), of_spots[block], at_depth, seed=_seed(calibration))
        means = np.stack([found[:, rows].mean(axis=1) for rows in members], axis=1)
        as_regions = Depths(np.array([at_depth.rows[rows[0]] for rows in members]), np.ones(len(members)))
        widths[block] = widths_of(spots, np.abs(means), as_regions, [level])[0]
    imputed = _imputed(query, calibrated.layer, columns)
    index, means = _region_means(query, calibrated, imputed, groupby)
    announce(calibration.promise, level=level, depth=depth, target="measured", widths=widths)
    names = query.var_names[columns.of_query]
    lower, upper = (pd.DataFrame(values, index=index, columns=names) for values in _bounds(means, widths))
    return lower, upper


def _check_enough_regions(of_regions: np.ndarray, spots: HeldOutSpots, *, level: float, groupby: str) -> None:
    """Refuse regions of which so few were held out that no bound could be promised."""
    needed = int(np.ceil(level / (1 - level) - 1e-9))
    numbers = np.bincount(of_regions, minlength=len(spots.group_names))
    least = int(numbers.sum() if spots.joint else numbers.min())
    if least < needed:
        where = "the reference" if spots.joint else f"the patient {str(spots.group_names[numbers.argmin()])!r}"
        msg = (
            f"`groupby={groupby!r}`: {where} has {least} regions of {_FEWEST_IN_REGION} or more spots, counted section "
            f"by section, and a level of {level:g} needs {needed}. Take a lower `level`, or finer regions."
        )
        raise ValueError(msg)


def _region_means(
    query: AnnData, calibrated: Calibrated, imputed: np.ndarray, groupby: str
) -> tuple[pd.Index, np.ndarray]:
    """Average imputed values over each region (n_regions, n_genes), section by section where there are several."""
    regions = np.asarray(section_of_spots(query, groupby, name="query"), dtype=str)
    as_written = dict(zip(regions, query.obs[groupby], strict=True))
    library_key = calibrated.stored.config.library_key
    sections = section_of_spots(query, library_key, name="query") if library_key in query.obs else None
    several = sections is not None and len(set(sections)) > 1
    labels, means = [], []
    for section, rows in section_rows(sections if several else None, query.n_obs):
        for region, within in section_rows(regions[rows], len(rows)):
            labels.append((section, as_written[region]))
            means.append(imputed[rows[within]].mean(axis=0))
    if several:
        return pd.MultiIndex.from_tuples(labels, names=[library_key, groupby]), np.stack(means)
    return pd.Index([region for _, region in labels], name=groupby), np.stack(means)


def _depths(query: AnnData, spots: HeldOutSpots, depth: Depth) -> Depths:
    if depth is None:
        return as_they_are(spots)
    totals = spots.measured.totals
    if depth != "query":
        at_depth = thinned_to(spots, depth)
        if len(at_depth.rows) < len(totals):
            logger.info(
                "`depth=%d`: %d of %d calibration spots have fewer counts and are left out.",
                depth,
                len(totals) - len(at_depth.rows),
                len(totals),
            )
        if not len(at_depth.rows):
            msg = f"`depth={depth}`: no calibration spot has so many counts; the deepest has {totals.max():.0f}."
            raise ValueError(msg)
        return at_depth
    if _keys.COUNTS not in query.layers:
        msg = (
            f"`depth='query'` takes the depths of the query's own spots, but `query.layers[{_keys.COUNTS!r}]` does not "
            "exist. Pass a number, the total counts that you would sequence a spot to, or None for the reference's."
        )
        raise MissingKeyError(msg)
    wanted = _query_depths(query, spots)
    at_depth = like_query(spots, wanted)
    if at_depth.too_shallow > _MANY_TOO_DEEP:
        warn(
            f"`query` is sequenced deeper than the reference: median {np.median(wanted):.0f} counts a spot, against "
            f"{np.median(totals):.0f}. Counts can be thinned, not added, so {at_depth.too_shallow:.0%} of the "
            "calibration spots stay shallower than the query's, and genes of few counts are covered less than the "
            "level says."
        )
    return at_depth


def _query_depths(query: AnnData, spots: HeldOutSpots) -> np.ndarray:
    """Count the query's molecules of the reference's genes, spot by spot; spots without any are left out."""
    measured = spots.measured
    in_query = pd.Index(measured.genes).isin(as_text(query.var_names))
    share = float(measured.counts[:, np.flatnonzero(in_query)].sum() / measured.totals.sum())
    if share < _LEAST_SHARED:
        msg = (
            f"`depth='query'`: `query` has {in_query.sum()} of the reference's {len(in_query)} genes, which make "
            f"{share:.0%} of its counts, so that their totals are no measure of how deep the query was sequenced. Pass "
            "the query with all of its genes (`genes=` chooses those that you want), or a number as `depth`."
        )
        raise ValueError(msg)
    counts = count_values(query, _keys.COUNTS, name="query")[:, as_text(query.var_names).isin(measured.genes)]
    wanted = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    if not wanted.any():
        msg = f"`depth='query'`: `query.layers[{_keys.COUNTS!r}]` holds no counts at all. Pass a number as `depth`."
        raise ValueError(msg)
    if (wanted == 0).any():
        logger.info("`depth='query'`: %d spots without counts are left out.", (wanted == 0).sum())
    return wanted[wanted > 0]


def _in_spots(spots: HeldOutSpots, calibration: Calibration, columns: Columns) -> np.ndarray:
    """Find genes of the tables among those of the held-out spots."""
    found = pd.Index(spots.measured.genes).get_indexer(calibration.genes[columns.of_table])
    if (found < 0).any():
        gene = calibration.genes[columns.of_table][found < 0][0]
        msg = f"`ref` lacks the gene {gene!r}, which is calibrated. Calibrate again: `bleep_sc.tl.calibrate(ref)`."
        raise ValueError(msg)
    return np.asarray(found)


def _imputed(query: AnnData, layer: str, columns: Columns) -> np.ndarray:
    values: Any = query.layers[layer]
    values = values[:, columns.of_query]
    return np.asarray(values.compute() if hasattr(values, "compute") else values, dtype=np.float32)


def _bounds(values: np.ndarray, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    width = widths.astype(np.float32)
    return np.maximum(values - width, 0), values + width


def _seed(calibration: Calibration) -> int:
    return calibration.promise.seed
