"""Whether ten patients tell how many are needed for an interval of a given width: tried on painted tissue.

    python benchmarks/study_plan.py

A population of toy patients, each with one section, cross-validated patient by patient with ridge. Of its scores many
pilots of ten are drawn, and studies from the patients that are left. The spread of a pilot's ten scores tells how many
patients a study needs for a 95 % interval of the mean score of a wanted width: a best guess, and a number that is
enough in nine of ten cases (`bl.tl.plan`). How often was a study's interval as narrow as wanted? Some pilots are
cross-validated by themselves: their spread stands beside that of the same patients in the population, to see whether
it changes with the size of the reference.
"""

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _sections import provenance
from anndata import AnnData
from scipy.stats import chi2, t

import bleep_sc as bl
from bleep_sc.models.encoders.color import color_features

PILOT, CERTAINTY, PANELS = 10, 0.9, ("all", "HVG-50")


def main() -> None:
    arguments = _parse()
    warnings.filterwarnings("ignore")
    bl.settings.verbosity, bl.settings.progress_bar = "warning", False
    start = time.perf_counter()
    population: Any = bl.datasets.toy(
        n_patients=arguments.patients, n_sections=1, n_spots=60, n_genes=150, patient_shift=arguments.shift
    )
    population.obsm["X_color"] = color_features(population.obsm["crops"])
    del population.obsm["crops"], population.uns["crops"]
    print(f"{arguments.patients} patients in {time.perf_counter() - start:.0f} s", flush=True)
    whole = patient_scores(population, population.obs["patient"].unique())
    print(whole[list(PANELS)].describe().round(4).to_string(), f"{time.perf_counter() - start:.0f} s", flush=True)
    ratios = []
    for trial in range(arguments.trials):
        names = np.random.default_rng(trial).choice(whole.index, PILOT, replace=False)
        own = patient_scores(population, names)
        ratios.append(own[list(PANELS)].std() / whole.loc[names, list(PANELS)].std())
    spread = pd.DataFrame(ratios).median()
    result = {
        panel: {**drawn(whole[panel].to_numpy(), arguments), "sd_of_pilots_own": float(spread[panel])}
        for panel in PANELS
    }
    print(pd.DataFrame(result).round(3).to_string(), f"{time.perf_counter() - start:.0f} s")
    if arguments.json:
        record = {
            **provenance(arguments.json),
            "scores": {panel: whole[panel].round(5).tolist() for panel in PANELS},
            "summary": result,
        }
        arguments.json.write_text(json.dumps(record, indent=1))


def drawn(scores: np.ndarray, arguments: argparse.Namespace) -> dict[str, float]:
    """Draw pilots and studies, and say how many patients were named and how often the interval was narrow enough."""
    rng, rows = np.random.default_rng(0), []
    for _ in range(arguments.draws):
        order = rng.permutation(scores)
        spread = float(order[:PILOT].std(ddof=1))
        row = {"sd": spread}
        # of a population that has a spread of 1, so that no study needs more patients than there are
        for name, n in zip(("guess", "enough"), needed(spread, arguments.width * scores.std(ddof=1)), strict=True):
            row[name], row[f"possible_{name}"] = n, n <= len(scores) - PILOT
            study = rng.choice(order[PILOT:], min(n, len(scores) - PILOT), replace=False)
            row[f"held_{name}"] = interval_width(float(study.std(ddof=1)), n) <= arguments.width * scores.std(ddof=1)
        rows.append(row)
    table = pd.DataFrame(rows).astype(float)
    return {
        "mean": float(scores.mean()),
        "sd": float(scores.std(ddof=1)),
        "sd_pilot_low": float(table["sd"].quantile(0.1)),
        "sd_pilot_high": float(table["sd"].quantile(0.9)),
        "width_wanted": arguments.width * float(scores.std(ddof=1)),
        "needed_in_truth": needed(float(scores.std(ddof=1)), arguments.width * scores.std(ddof=1))[0],
        **{f"{name}_low": float(table[name].quantile(0.1)) for name in ("guess", "enough")},
        **{f"{name}_high": float(table[name].quantile(0.9)) for name in ("guess", "enough")},
        **{f"held_{name}": float(table[f"held_{name}"].mean()) for name in ("guess", "enough")},
        "possible_enough": float(table["possible_enough"].mean()),
    }


def patient_scores(population: AnnData, names: np.ndarray) -> pd.DataFrame:
    """Scores by patient and panel of these patients, each predicted by a model of all others."""
    adata = population[population.obs["patient"].isin(names)].copy()
    table = bl.tl.cross_validate(
        adata,
        methods=["ridge"],
        method_kwargs={"ridge": {"image_key": "X_color", "alpha": 1000.0, "check": "off"}},
        library_key="section",
        metrics=["pearson"],
        n_bootstrap=0,
    )
    return table.pivot_table(index="patient", columns="panel", values="value")


def interval_width(spread: float, n: int) -> float:
    """Width of Student's 95 % interval of the mean of n patients."""
    return float(2 * t.ppf(0.975, n - 1) * spread / np.sqrt(n))


def needed(spread: float, width: float) -> tuple[int, int]:
    """Fewest patients for a width, if the pilot's spread is the true one, and if it is as far below as it may be."""
    largest = spread * np.sqrt((PILOT - 1) / chi2.ppf(1 - CERTAINTY, PILOT - 1))
    return tuple(  # type: ignore[return-value]
        next(n for n in range(3, 10_000) if interval_width(each, n) <= width) for each in (spread, largest)
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=60, help="in the population")
    parser.add_argument("--trials", type=int, default=3, help="pilots that are cross-validated by themselves")
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--width", type=float, default=1.2, help="that is wanted, by the spread of the population")
    parser.add_argument("--shift", type=float, default=1.0, help="of the patients")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
