"""Which genes can be predicted: whether the lists, the expected correlations and the screen keep what they promise.

    python benchmarks/trust_genes.py toy       # four patients, two sections each: false finds and power, coverage
    python benchmarks/trust_genes.py mob2k     # two animals: the list, and the lists of predictions that lie wrongly

`toy`, for each seed: genes listed at a false discovery rate of .1; the share of them that the image does not show; the
share of the genes that it shows which are listed; how often the expected Pearson's interval, of all patients but one,
holds the one left out; and for the screen before any model the AUROC of the genes that the image shows, with its own
list. Seeds are tissues: each paints another.

`mob2k`: genes detected in a tenth of the spots. Predictions are of models that saw the other animal only. Turned ones
are each section's own, by 90, 180 and 270 degrees: as smooth as the true ones, and wrong. Beside them stand the genes
that p-values find which take spots for independent. The screen's Spearman is with the out-of-fold r.
Lists of four HER2ST sections, tried on the fifth, are rows of `trust_intervals.py her2st`.
"""

import argparse
import json
import shlex
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scanpy as sc
from _sections import commit
from anndata import AnnData
from compare import load
from scipy import stats
from scipy.spatial import cKDTree
from sklearn.metrics import roc_auc_score

import bleep_sc as bl
from bleep_sc._stats import log_depth, section_rows
from bleep_sc.io._out_of_fold import from_uns
from bleep_sc.metrics import pearson
from bleep_sc.metrics.predictable import Evidence, combine_sections, expected_pearson
from bleep_sc.metrics.turns import beyond_depth, random_turns
from bleep_sc.models.encoders.color import color_features

FDR = 0.1
N_TURNS = 150


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=["toy", "mob2k"])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)), help="of toy tissue")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="squidpy|docrep|anndata|scanpy")
    warnings.filterwarnings("ignore", message=".*DecompressionBomb|Image size")
    bl.settings.verbosity = "error"
    bl.settings.progress_bar = False
    rows = []
    for row in toy(arguments.seeds) if arguments.data == "toy" else mob2k():
        print("  ".join(f"{name} {_text(value)}" for name, value in row.items()), flush=True)
        rows.append(row)
        if arguments.json:  # after each: a long run that is cut off keeps what it has
            command = f"python benchmarks/trust_genes.py {shlex.join(sys.argv[1:])}"
            arguments.json.write_text(json.dumps({"command": command, "commit": commit(), "rows": rows}, indent=1))
    if len(rows) > 1 and arguments.data != "mob2k":
        numbers = [name for name, value in rows[0].items() if isinstance(value, float)]
        print(
            "mean  " + "  ".join(f"{name} {_text(float(np.nanmean([row[name] for row in rows])))}" for name in numbers)
        )


def _text(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def out_of_fold(adata: AnnData) -> np.ndarray:
    """Predictions of the default recipe, by models that saw no spot of a spot's group, float32 (n_obs, n_genes)."""
    bl.tl.fit(adata, image_key="X_color", library_key="section", patient_key="group")
    decoders = from_uns(adata.uns["bleep"], where="adata.uns['bleep']")
    assert decoders is not None
    scores, fold = adata.obsm["bleep_out_of_fold"], adata.obs["bleep_fold"].to_numpy()
    return decoders.decode(scores, fold, np.arange(adata.n_vars))


def toy(seeds: list[int]) -> Iterator[dict[str, Any]]:
    for seed in seeds:
        adata: Any = bl.datasets.toy(n_patients=4, n_sections=2, random_state=seed)
        adata.obsm["X_color"] = color_features(adata.obsm.pop("crops"))
        adata.obs["group"] = adata.obs["patient"].astype(str)
        linked = adata.var["image_linked"].to_numpy()
        sections = Scored(adata, adata.X.toarray(), out_of_fold(adata))
        bl.tl.calibrate(adata, fdr=FDR, n_turns=N_TURNS)
        listed = adata.var["bleep_predictable"].to_numpy()
        screen = bl.tl.predictability(adata, library_key="section", fdr=FDR)
        found = screen["predictable"].to_numpy()
        patients = np.unique(sections.groups)
        yield {
            "seed": seed,
            "listed": int(listed.sum()),
            "false finds": float((listed & ~linked).sum() / max(listed.sum(), 1)),
            "power": float(listed[linked].mean()),
            "coverage": float(np.mean([sections.coverage(sections.groups == patient) for patient in patients])),
            "screen: AUROC": float(roc_auc_score(linked, -screen["geary"].fillna(1))),
            "screen: false finds": float((found & ~linked).sum() / max(found.sum(), 1)),
            "screen: power": float(found[linked].mean()),
        }


def mob2k() -> Iterator[dict[str, Any]]:
    adata = load("mob2k", size=64)
    adata.obs["group"] = adata.obs["animal"].astype(str)
    _normalise(adata)
    predicted = out_of_fold(adata)
    genes = _detected(adata)
    adata, predicted = adata[:, genes].copy(), predicted[:, genes]
    truth = adata.X.toarray()
    for degrees in (0, 90, 180, 270):
        spots, source = _turned_by(adata, degrees)
        scored = Scored(adata[spots].copy(), truth[spots], predicted[source])
        # as if spots and sections were independent
        naive = (np.arctanh(scored.r) * np.sqrt(scored.n - 3)).sum(axis=0) / np.sqrt(len(scored.n))
        row = {
            "degrees": degrees,
            "genes": int(genes.sum()),
            "listed": int((scored.evidence().qvalue <= FDR).sum()),
            "listed, naive": int((stats.false_discovery_control(stats.norm.sf(naive)) <= FDR).sum()),
        }
        if degrees == 0:
            screen = bl.tl.predictability(adata, library_key="section", patient_key="group", fdr=FDR)
            row["screen"] = int(screen["predictable"].sum())
            row["screen: Spearman"] = float(stats.spearmanr(-screen["geary"], scored.r.mean(axis=0))[0])
        yield row


class Scored:
    """Scores of out-of-fold predictions in each section: r and z beyond depth, and plain Pearson."""

    def __init__(self, adata: AnnData, truth: np.ndarray, predicted: np.ndarray) -> None:
        depth = log_depth(adata.layers["counts"])
        r, z, plain, groups, n = [], [], [], [], []
        for number, (_, rows) in enumerate(section_rows(adata.obs["section"].to_numpy(), adata.n_obs)):
            rng = np.random.default_rng([0, number])
            turns = random_turns(adata.obsm["spatial"][rows], n_turns=N_TURNS, rng=rng)
            for scores, values in zip(
                (r, z), beyond_depth(truth[rows], predicted[rows], depth[rows], turns), strict=True
            ):
                scores.append(values)
            plain.append(pearson(truth[rows], predicted[rows]))
            groups.append(str(adata.obs["group"].iloc[rows[0]]))
            n.append([len(rows)])
        self.r, self.z, self.pearson, self.groups, self.n = map(np.array, (r, z, plain, groups, n))

    def evidence(self) -> Evidence:
        """What all sections together say of each gene."""
        return combine_sections(self.z, self.groups)

    def coverage(self, left_out: np.ndarray) -> float:
        """How often the interval that the other sections give holds what some sections have."""
        expected = expected_pearson(self.pearson[~left_out], self.groups[~left_out])
        inside = (expected.lower <= self.pearson[left_out]) & (self.pearson[left_out] <= expected.upper)
        return float(inside[np.isfinite(self.pearson[left_out])].mean())


def _normalise(adata: AnnData) -> None:
    adata.X = adata.layers["counts"].copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)


def _detected(adata: AnnData) -> np.ndarray:
    detected: np.ndarray = np.asarray((adata.layers["counts"] > 0).mean(axis=0)).ravel() >= 0.1
    return detected


def _turned_by(adata: AnnData, degrees: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of spots that a section still covers when it is turned about its centre, and of those that lie there."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    spots, sources = [], []
    for _, rows in section_rows(adata.obs["section"].to_numpy(), adata.n_obs):
        xy = adata.obsm["spatial"][rows]
        centred = xy - xy.mean(axis=0)
        tree = cKDTree(centred)
        pitch = np.median(tree.query(centred, k=5)[0][:, -1])
        distance, nearest = tree.query(centred @ turn)
        near = distance < 0.75 * pitch
        spots.append(rows[near])
        sources.append(rows[nearest[near]])
    return np.concatenate(spots), np.concatenate(sources)


if __name__ == "__main__":
    start = time.perf_counter()
    main()
    print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)
