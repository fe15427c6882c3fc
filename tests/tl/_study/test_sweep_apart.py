"""Intervals of differences hold for all settings at once, and are not too narrow for few units."""

import numpy as np
import pandas as pd
import pytest

from bleep_sc.tl._study._sweep.apart import differences, half_widths


@pytest.mark.parametrize("n_units", [[3], [5], [12], [3, 3]])
@pytest.mark.parametrize("shared", [0.0, 0.9])
def test_noise_is_rarely_told_apart(n_units: list[int], shared: float) -> None:
    """Of 20 settings that differ by nothing, any is told apart in about one sweep of twenty, at most in two."""
    rng = np.random.default_rng(0)
    told = 0
    for _ in range(200):
        groups = [
            np.sqrt(shared) * rng.normal(size=(n, 1)) + np.sqrt(1 - shared) * rng.normal(size=(n, 20)) for n in n_units
        ]
        mean = np.mean([part.mean(axis=0) for part in groups], axis=0)
        told += bool((np.abs(mean) > half_widths(groups, rng=rng)).any())
    assert told <= 20


def test_a_difference_as_large_as_ten_standard_errors_is_told() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6, 4)) + np.array([0, 0, 0, 30])
    half = half_widths([values], rng=rng)
    assert (np.abs(values.mean(axis=0)) > half).tolist() == [False, False, False, True]


def test_two_groups_of_sections_are_redrawn_within_each() -> None:
    rng = np.random.default_rng(0)
    apart = [rng.normal(size=(200, 1)), rng.normal(size=(200, 1)) + 50]
    assert half_widths(apart, rng=rng)[0] == pytest.approx(1.96 / np.sqrt(400), rel=0.1)


def table(patients: str) -> pd.DataFrame:
    rows = [
        {"setting": s, "section": f"s{i}", "patient": p, "value": 0.1 * s + 0.01 * i, "chosen": s == 1}
        for s in (0, 1)
        for i, p in enumerate(patients)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("patients", "over"), [("AABBCC", "patients"), ("AAABBB", "sections"), ("AABB", "")])
def test_what_intervals_are_over(patients: str, over: str) -> None:
    found, unit = differences(table(patients), random_state=0)
    assert unit == over
    np.testing.assert_allclose(found["difference"], [0.1, 0.0], atol=1e-12)
    assert found["low"].isna().all() == (over == "")
