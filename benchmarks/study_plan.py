"""Whether ten patients tell how many are needed for an interval of a given width: tried on painted tissue.

    python benchmarks/study_plan.py

A population of toy patients, each with one section. A pilot of ten is drawn and cross-validated, patient by patient,
with ridge. The spread of its ten scores tells how many patients a study needs for a 95 % interval of the mean score
that is narrower than the pilot's (`--narrower`): a best guess, and a number that is enough in nine of ten cases (by
the chi-square distribution of a variance). Then studies of both sizes are drawn from the other patients and
cross-validated, and the width of their intervals is measured. The spread of a pilot of six stands beside, to see
whether it changes with the size of the reference.
"""

import argparse
import json
import shlex
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _sections import commit
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
        n_patients=arguments.patients, n_sections=1, n_spots=80, n_genes=150, patient_shift=arguments.shift
    )
    population.obsm["X_color"] = color_features(population.obsm["crops"])
    del population.obsm["crops"], population.uns["crops"]
    patients = np.unique(population.obs["patient"].astype(str))
    print(f"{len(patients)} patients in {time.perf_counter() - start:.0f} s", flush=True)
    rows = []
    for trial in range(arguments.trials):
        order = np.random.default_rng(trial).permutation(patients)
        pilot, half = (patient_scores(population, order[:n]) for n in (PILOT, PILOT // 2 + 1))
        for panel in PANELS:
            spread = float(pilot[panel].std(ddof=1))
            width = interval_width(spread, PILOT)
            guess, enough = needed(spread, width * arguments.narrower)
            rows.append(
                {
                    **{"trial": trial, "panel": panel, "mean": float(pilot[panel].mean()), "sd_pilot": spread},
                    **{"sd_half": float(half[panel].std(ddof=1)), "width_pilot": width},
                    **{"wanted": width * arguments.narrower, "guess": guess, "enough": enough},
                }
            )
        for panel in PANELS:
            row = next(r for r in rows if r["trial"] == trial and r["panel"] == panel)
            for name in ("guess", "enough"):
                n = min(row[name], len(patients) - PILOT)
                study = patient_scores(population, order[PILOT : PILOT + n])
                row[f"width_{name}"] = interval_width(float(study[panel].std(ddof=1)), n)
                row[f"cut_{name}"] = n < row[name]
        print(
            pd.DataFrame(rows).tail(len(PANELS)).round(4).to_string(),
            f"{time.perf_counter() - start:.0f} s",
            flush=True,
        )
        if arguments.json:
            command = shlex.join(["python", "benchmarks/study_plan.py", *sys.argv[1:]])
            record = {
                "commit": commit(),
                "command": command.replace(str(arguments.json), arguments.json.name),
                "rows": rows,
                "summary": summary(pd.DataFrame(rows)),
            }
            arguments.json.write_text(json.dumps(record, indent=1))
    print(json.dumps(summary(pd.DataFrame(rows)), indent=1))


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


def summary(rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    """By panel: how many patients were named, and how often the interval was as narrow as wanted."""
    out = {}
    for panel, own in rows.groupby("panel"):
        out[str(panel)] = {
            "trials": len(own),
            "guess_median": float(own["guess"].median()),
            "enough_median": float(own["enough"].median()),
            **{f"held_{name}": float((own[f"width_{name}"] <= own["wanted"]).mean()) for name in ("guess", "enough")},
            "sd_pilot_lowest": float(own["sd_pilot"].min()),
            "sd_pilot_highest": float(own["sd_pilot"].max()),
            "sd_half_to_pilot": float((own["sd_half"] / own["sd_pilot"]).median()),
            "not_possible": int(own["cut_enough"].sum()),
        }
    return out


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=60, help="in the population")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--narrower", type=float, default=0.7, help="width that is wanted, by the pilot's")
    parser.add_argument("--shift", type=float, default=1.0, help="of the patients")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
