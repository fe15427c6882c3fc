"""What a larger reference would gain, as far as a learning curve tells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bleep_sc._logging import warn
from bleep_sc.metrics.bootstrap import bootstrap_mean
from bleep_sc.metrics.summary import for_uns, interval_unit
from bleep_sc.tl._study._curve.by import By
from bleep_sc.tl._study._curve.law import FEWEST_SIZES, PowerLaw, fit_power_law, widened

LITTLE = 0.01
"""A difference between scores that is called little, and a law that is off by more is not trusted."""
_SHOWN = 0.001
"""The least gain that is shown as one."""
CANNOT_TELL = "cannot be told"
_NOTHING = float("nan")
_LAW_POINTS = 25


@dataclass(frozen=True)
class Curves:
    """The curve of one panel and metric, by unit of the interval."""

    sizes: np.ndarray
    mean: np.ndarray
    """Mean over sections, then patients (n_sizes,)."""
    drawn: np.ndarray | None
    """Bootstrap draws of it over units, the same units at all sizes (n_draws, n_sizes); None where units are few."""
    group_sizes: tuple[int, ...]
    """Numbers of units that are redrawn among each other."""
    over: str
    """What the units are; empty where there are too few."""

    @classmethod
    def of(cls, table: pd.DataFrame, *, n_bootstrap: int, random_state: int) -> "Curves":
        """Make the curves from scores by ``size``, ``section`` and ``patient``, already averaged over draws."""
        wide = table.pivot(index=["patient", "section"], columns="size", values="value").dropna()
        patients = wide.index.get_level_values("patient").to_numpy()
        by_patient = [wide.to_numpy()[patients == patient] for patient in dict.fromkeys(patients)]
        sizes = wide.columns.to_numpy(dtype=np.float64)
        if not by_patient:
            return cls(sizes, np.full(len(sizes), np.nan), None, (), "")
        mean = np.mean([rows.mean(axis=0) for rows in by_patient], axis=0)
        unit = interval_unit(list(patients))
        if unit == "spots" or n_bootstrap == 0:
            return cls(sizes, mean, None, (), "")
        groups = [np.array([rows.mean(axis=0) for rows in by_patient])] if unit == "patients" else by_patient
        drawn = [
            bootstrap_mean(
                [group[:, at] for group in groups], n_draws=n_bootstrap, rng=np.random.default_rng(random_state)
            )
            for at in range(len(sizes))
        ]
        return cls(sizes, mean, np.column_stack(drawn), tuple(map(len, groups)), unit)


def questions(by: By, n_units: int) -> dict[str, tuple[int, int]]:
    """List what is asked of a curve, each with the size that there is and the size that there would be."""
    doubled = {f"twice the {by}": (n_units, 2 * n_units)}
    return doubled if by == "spots" else {f"one more {by[:-1]}": (n_units, n_units + 1), **doubled}


def forecast(
    scores: pd.DataFrame, *, by: By, n_units: int, n_bootstrap: int, random_state: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Answer the questions for each panel and metric, and give the fitted laws at sizes to draw them at."""
    answers, laws = [], []
    for (panel, metric), table in scores.groupby(["panel", "metric"], sort=False):
        named = {"panel": panel, "metric": metric}
        curves = Curves.of(table, n_bootstrap=n_bootstrap, random_state=random_state)
        law = None
        if len(curves.sizes) >= FEWEST_SIZES and np.isfinite(curves.mean).all():
            law = fit_power_law(curves.sizes, curves.mean)
            grid = np.geomspace(curves.sizes[0], 2 * n_units, _LAW_POINTS)
            laws += [
                {**named, "size": float(size), "value": float(value)}
                for size, value in zip(grid, law.at(grid)[0], strict=True)
            ]
        check = _hindsight(curves)
        for question, (start, end) in questions(by, n_units).items():
            asked = {**named, "question": question, "size_from": start, "size_to": end}
            answers.append({**asked, **_answer(curves, law, check, start=start, end=end, by=by), **check})
    columns = ["panel", "metric", "size", "value"]
    return for_uns(pd.DataFrame(answers)), for_uns(pd.DataFrame(laws, columns=columns))


def _hindsight(curves: Curves) -> dict[str, float]:
    """Fit the law without the largest size, and say by how much it misses the gain that was measured there."""
    missed = dict.fromkeys(("off_by", "off_by_low", "off_by_high"), _NOTHING)
    if len(curves.sizes) < FEWEST_SIZES or not np.isfinite(curves.mean).all():
        return missed

    def off(curve: np.ndarray) -> np.ndarray:
        law = fit_power_law(curves.sizes[:-1], curve[:, :-1])
        return np.asarray(law.gain(curves.sizes[-2], curves.sizes[-1]) - (curve[:, -1] - curve[:, -2]))

    value = float(off(curves.mean[None])[0])
    ends = (_NOTHING, _NOTHING) if curves.drawn is None else widened(off(curves.drawn), value, curves.group_sizes)
    return dict(zip(missed, (value, *ends), strict=True))


def _missed(curves: Curves, check: Mapping[str, float]) -> float:
    """Give by how much the law may miss a gain, as far as the last step tells, by the logarithm of the step.

    A law that bends early has a narrow interval whatever the noise at the largest sizes, so this is added to it.
    """
    step = np.log(curves.sizes[-1] / curves.sizes[-2])
    return max(abs(check["off_by_low"]), abs(check["off_by_high"])) / float(step)


def _answer(
    curves: Curves, law: PowerLaw | None, check: Mapping[str, float], *, start: int, end: int, by: By
) -> dict[str, Any]:
    """Answer one question in numbers and in words."""
    gain = low = high = exponent = _NOTHING
    if law is not None:
        gain, exponent = float(law.gain(start, end)[0]), float(law.exponent[0])
        if curves.drawn is not None:
            drawn = fit_power_law(curves.sizes, curves.drawn).gain(start, end)
            low, high = widened(drawn, gain, curves.group_sizes)
            missed = _missed(curves, check) * np.log(end / start)
            low, high = gain - np.hypot(gain - low, missed), gain + np.hypot(high - gain, missed)
    verdict, words = _in_words(curves, law, check, low=low, high=high, by=by)
    if not words:
        words = f"{_signed(gain, low, high)} [{_signed(low, low, high)}, {_signed(high, low, high)}]"
    return {
        "gain": gain,
        "low": low,
        "high": high,
        "interval_over": curves.over,
        "exponent": exponent,
        "verdict": verdict,
        "answer": f"{verdict}: {words}",
    }


def _in_words(
    curves: Curves, law: PowerLaw | None, check: Mapping[str, float], *, low: float, high: float, by: By
) -> tuple[str, str]:
    """Give the verdict, and the reason where nothing can be told."""
    if law is None:
        return CANNOT_TELL, (
            f"a power law needs scores at {FEWEST_SIZES} or more numbers of {by}, found {len(curves.sizes)}"
        )
    if curves.drawn is None:
        return CANNOT_TELL, "an interval needs three patients, or three sections of each"
    if abs(check["off_by"]) > LITTLE and check["off_by_low"] * check["off_by_high"] > 0:
        return CANNOT_TELL, (
            f"the curve follows no power law, which without the largest size misses it by {check['off_by']:+.2f}"
        )
    if high < LITTLE:
        return "little or nothing", ""
    if round(low, 3) >= _SHOWN:
        return "gain", ""
    return CANNOT_TELL, (
        f"anything from {_signed(low, low, high)} to {_signed(high, low, high)} fits these {sum(curves.group_sizes)} "
        f"{curves.over}"
    )


def _signed(value: float, low: float, high: float) -> str:
    """Write a difference with no more digits than its interval carries."""
    fine = high - low < 4 * LITTLE or abs(low) < LITTLE / 2  # an end that is not 0 must not be written so
    return f"{value:+.{3 if fine else 2}f}"


def warn_of_what_cannot_be_told(answers: pd.DataFrame, *, metric: str, by: By) -> None:
    """Warn once of the questions that the lead metric leaves open, with the reasons."""
    open_ones = answers[(answers["metric"] == metric) & (answers["verdict"] == CANNOT_TELL)]
    if open_ones.empty:
        return
    lines = [
        f"{question!r} in {', '.join(map(repr, rows['panel']))}: {reason}"
        for (question, reason), rows in open_ones.groupby(["question", "answer"], sort=False)
    ]
    more = "more patients or sections to score on" if by == "spots" else f"more {by}"
    warn(
        f"this learning curve leaves open what a larger reference gains ({metric}). " + "; ".join(lines) + ". What "
        f"helps is {more}: draws and spots of the same tissue do not."
    )


def verdict_lines(answers: pd.DataFrame, metric: str) -> Sequence[str]:
    """List the answers of a metric, one line a panel and question."""
    rows = answers[answers["metric"] == metric]
    return [
        f"{row.question} ({row.size_from} to {row.size_to}), {row.panel}: {row.answer}" for row in rows.itertuples()
    ]
