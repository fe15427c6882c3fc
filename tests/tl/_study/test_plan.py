"""How many patients a study needs: Student's interval, and a promise that holds."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.stats import t

import bleep_sc as bl


def with_scores(values: Any, *, scope: str = "across patients") -> AnnData:
    """An object with a learning curve whose largest size has these scores, one a patient."""
    adata = AnnData(np.zeros((2, 2), dtype=np.float32))
    rows = [
        {"size": size, "section": f"s{n}", "patient": f"p{n}", "panel": "all", "metric": "pearson", "scope": scope}
        | {"value": value - (9.0 if size == 1 else 0.0), "draw": 0}
        for size in (1, 8)
        for n, value in enumerate(values)
    ]
    adata.uns["learning_curve"] = {"scores": pd.DataFrame(rows)}
    return adata


def test_the_numbers_are_those_of_the_formula(unchanged: Callable[..., None]) -> None:
    values = np.random.default_rng(0).normal(0.4, 0.05, size=10)
    adata = with_scores(values)
    unchanged(adata)
    (row,) = bl.tl.plan(adata, 0.04).to_dict("records")
    assert row["spread"] == pytest.approx(values.std(ddof=1))
    assert row["mean"] == pytest.approx(values.mean())
    assert row["width"] == pytest.approx(2 * 2.262 * values.std(ddof=1) / np.sqrt(10), rel=1e-3)

    def fewest(spread: float) -> int:
        return next(n for n in range(3, 1000) if 2 * t.ppf(0.975, n - 1) * spread / np.sqrt(n) <= 0.04)

    # 14.684 and 4.168: the ninth and the first tenth of chi-square with nine degrees of freedom
    low, guess, high = (fewest(row["spread"] * factor) for factor in (np.sqrt(9 / 14.684), 1, np.sqrt(9 / 4.168)))
    assert 9 < low < guess < high < 100
    assert [row["fewest"], row["guess"], row["enough"]] == [low // 10 * 10, round(guess, -1), -(-high // 10) * 10]
    assert row["answer"] == f"{row['guess']:g} patients ({row['fewest']:g} to {row['enough']:g})"


@pytest.mark.slow
def test_the_upper_number_is_enough_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = []
    for _ in range(150):
        enough = int(bl.tl.plan(with_scores(rng.normal(0.4, 0.05, size=10)), 0.06)["enough"].iloc[0])
        study = rng.normal(0.4, 0.05, size=enough)
        held.append(2 * t.ppf(0.975, enough - 1) * study.std(ddof=1) / np.sqrt(enough) <= 0.06)
    assert np.mean(held) >= 0.85


def test_sections_of_a_patient_count_once() -> None:
    adata = with_scores([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    table = adata.uns["learning_curve"]["scores"]
    twice = table[table["patient"] == "p0"].assign(section="more", value=lambda t: t["value"] + 0.2)
    adata.uns["learning_curve"]["scores"] = pd.concat([table, twice])
    row = bl.tl.plan(adata, 0.5).iloc[0]
    assert row["n_patients"] == 6
    assert row["mean"] == pytest.approx(np.mean([0.2, 0.2, 0.3, 0.4, 0.5, 0.6]))


@pytest.mark.parametrize("values", [[0.3], [0.3, 0.4], [0.3, 0.35, 0.5, 0.4], [0.3] * 6])
def test_too_few_or_equal_patients_cannot_tell(values: list[float]) -> None:
    with pytest.warns(UserWarning, match=rf"'all': cannot be told from {len(values)} patient.*known too badly"):
        row = bl.tl.plan(with_scores(values), 0.02).iloc[0]
    assert np.isnan(row["enough"])
    assert np.isnan(row["guess"])


@pytest.mark.odd
def test_two_patients_cannot_tell_however_narrow_the_interval() -> None:
    """Their spread may be eight times what it is, for which no number of patients that is tried is enough."""
    with pytest.warns(UserWarning, match="cannot be told from 2 patients"):
        assert np.isnan(bl.tl.plan(with_scores([0.1, 0.5]), 0.01)["enough"].iloc[0])


@pytest.mark.odd
@pytest.mark.parametrize("certainty", [0.5, 0.6, 0.9])
def test_the_numbers_come_in_order(certainty: float) -> None:
    (row,) = bl.tl.plan(with_scores([0.40, 0.41, 0.42]), 0.05, certainty=certainty).to_dict("records")
    assert row["fewest"] <= row["guess"] <= row["enough"]


@pytest.mark.odd
@pytest.mark.parametrize("certainty", [0.01, 0.1, 0.49])
def test_a_certainty_that_turns_the_range_round_is_refused(certainty: float) -> None:
    """With 0.1 the upper number of ten patients was 20, and the lower 30."""
    with pytest.raises(ValueError, match=r"`certainty` must be from 0\.5 to below 1, such as 0\.9"):
        bl.tl.plan(with_scores(np.linspace(0.2, 0.5, 10)), 0.1, certainty=certainty)


@pytest.mark.odd
def test_refused() -> None:
    adata = with_scores(np.linspace(0.2, 0.5, 8))
    for width in (0, -1, "wide", np.nan):
        with pytest.raises(ValueError, match="`width` must be a finite number above 0"):
            bl.tl.plan(adata, width)
    with pytest.raises(ValueError, match=r"`width=1e-06` would take more than 100,000 patients"):
        bl.tl.plan(adata, 1e-6)
    with pytest.raises(ValueError, match="`certainty` must be between 0 and 1"):
        bl.tl.plan(adata, 0.1, certainty=1.0)
    with pytest.raises(ValueError, match="`metric` must be one of 'pearson'"):
        bl.tl.plan(adata, 0.1, metric="no")
    with pytest.raises(KeyError, match=r"`adata\.uns\['no'\]` does not exist.*tl\.learning_curve"):
        bl.tl.plan(adata, 0.1, key="no")
    with pytest.raises(
        ValueError, match=r"do not tell how patients differ: their scope is 'within-patient'.*group_key='patient'"
    ):
        bl.tl.plan(with_scores([0.1] * 8, scope="within-patient"), 0.1)
    adata.uns["learning_curve"] = "x"
    with pytest.raises(ValueError, match="no table of a learning curve"):
        bl.tl.plan(adata, 0.1)
