import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc._adata import check_readable
from bleep_sc._checks import check_choice, check_in, check_key, check_number, check_share
from bleep_sc._logging import warn
from bleep_sc.models.threads import on_allowed_cores

_MOST_APART = 10
"""From so many times more patients at one end than at the other, a range says nothing."""
_MOST_PATIENTS = 100_000


@on_allowed_cores()
def plan(
    adata: AnnData,
    width: float,
    *,
    key: str = "learning_curve",
    metric: str = "pearson",
    certainty: float = 0.9,
) -> pd.DataFrame:
    """Estimate how many patients a study needs for an interval of a given width around its mean score.

    The scores of the patients in a learning curve show how much patients differ. From this follows how many patients a
    precise mean needs. A few patients give only a rough idea of the spread. So the answer is a range, and often a wide
    one.

    Parameters
    ----------
    adata
        Spots with a learning curve (:func:`~bleep_sc.tl.learning_curve`) in which patients were held out.
    width
        Largest width of the 95 % interval of the mean score, from end to end, such as 0.05.
    key
        Key of the learning curve in `adata.uns`.
    metric
        The score, such as ``"pearson"``.
    certainty
        Share of such studies in which the upper number of patients is enough; 0.5 or more.

    Returns
    -------
    A table with a row for each panel. Its columns are:

    - ``panel``, ``metric`` and ``mean``.
    - ``spread``: the standard deviation between patients, at the largest size.
    - ``n_patients``: the number of patients at hand.
    - ``width``: the width of their Student's interval.
    - ``fewest``, ``guess`` and ``enough``: the number of patients that a study needs. They assume the smallest
      plausible spread, the spread that was found, and the largest plausible spread. NaN if nothing can be said.
    - ``answer``: the same in words.

    Raises
    ------
    KeyError
        No learning curve at `key`.
    ValueError
        The patients are not known, or one was on both sides of a fold; a width or metric that is not possible.

    Notes
    -----
    The interval is Student's, ``mean ± t * spread / sqrt(n)``. The chi-square distribution says how precisely K
    patients determine the spread. With ten patients and a `certainty` of 0.9, the number of patients is known to within
    .6 to 2.2 times. All numbers are rounded to one digit. If they are a factor of ten apart (four patients or fewer),
    nothing can be said, and a warning says so.

    Three things are assumed. New patients are drawn like those of `adata`. Their scores are roughly normal. Their
    spread stays the same when the reference grows. A learning curve with ``by="patients"`` shows how much the score
    itself gains from more patients.

    Examples
    --------
    >>> bl.tl.learning_curve(adata, by="patients")  # doctest: +SKIP
    >>> bl.tl.plan(adata, 0.05)  # doctest: +SKIP
    """
    check_readable(adata)
    width = check_number("width", width, above=0)
    check_key("key", key)
    if check_share("certainty", certainty) < 0.5:
        msg = (
            f"`certainty` must be from 0.5 to below 1, such as 0.9: {certainty!r} makes the upper number the lower one."
        )
        raise ValueError(msg)
    scores = _stored_scores(adata, key)
    check_choice("metric", metric, scores["metric"].unique())
    scores = scores[(scores["metric"] == metric) & (scores["size"] == scores["size"].max())]
    rows = [_planned(panel, metric, own, width, certainty) for panel, own in scores.groupby("panel", sort=False)]
    table = pd.DataFrame(rows, index=pd.RangeIndex(len(rows)).astype(str))
    if table["enough"].isna().any():
        unknown = table[table["enough"].isna()]
        warn(f"{', '.join(map(repr, unknown['panel']))}: {unknown['answer'].iloc[0]}")
    return table


def _stored_scores(adata: AnnData, key: str) -> pd.DataFrame:
    """Read the scores of a learning curve that holds patients out."""
    writer = "`bleep_sc.tl.learning_curve` writes it."
    check_in("adata.uns", key, adata.uns.keys(), remedy=writer)
    entry = adata.uns[key]
    table = entry.get("scores") if isinstance(entry, Mapping) else None
    needed = {"size", "section", "patient", "panel", "metric", "value", "scope"}
    if not isinstance(table, pd.DataFrame) or not needed <= set(table) or table.empty:
        msg = f"`adata.uns[{key!r}]['scores']` is no table of a learning curve. {writer}"
        raise ValueError(msg)
    scope = str(table["scope"].iloc[0])
    if scope != "across patients":
        msg = (
            f"the scores of `adata.uns[{key!r}]` do not tell how patients differ: their scope is {scope!r}. Hold whole "
            "patients out: `bleep_sc.tl.learning_curve(adata, group_key='patient')`."
        )
        raise ValueError(msg)
    return table


def _planned(panel: str, metric: str, scores: pd.DataFrame, width: float, certainty: float) -> dict[str, Any]:
    from scipy.stats import chi2

    by_patient = scores.groupby(["patient", "section"])["value"].mean().groupby("patient").mean().dropna()
    n = len(by_patient)
    row: dict[str, Any] = {"panel": panel, "metric": metric, "mean": float(by_patient.mean()), "n_patients": n}
    spread = float(by_patient.std(ddof=1)) if n > 1 else float("nan")
    row |= {"spread": spread, "width": _width(spread, n) if n > 1 else float("nan")}
    numbers = dict.fromkeys(("fewest", "guess", "enough"), float("nan"))
    if n > 1 and spread > 0:
        least, most = (spread * np.sqrt((n - 1) / chi2.ppf(share, n - 1)) for share in (certainty, 1 - certainty))
        guess = _patients(spread, width)
        if guess is None:
            msg = (
                f"`width={width:g}` would take more than {_MOST_PATIENTS:,} patients, whose scores spread by "
                f"{spread:.2g}: ask for less."
            )
            raise ValueError(msg)
        # of few patients and a low certainty the least spread may lie above the one that was found
        low, high = _patients(min(least, spread), width), _patients(most, width)
        if low is not None and high is not None and (high < _MOST_APART * low or high <= _FEWEST):
            numbers = {"fewest": _one_digit(low, -1), "guess": _one_digit(guess, 0), "enough": _one_digit(high, 1)}
    if np.isnan(numbers["enough"]):
        words = f"cannot be told from {n} patient{'s' * (n != 1)}: their spread is known too badly"
    else:
        words = f"{numbers['guess']:g} patients ({numbers['fewest']:g} to {numbers['enough']:g})"
    return {**row, **numbers, "answer": words}


_FEWEST = 3
"""The fewest patients that an interval is given over."""


def _width(spread: float, n: int) -> float:
    """Compute the width of Student's 95 % interval of the mean of n patients."""
    from scipy.stats import t

    return float(2 * t.ppf(0.975, n - 1) * spread / math.sqrt(n))


def _patients(spread: float, width: float) -> int | None:
    """Find the fewest patients of this spread with an interval of at most this width; None where they are too many."""
    low, high = _FEWEST - 1, _FEWEST
    while _width(spread, high) > width:
        low, high = high, 2 * high
        if high > _MOST_PATIENTS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _width(spread, middle) > width else (low, middle)
    return high


def _one_digit(number: int, direction: int) -> float:
    """Round a number of patients to one digit: down, to the nearest or up."""
    unit = 10 ** (len(str(number)) - 1)
    digit = number / unit
    return float(unit * (math.floor(digit) if direction < 0 else math.ceil(digit) if direction > 0 else round(digit)))
