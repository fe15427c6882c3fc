from itertools import product

import numpy as np
import pandas as pd
import pytest

from bleep_sc.metrics.bootstrap import bootstrap_mean, interval
from bleep_sc.metrics.summary import summarize

PATIENTS = {
    "patients": ["P1", "P1", "P2", "P3", "P3", "P3"],
    "sections": ["P1", "P1", "P1", "P2", "P2", "P2"],
    "spots": ["P1", "P1", "P1", "P1", "P2", "P2"],
    "unknown": [""] * 6,
}


def rows_of(patients: list[str], *, lacking: bool) -> list[dict]:
    """Make rows of sections that do not stand in order, with scores that are not known here and there."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "method": method,
            "section": f"S{number}",
            "patient": patients[number],
            "panel": panel,
            "metric": metric,
            "value": np.nan if lacking and rng.uniform() < 0.2 else float(rng.normal()),
            "ceiling": float(rng.uniform(0.5, 1)) if metric == "pearson" else np.nan,
            "n_genes": 50,
            "n_missing": int(rng.integers(5)),
            "n_constant_truth": int(rng.integers(5)),
            "n_constant_prediction": int(rng.integers(5)),
        }
        for method, number, panel, metric in product(["bleep", "mean"], range(6), ["all", "HVG-50"], ["pearson", "mse"])
    ]
    return [rows[place] for place in rng.permutation(len(rows))]


@pytest.mark.parametrize("lacking", [False, True])
@pytest.mark.parametrize("over", PATIENTS)
def test_equals_means_of_pandas(*, over: str, lacking: bool) -> None:
    rows = rows_of(PATIENTS[over], lacking=lacking)
    found = summarize(rows, n_bootstrap=0, random_state=0).set_index(["method", "panel", "metric"])
    table = pd.DataFrame(rows)
    assert list(found.index) == list(dict.fromkeys(table[["method", "panel", "metric"]].itertuples(index=False)))
    for key, group in table.groupby(["method", "panel", "metric"]):
        by_patient = group.dropna(subset="value").groupby("patient")
        expected = {
            "value": by_patient["value"].mean().mean(),
            "ceiling": by_patient["ceiling"].mean().mean(),
            "share_of_ceiling": by_patient["value"].mean().mean() / by_patient["ceiling"].mean().mean(),
            **{name: group[name].max() for name in group if str(name).startswith("n_")},
            "n_sections": group["section"].nunique(),
            "n_patients": group["patient"][group["patient"] != ""].nunique(),
        }
        for name, value in expected.items():
            np.testing.assert_allclose(found.loc[key, name], value, err_msg=f"{key} {name}")
    assert found[["low", "high"]].isna().all(axis=None)
    assert (found["interval_over"] == "").all()


@pytest.mark.parametrize(
    ("over", "unit"), [("patients", "patients"), ("sections", "sections"), ("unknown", "sections")]
)
def test_intervals_redraw_what_they_are_over(over: str, unit: str) -> None:
    rows = rows_of(PATIENTS[over], lacking=False)
    found = summarize(rows, n_bootstrap=50, random_state=3).set_index(["method", "panel", "metric"])
    assert (found["interval_over"] == unit).all()
    for key, group in pd.DataFrame(rows).groupby(["method", "panel", "metric"]):
        sections = [values.to_numpy() for _, values in group.groupby("patient", sort=False)["value"]]
        groups = [np.array([values.mean() for values in sections])] if unit == "patients" else sections
        expected = interval(bootstrap_mean(groups, n_draws=50, rng=np.random.default_rng(3)))
        np.testing.assert_allclose(found.loc[key, ["low", "high"]].astype(float), expected)


def test_draws_over_spots_are_averaged_as_the_scores_are() -> None:
    rows = rows_of(PATIENTS["spots"], lacking=True)
    rng = np.random.default_rng(1)
    draws = {(row["method"], row["section"], row["panel"], row["metric"]): rng.normal(size=40) for row in rows}
    without = {key: drawn for key, drawn in draws.items() if key[-1] != "mse"}
    found = summarize(rows, draws=without, n_bootstrap=40, random_state=0).set_index(["method", "panel", "metric"])
    for key, group in pd.DataFrame(rows).groupby(["method", "panel", "metric"]):
        row = found.loc[key]
        if key[-1] == "mse":
            assert np.isnan(row["low"])
            assert row["interval_over"] == ""
            continue
        known = group.dropna(subset="value")
        by_patient = [
            np.mean([draws[(key[0], section, *key[1:])] for section in sections], axis=0)
            for _, sections in known.groupby("patient")["section"]
        ]
        np.testing.assert_allclose(row[["low", "high"]].astype(float), interval(np.mean(by_patient, axis=0)))
        assert row["interval_over"] == "spots"
