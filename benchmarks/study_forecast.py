"""How often a learning curve's forecast holds the true gain, and how often it tells anything: on simulated curves.

    python benchmarks/study_forecast.py

Each unit (patient, or section) has a curve of its own: a level (spread .05), a rise (spread 20 %) and noise at each
size. The true curve follows a power law, a logarithm, or none of these (an exponential that levels off). The question
is "twice the spots", from 1,280 to 2,560, by the functions behind `bl.tl.learning_curve`.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from _sections import provenance

from bleep_sc.tl._study._curve.forecast import CANNOT_TELL, forecast

SIZES, ALL = (32, 64, 128, 256, 512, 1024), 1280
LAWS: dict[str, Callable[[float], float]] = {
    "power law, exponent .2": lambda size: 0.25 * (size / 32) ** -0.2,
    "power law, exponent .5": lambda size: 0.16 * (size / 32) ** -0.5,
    "power law, exponent 1": lambda size: 0.2 * (size / 32) ** -1,
    "logarithm": lambda size: -0.02 * np.log(size / 32),
    "no power law": lambda size: 0.15 * np.exp(-size / 256),
}


def main() -> None:
    arguments = _parse()
    rng, rows = np.random.default_rng(0), []
    for law in LAWS:
        for n_units in (3, 5, 10):
            for noise in (0.002, 0.01, 0.03):
                found = pd.DataFrame([_one(rng, law, n_units, noise) for _ in range(arguments.draws)])
                rows.append({"law": law, "units": n_units, "noise": noise, **found.mean().to_dict()})
        print(pd.DataFrame(rows).query("law == @law").round(3).to_string(), flush=True)
    if arguments.json:
        record = {
            **provenance(arguments.json),
            "draws": arguments.draws,
            "rows": rows,
        }
        arguments.json.write_text(json.dumps(record, indent=1))


def _one(rng: np.random.Generator, law: str, n_units: int, noise: float) -> dict[str, float]:
    curve, table = LAWS[law], []
    for unit in range(n_units):
        level, rise = rng.normal(0.5, 0.05), np.exp(rng.normal(-0.02, 0.2))
        table += [
            {"size": size, "section": f"s{unit}", "patient": f"p{unit}", "panel": "all", "metric": "pearson"}
            | {"value": level - rise * curve(size) + rng.normal(0, noise * np.sqrt(SIZES[0] / size))}
            for size in SIZES
        ]
    answer = forecast(pd.DataFrame(table), by="spots", n_units=ALL, n_bootstrap=200, random_state=0)[0].iloc[0]
    truth = curve(ALL) - curve(2 * ALL)
    told, held = answer["verdict"] != CANNOT_TELL, answer["low"] <= truth <= answer["high"]
    return {
        "truth": truth,
        "held": float(held),
        "told_and_missed": float(told and not held),
        "width": answer["high"] - answer["low"],
        "told": float(told),
    }


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=40, help="of each kind")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
