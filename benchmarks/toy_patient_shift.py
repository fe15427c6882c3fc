"""Toy tissue of patients that are shifted apart: the default recipe against ridge regression, on another patient.

    python benchmarks/toy_patient_shift.py                     # ten seeds, patient_shift=1
    python benchmarks/toy_patient_shift.py --shift 0 --seeds 0 1

For each seed both are fitted on the sections of one patient and predict those of another. Mean Pearson correlation of
each gene within a section, 0 where undefined, over all genes and over those that the image shows. Both read the same
features, made once.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from _sections import commit
from anndata import AnnData

import bleep_sc as bl
from bleep_sc._stats import section_rows
from bleep_sc.metrics import pearson
from bleep_sc.models.encoders.color import color_features

FEATURES = "X_color"
METHODS = {"default": "bleep", "ridge": "ridge"}


def measure(seed: int, *, shift: float = 1.0, n_sections: int = 3, n_spots: int = 110) -> dict[str, Any]:
    """Scores of the default recipe and of ridge on patient P2, learned from patient P1."""
    tissue: AnnData = bl.datasets.toy(  # type: ignore[assignment]
        n_patients=2, n_sections=n_sections, n_spots=n_spots, patient_shift=shift, random_state=seed, progress_bar=False
    )
    tissue.obsm[FEATURES] = color_features(tissue.obsm.pop("crops"), progress_bar=False)
    del tissue.uns["crops"]
    mine = (tissue.obs["patient"] == "P1").to_numpy()
    ref, query = tissue[mine].copy(), tissue[~mine].copy()
    found: dict[str, Any] = {"seed": seed}
    linked = query.var["image_linked"].to_numpy()
    for name, method in METHODS.items():
        bl.tl.fit(
            ref,
            method=method,  # type: ignore[arg-type]
            image_key=FEATURES,
            library_key="section",
            random_state=seed,
            key_added=name,
            progress_bar=False,
        )
        bl.tl.impute(query, ref, key=name, progress_bar=False)
        by_gene = _by_gene(query, name)
        found[name], found[f"{name}_linked"] = float(by_gene.mean()), float(by_gene[linked].mean())
    found["difference"] = found["default"] - found["ridge"]
    found["chosen"] = json.loads(ref.uns["default"]["config"])["chosen"]
    return found


def _by_gene(query: AnnData, layer: str) -> np.ndarray:
    truth, predicted = query.X.toarray(), query.layers[layer]
    sections = section_rows(query.obs["section"].astype(str).to_numpy(), query.n_obs)
    return np.asarray(np.mean([np.nan_to_num(pearson(truth[r], predicted[r])) for _, r in sections], axis=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--shift", type=float, default=1.0)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    bl.settings.verbosity = "warning"
    rows = []
    for seed in arguments.seeds:
        rows.append(measure(seed, shift=arguments.shift))
        row = rows[-1]
        weights = ", ".join(
            f"{name.removeprefix('weight_')} {weight:.2f}"
            for name, weight in row["chosen"].items()
            if name.startswith("weight_")
        )
        print(
            f"seed {seed}: default {row['default']:.3f}, ridge {row['ridge']:.3f}, difference {row['difference']:+.3f} "
            f"({weights})",
            flush=True,
        )
        if arguments.json:
            record = {"commit": commit(), "shift": arguments.shift, "seeds": rows}
            arguments.json.write_text(json.dumps(record, indent=1))
    differences = [row["difference"] for row in rows]
    print(f"default - ridge: mean {np.mean(differences):+.3f}, least {min(differences):+.3f}")


if __name__ == "__main__":
    main()
