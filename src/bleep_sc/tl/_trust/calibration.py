"""Puts a calibration together, and says in print what it promises and what it does not."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from anndata import AnnData

from bleep_sc._logging import logger, warn
from bleep_sc.io._calibration import Calibration, Promise, scope_in_words
from bleep_sc.io._stored import StoredModel
from bleep_sc.tl._trust.spots import HeldOutSpots
from bleep_sc.tl._trust.tables import TOP_TENTH, tabulate

_MOST_IN_PANEL = 2000
_LEVEL_TO_REPORT = 0.9


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


def report(promise: Promise) -> None:
    """Log what was found, and what cannot be promised."""
    table = promise.coverage_table()
    level = min(table["level"].unique(), key=lambda known: abs(known - _LEVEL_TO_REPORT))
    at_level = table[table["level"] == level]
    mean = at_level.groupby("panel")["coverage"].mean()
    logger.info(
        "Calibrated %s. Intervals at %.0f %% that were made from the other %s covered %.0f %% of the measured values, "
        "%.0f %% of those of the highest genes, but %.0f %% of each gene's own top tenth: high values are missed more "
        "often. %s",
        scope_in_words(promise),
        100 * level,
        "sections" if promise.joint else "patients",
        100 * mean["all"],
        100 * mean["HEG"],
        100 * mean.get(TOP_TENTH, np.nan),
        what_is_sure(promise, level),
    )
    if promise.trained_on is not None:
        logger.info("Each fold was trained on %d of its spots, the full model on all.", promise.trained_on)


def what_is_sure(promise: Promise, level: float) -> str:
    """Say which level is sure for a new patient."""
    guaranteed = promise.guaranteed(level)
    if guaranteed is None:
        who = "one patient says" if promise.scope == "within-patient" else "sections of unknown patients say"
        return f"This is {promise.scope}: {who} nothing sure of another."
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
        "scope": scope_in_words(promise),
        "depth": "reference" if depth is None else str(depth),
        "target": target,
    }
