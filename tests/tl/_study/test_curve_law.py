"""A power law is found where there is one, and what the data cannot tell is not told."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from bleep_sc.tl._study._curve.forecast import CANNOT_TELL, forecast, warn_of_what_cannot_be_told
from bleep_sc.tl._study._curve.law import EXPONENTS, fit_power_law, widened

SIZES = [32, 64, 128, 256, 512, 1024]


def scores(curves: np.ndarray, sizes: list[int], patients: list[str] | None = None) -> pd.DataFrame:
    """Scores as they are averaged over draws: a row for each unit and size, each unit a section of its own."""
    patients = patients or [f"p{unit}" for unit in range(len(curves))]
    return pd.DataFrame(
        {"size": size, "section": f"s{unit}", "patient": patients[unit], "panel": "all", "metric": "pearson"}
        | {"value": curves[unit, at]}
        for unit in range(len(curves))
        for at, size in enumerate(sizes)
    )


def asked(curves: np.ndarray, sizes: list[int], **arguments: Any) -> pd.Series:
    patients = arguments.pop("patients", None)
    given = {"by": "spots", "n_units": 2 * sizes[-1], "n_bootstrap": 200, "random_state": 0} | arguments
    answers, _ = forecast(scores(curves, sizes, patients), **given)
    return answers.iloc[0]


@pytest.mark.parametrize("exponent", EXPONENTS[[1, 20, 40]])
def test_a_power_law_is_found_and_goes_on(exponent: float) -> None:
    def law(size: Any) -> Any:
        return 0.6 - 0.9 * np.asarray(size, dtype=float) ** -exponent

    found = fit_power_law(SIZES, law(SIZES))
    assert found.exponent == pytest.approx(exponent)
    np.testing.assert_allclose(found.at([50, 4096])[0], law([50, 4096]), atol=1e-9)
    assert found.gain(1024, 2048)[0] == pytest.approx(law(2048) - law(1024), abs=1e-9)


def test_a_curve_that_gains_the_same_with_each_doubling_is_a_logarithm() -> None:
    found = fit_power_law(SIZES, np.array([0.1 + 0.03 * step for step in range(6)]))
    assert found.exponent == [0]
    assert found.gain(1000, 2000)[0] == pytest.approx(0.03)


def test_several_curves_at_once_are_those_one_by_one() -> None:
    curves = np.random.default_rng(0).uniform(size=(5, 6))
    together = fit_power_law(SIZES, curves)
    for number, curve in enumerate(curves):
        np.testing.assert_allclose(together.at([100, 3000])[number], fit_power_law(SIZES, curve).at([100, 3000])[0])


def test_the_interval_of_few_units_is_students() -> None:
    """Of the mean of five normal numbers, by the formula of the textbooks."""
    values = np.random.default_rng(1).normal(size=5)
    drawn = values[np.random.default_rng(0).integers(5, size=(100_000, 5))].mean(axis=1)
    low, high = widened(drawn, values.mean(), [5])
    half = 2.776 * values.std(ddof=1) / np.sqrt(5)
    assert high - low == pytest.approx(2 * half, rel=0.08)  # percentiles of so few have lighter tails than the normal


@pytest.mark.slow
def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = []
    for _ in range(40):
        level, scale = rng.normal(0.5, 0.05, size=(5, 1)), 0.5 * np.exp(rng.normal(0, 0.2, size=(5, 1)))
        curves = level - scale * np.array(SIZES) ** -0.2 + rng.normal(0, 0.004, size=(5, 6))
        answer = asked(curves, SIZES, n_bootstrap=100)
        truth = 0.5 * np.exp(0.02) * (2048**-0.2 - 4096**-0.2)
        held.append(answer["low"] <= truth <= answer["high"])
    assert np.mean(held) >= 0.85


RISING = 0.5 - 0.6 * np.array(SIZES) ** -0.2 + np.array([[-0.02], [0], [0.01], [0.02]])
FLAT = 0.5 - 0.6 * np.array(SIZES) ** -1.0 + np.array([[-0.02], [0], [0.01], [0.02]])
NOISE = np.random.default_rng(2).normal(0, 0.03, size=(4, 6))
STEP = np.tile([0.1, 0.2, 0.25, 0.275, 0.2875, 0.4], (4, 1)) + np.array([[-0.02], [0], [0.01], [0.02]])
VERDICTS: dict[str, tuple[np.ndarray, list[int], dict[str, Any], str, str]] = {
    "a rise": (RISING, SIZES, {}, "gain", r"^gain: \+0\.0\d+ \[\+0\.0"),
    "flat": (FLAT, SIZES, {}, "little or nothing", "^little or nothing: "),
    "noise": (0.4 + NOISE, SIZES, {}, CANNOT_TELL, r"anything from −?-?0\.\d+ to \+0\.\d+ fits these 4 patients"),
    "three sizes": (RISING[:, :3], SIZES[:3], {}, CANNOT_TELL, "needs scores at 4 or more numbers of spots, found 3"),
    "two patients": (RISING[:2], SIZES, {}, CANNOT_TELL, "three patients, or three sections of each"),
    "two sections of one": (RISING[:2], SIZES, {"patients": ["p", "p"]}, CANNOT_TELL, "three patients, or three"),
    "no bootstrap": (RISING, SIZES, {"n_bootstrap": 0}, CANNOT_TELL, "an interval needs"),
    "no law": (STEP, SIZES, {}, CANNOT_TELL, r"follows no power law, which without the largest size misses it by -0\."),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_what_is_told_and_what_is_not(case: str) -> None:
    curves, sizes, arguments, verdict, words = VERDICTS[case]
    answer = asked(curves, sizes, **arguments)
    assert answer["verdict"] == verdict
    assert pd.Series([answer["answer"]]).str.contains(words).all(), answer["answer"]


def test_sections_of_one_patient_make_an_interval_and_are_called_so() -> None:
    answer = asked(RISING, SIZES, patients=["p"] * 4)
    assert answer["verdict"] == "gain"
    assert answer["interval_over"] == "sections"


def test_sections_are_asked_for_one_more_and_for_twice_as_many() -> None:
    sizes = [1, 2, 3, 4, 6]
    curves = 0.5 - 0.2 * np.array(sizes) ** -0.5 + np.array([[-0.02], [0], [0.02]])
    answers, law = forecast(scores(curves, sizes), by="sections", n_units=8, n_bootstrap=50, random_state=0)
    assert list(answers["question"]) == ["one more section", "twice the sections"]
    assert answers[["size_from", "size_to"]].to_numpy().tolist() == [[8, 9], [8, 16]]
    assert answers["gain"].iloc[0] == pytest.approx(0.2 * (8**-0.5 - 9**-0.5), rel=0.05)
    assert law["size"].iloc[-1] == pytest.approx(16)


def test_one_warning_names_what_is_open_and_why() -> None:
    answers, _ = forecast(scores(RISING[:2], SIZES), by="spots", n_units=2048, n_bootstrap=50, random_state=0)
    with pytest.warns(UserWarning, match=r"'twice the spots' in 'all': cannot be told.*draws .* do not") as told:
        warn_of_what_cannot_be_told(answers, metric="pearson", by="spots")
    assert len(told) == 1
    warn_of_what_cannot_be_told(answers, metric="spearman", by="spots")  # which was not asked: silent
