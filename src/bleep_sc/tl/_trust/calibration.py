"""Puts a calibration together, and says in print what it promises and what it does not."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from anndata import AnnData

from bleep_sc._logging import logger, warn
from bleep_sc.io._calibration import CALIBRATION, Calibration, Promise
from bleep_sc.io._stored import StoredModel
from bleep_sc.tl._trust.spots import HeldOutSpots
from bleep_sc.tl._trust.tables import TOP_TENTH, tabulate

_MOST_IN_PANEL = 2000
_LEVEL_TO_REPORT = 0.9
_NOTHING_IS_SURE: Mapping[str, str] = {
    "within-patient": "One patient says nothing sure of another.",
    "patients unknown": "Nothing is sure for another patient, since no column tells the patients of these sections. If "
    "`obs` has one, name it by `patient_key` of `bleep_sc.tl.fit`.",
}
"""What is said of each scope in which several patients are not known."""


def calibration_of(
    ref: AnnData,
    spots: HeldOutSpots,
    stored: StoredModel,
    predictor: dict[str, Any],
    *,
    levels: Sequence[float],
    cross_fit: bool,
    seed: int,
    progress_bar: bool | None,
) -> Calibration:
    """Make the tables of all genes, with the record of what they rest on."""
    tables = tabulate(spots, levels, _panel(spots, stored), seed=seed, progress_bar=progress_bar)
    totals = spots.measured.totals
    promise = Promise(
        group_key=spots.labels.patient_key if not spots.joint else stored.config.library_key,
        scope=spots.labels.scope,
        groups=spots.group_names.tolist(),
        predictor=predictor,
        target_sum=spots.measured.target_sum,
        lowest_depth=float(totals.min()),
        median_depth=float(np.median(totals)),
        highest_depth=float(totals.max()),
        n_left_out=ref.n_obs - len(spots.rows),
        seed=seed,
        model_sha256=stored.sha256,
        n_reference=ref.n_obs,
        cross_fit=cross_fit,
        trained_on=spots.trained_on,
        coverage=tables.coverage,
    )
    return Calibration(
        spots.measured.genes,
        tables.half_width,
        np.array(tables.depths, dtype=np.float64),
        np.array(levels, dtype=np.float64),
        tables.n_spots.astype(np.int64),
        tables.rate_sd,
        promise,
    )


def _panel(spots: HeldOutSpots, stored: StoredModel) -> np.ndarray:
    """Choose the genes whose coverage is counted: those that were learned from, else the highest; bool (n_genes,)."""
    learned = np.isin(spots.measured.genes, stored.genes)
    if 0 < learned.sum() <= _MOST_IN_PANEL:
        return learned
    total = np.asarray(spots.measured.counts.sum(axis=0)).ravel()
    total = np.where(learned, total, -1) if learned.any() else total
    highest = np.zeros(len(total), dtype=bool)
    highest[np.argsort(-total, kind="stable")[:_MOST_IN_PANEL]] = True
    return highest


def replaced(entry: Mapping[str, Any], predictor: Mapping[str, Any], *, where: str) -> str:
    """Name the predictor of an earlier calibration, such as ``predict='hybrid'``; empty where it is the same, or none.

    An earlier calibration that is damaged bounds nothing, so nobody misses it.
    """
    if CALIBRATION not in entry:
        return ""
    try:
        earlier = Calibration.from_bytes(entry[CALIBRATION], where=where).promise.predictor
    except ValueError:
        return ""
    return ", ".join(f"{name}={value!r}" for name, value in earlier.items() if predictor.get(name) != value)


def report(promise: Promise, *, replaces: str) -> None:
    """Log what was found, what cannot be promised, and which predictor's calibration it replaces."""
    table = promise.coverage_table()
    level = min(table["level"].unique(), key=lambda known: abs(known - _LEVEL_TO_REPORT))
    at_level = table[table["level"] == level]
    mean = at_level.groupby("panel")["coverage"].mean()
    logger.info(
        "Calibrated %s. Intervals at %.0f %% that were made from the other %s covered %.0f %% of the measured values, "
        "%.0f %% of those of the highest genes, but %.0f %% of each gene's own top tenth: high values are missed more "
        "often. %s",
        promise.in_words,
        100 * level,
        "sections" if promise.joint else "patients",
        100 * mean["all"],
        100 * mean["HEG"],
        100 * mean.get(TOP_TENTH, np.nan),
        what_is_sure(promise, level),
    )
    if replaces:
        logger.info(
            "This replaces the calibration of %s. `intervals` now refuses layers that were imputed with it.", replaces
        )
    if promise.trained_on is not None:
        logger.info("Each fold was trained on %d of its spots, the full model on all.", promise.trained_on)


def what_is_sure(promise: Promise, level: float) -> str:
    """Say which level is sure for a new patient."""
    guaranteed = promise.guaranteed(level)
    if guaranteed is None:
        return _NOTHING_IS_SURE.get(promise.scope, _NOTHING_IS_SURE["patients unknown"])
    return (
        f"What {len(promise.groups)} patients guarantee for a new one is {100 * guaranteed:.1f} %, if patients are "
        "exchangeable; the rest is empirical."
    )


def announce(
    promise: Promise, *, level: float, depth: int | str | None, target: str, widths: np.ndarray
) -> dict[str, Any]:
    """Say what bounds promise, and return the record of it that `uns` keeps."""
    guaranteed = promise.guaranteed(level)
    table = promise.coverage_table()
    found = table[np.isclose(table["level"], level) & (table["panel"] == "all")]["coverage"]
    empirical = float(found.mean()) if len(found) and depth is None and target == "measured" else np.nan
    as_they_are = f"of {promise.lowest_depth:.0f} to {promise.highest_depth:.0f} counts, as the reference's are"
    known: dict[int | str | None, str] = {None: as_they_are, "query": "as deep as the query's"}
    if target == "rate":
        logger.info("%.0f %% intervals of the true expression, without count noise: approximate.", 100 * level)
    else:
        logger.info(
            "%.0f %% intervals of values measured in spots %s.%s %s",
            100 * level,
            known.get(depth, f"of {depth} counts"),
            "" if np.isnan(empirical) else f" On held-out tissue {100 * empirical:.0f} % lay within.",
            what_is_sure(promise, level),
        )
    if not np.isfinite(widths).all():
        warn(
            f"nothing can be promised for {(~np.isfinite(widths)).sum()} of {len(widths)} genes at a level of "
            f"{level:g}: the calibration has too few spots, in all or of one patient. Their upper bound is infinity. "
            "Take a lower `level`, or a lower `depth`."
        )
    return {
        "level": level,
        "guaranteed_level": np.nan if guaranteed is None or target == "rate" else guaranteed,
        "empirical": empirical,
        "scope": promise.in_words,
        "depth": "reference" if depth is None else str(depth),
        "target": target,
    }
