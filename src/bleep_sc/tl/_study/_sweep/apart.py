"""Tells settings apart: how far each falls short of what the folds chose, with intervals for all at once."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bleep_sc.metrics.summary import interval_unit

_LEVEL = 0.95
_N_DRAWS = 2000
_TINY = 1e-12
_FEWEST = 4
"""The fewest units of which a bootstrap shows how columns go together."""


def differences(table: pd.DataFrame, *, random_state: int) -> tuple[pd.DataFrame, str]:
    """Compare the fold-chosen settings with each setting on the same sections, by one score.

    Parameters
    ----------
    table
        Rows of one panel and metric: ``setting``, ``section``, ``patient``, ``value`` and ``chosen``.
    random_state
        Seed of the draws.

    Returns
    -------
    By setting, the mean of chosen minus setting with ``low`` and ``high``, NaN where no interval can be given; and what
    the intervals are over, empty for nothing.
    """
    values = table.set_index(["patient", "section", "setting"])["value"].unstack("setting")
    chosen = table[table["chosen"]].set_index(["patient", "section"])["value"].reindex(values.index)
    missing = (-values).add(chosen, axis=0)
    patients = list(missing.index.get_level_values("patient"))
    unit = interval_unit(patients)
    groups = [part.to_numpy() for _, part in missing.groupby(level="patient", sort=False)]
    if unit != "sections":  # else redrawn within each patient
        groups = [np.array([part.mean(axis=0) for part in groups])]
    mean = np.mean([part.mean(axis=0) for part in groups], axis=0)
    half = np.full(len(mean), np.nan)
    if unit != "spots":
        half = half_widths(groups, rng=np.random.default_rng(random_state))
    found = pd.DataFrame({"difference": mean, "low": mean - half, "high": mean + half}, index=missing.columns)
    return found, "" if unit == "spots" else unit


def half_widths(groups: Sequence[np.ndarray], *, rng: np.random.Generator) -> np.ndarray:
    """Compute half the width of the interval of each column's mean, wide enough to hold all means at once.

    A bootstrap of units says how many standard errors the farthest of all columns strays. Of very few units none can:
    then the columns are taken for independent. That quantile of a normal becomes the one of Student's t at the same
    level.

    Parameters
    ----------
    groups
        Values (n_units, n_columns) of each group; the mean is over the groups' means.
    rng
        Source of the draws.
    """
    from scipy.stats import norm, t

    variance = np.mean([part.var(axis=0, ddof=1) / len(part) for part in groups], axis=0) / len(groups)
    error = np.sqrt(variance)
    drawn = np.zeros((_N_DRAWS, groups[0].shape[1]))
    for part in groups:
        n = len(part)
        weights = rng.multinomial(n, np.full(n, 1 / n), size=_N_DRAWS) / n
        # a bootstrap of n units spreads less than they do, by (n - 1) / n
        drawn += weights @ (part - part.mean(axis=0)) * np.sqrt(n / (n - 1)) / len(groups)
    strays = np.divide(np.abs(drawn), error, out=np.zeros_like(drawn), where=error > _TINY)
    farthest = np.quantile(strays.max(axis=1), _LEVEL)
    freedom = sum(len(part) - 1 for part in groups)
    if min(map(len, groups)) < _FEWEST:
        farthest = norm.isf((1 - _LEVEL ** (1 / len(error))) / 2)
    return np.asarray(t.isf(norm.sf(farthest), freedom) * error)


def in_words(found: pd.DataFrame, names: Sequence[str], over: str, *, metric: str, panel: str) -> str:
    """Say whether the data can tell the settings apart."""
    score = f"{metric} of {panel!r}"
    if not over:
        return (
            "Cannot be told from this data: fewer than three patients, and not three sections of each, give no "
            f"interval for differences in {score}."
        )
    apart = (found["low"] > 0) | (found["high"] < 0)
    if not apart.any():
        return (
            f"Cannot be told from this data: no setting differs in {score} from what the folds chose by more than the "
            f"intervals over {over}."
        )
    farthest = found["difference"].where(apart).abs().idxmax()
    at = list(found.index).index(farthest)
    return (
        f"{int(apart.sum())} of {len(found)} settings differ in {score} from what the folds chose by more than the "
        f"intervals over {over}. The farthest is {names[at]} ({-found.loc[farthest, 'difference']:+.3f}). The others "
        "cannot be told apart."
    )
