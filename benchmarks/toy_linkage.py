"""Toy tissue, trained on two patients and tested on the third: what is learned, and what must not be.

    python benchmarks/toy_linkage.py

For each seed: mean Pearson within sections over the genes that the image knows, over those that it cannot know, and
over the known ones with the test patient's images shuffled within sections, 50 times.
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


def measure(seed: int, *, n_shuffles: int = 50, **arguments: Any) -> dict[str, Any]:
    """Scores of one toy tissue and one training."""
    tissue: AnnData = bl.datasets.toy(random_state=seed)  # type: ignore[assignment]
    held_out = (tissue.obs["patient"] == "P3").to_numpy()
    ref, query = tissue[~held_out].copy(), tissue[held_out].copy()
    bl.tl.fit(ref, encoder="color", random_state=seed, **arguments)
    bl.tl.impute(query, ref)
    truth, predicted = query.X.toarray(), query.layers["bleep"]
    sections = section_rows(query.obs["section"].astype(str).to_numpy(), query.n_obs)
    linked = query.var["image_linked"].to_numpy()
    score = by_gene(truth, predicted, sections)
    rng = np.random.default_rng(seed)
    shuffled = [by_gene(truth, predicted[shuffle(rng, sections)], sections)[linked].mean() for _ in range(n_shuffles)]
    return {
        "seed": seed,
        "linked": float(score[linked].mean()),
        "hidden": float(score[~linked].mean()),
        "shuffled": [float(value) for value in shuffled],
    }


def by_gene(truth: np.ndarray, predicted: np.ndarray, sections: list[tuple[str, np.ndarray]]) -> np.ndarray:
    return np.mean([np.nan_to_num(pearson(truth[rows], predicted[rows])) for _, rows in sections], axis=0)


def shuffle(rng: np.random.Generator, sections: list[tuple[str, np.ndarray]]) -> np.ndarray:
    """Which spot's image each spot gets: another of its section. A prediction depends on the image alone."""
    order = np.empty(sum(len(rows) for _, rows in sections), dtype=np.int64)
    for _, rows in sections:
        order[rows] = rng.permutation(rows)
    return order


def standard_error(values: list[float]) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    bl.settings.progress_bar = False
    bl.settings.verbosity = "warning"
    print(f"{'seed':>4}{'linked':>9}{'hidden':>9}{'shuffled: mean':>16}{'2 SE':>8}{'95 %':>8}")
    rows = []
    for seed in arguments.seeds:
        row = measure(seed)
        rows.append(row)
        shuffled = row["shuffled"]
        print(
            f"{seed:>4}{row['linked']:>9.3f}{row['hidden']:>9.3f}{np.mean(shuffled):>16.4f}"
            f"{2 * standard_error(shuffled):>8.4f}{np.quantile(shuffled, 0.95):>8.3f}",
            flush=True,
        )
    hidden = [row["hidden"] for row in rows]
    print(f"linked genes, mean over seeds: {np.mean([row['linked'] for row in rows]):.3f}")
    print(f"hidden genes, mean over seeds: {np.mean(hidden):.4f}, 2 SE {2 * standard_error(hidden):.4f}")
    pooled = [value for row in rows for value in row["shuffled"]]
    print(f"shuffled images, mean over all: {np.mean(pooled):.4f}, 2 SE {2 * standard_error(pooled):.4f}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"commit": commit(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
