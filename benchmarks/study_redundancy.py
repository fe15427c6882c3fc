"""How many reference spots retrieval ever uses, and what a thinned reference keeps.

    python benchmarks/study_redundancy.py her2st
    python benchmarks/study_redundancy.py mob2k

In each fold (one section, or animal, held out) a method that retrieves is trained on all training spots. "Used" are the
reference spots that any held-out spot has among its k nearest. Then the trained model is kept, and spots are taken out
of the reference: at random (mean of three draws), by k-means (of each cluster the spot nearest to its centre) and by
farthest-point sampling, both in the space that is searched, on directions, as cosines compare them. k shrinks with the
reference (`--k share`, the rule that helps thinned references most), or stays (`--k same`). The score is the mean
Pearson correlation by gene within sections; genes and panels are those of the whole training set.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _sections import provenance
from anndata import AnnData
from compare import PATIENT_KEYS, WIDE, load
from sklearn.cluster import KMeans

import bleep_sc as bl
from bleep_sc import _keys
from bleep_sc.methods.learning.heldout import _average
from bleep_sc.metrics import pearson
from bleep_sc.models.search.nearest import nearest
from bleep_sc.tl._cv.run import MODEL_OF_FOLD, impute_blind, prepare, train
from bleep_sc.tl._study._curve.inputs import read_tissue

SHARES = (1.0, 0.5, 0.25, 0.1, 0.05)
METHODS: dict[str, dict[str, Any]] = {
    "knn": {"method": "knn"},
    "retrieval of the default recipe": {"method": "bleep", "predict": "retrieval"},
}


def main() -> None:
    arguments = _parse()
    warnings.filterwarnings("ignore")
    bl.settings.verbosity, bl.settings.progress_bar = "warning", False
    adata = load(arguments.data, size=64)
    rows: list[dict[str, Any]] = []
    for label, given in METHODS.items():
        rows += [{"method": label, **row} for row in _of_method(adata, arguments.data, given, arguments.k)]
        table = pd.DataFrame(rows).query("method == @label")
        columns = ["k", "n_reference", "used", "score", "seconds_search", "seconds_thin"]
        print(
            label, "\n", table.groupby(["panel", "thinned", "share"], sort=False)[columns].mean().round(4).to_string()
        )
        if arguments.json:
            record = {
                **provenance(arguments.json),
                "data": arguments.data,
                "rows": json.loads(pd.DataFrame(rows).to_json(orient="records")),
            }
            arguments.json.write_text(json.dumps(record, indent=1))


def _of_method(adata: AnnData, data: str, given: dict[str, Any], rule: str) -> list[dict[str, Any]]:
    group_key, patient_key = PATIENT_KEYS[data]
    rest = {name: value for name, value in given.items() if name != "method"}
    tissue = read_tissue(
        adata,
        given["method"],
        {"image_key": WIDE, **rest},
        group_key=group_key,
        library_key="section",
        patient_key=patient_key,
        counts_layer="counts",
        markers=(),
        n_top_genes=1000,
        min_fraction=0.1,
        k=None,
        refit=True,
        random_state=0,
    )
    space: Any = tissue.asked.method.space
    key = _keys.expression_embedding if space.has_expression else _keys.image_embedding
    rows = []
    for fold in tissue.folds:
        prepared = prepare(tissue.plan, fold)
        ref, query, chosen = train(tissue.plan, fold, prepared, tissue.asked)
        impute_blind(ref, query, chosen, tissue.asked)
        images = np.asarray(query.obsm[_keys.image_embedding(MODEL_OF_FOLD)])
        keys = np.asarray(ref.obsm[key(MODEL_OF_FOLD)])
        sections = tissue.sections[fold.test]
        for panel in ("all", "HVG-50"):
            columns = ref.var_names.get_indexer(prepared.panels[panel])
            profiles, truth = ref.X[:, columns].tocsr(), prepared.truth[:, columns].toarray()
            for thinned, share, kept, seconds in _references(keys):
                k = int(chosen["k"]) if rule == "same" else round(share * int(chosen["k"]))
                k = min(max(k, 5), len(kept))
                start = time.perf_counter()
                found, distances = nearest(images, keys[kept], k)
                searched = time.perf_counter() - start
                predicted = _average(profiles[kept], found, distances)
                scores = [
                    np.nan_to_num(pearson(truth[own], predicted[own])).mean()
                    for own in (sections == section for section in np.unique(sections))
                ]
                rows.append(
                    {
                        **{"fold": fold.name, "panel": panel, "thinned": thinned, "share": share, "k": k},
                        "n_reference": len(kept),
                        "n_query": len(images),
                        "used": len(np.unique(found)) / len(kept),
                        "score": float(np.mean(scores)),
                        "seconds_search": searched,
                        "seconds_thin": seconds,
                    }
                )
    return rows


def _references(keys: np.ndarray) -> list[tuple[str, float, np.ndarray, float]]:
    """Rows that each way of thinning keeps, and the seconds that it took."""
    unit = keys / np.maximum(np.linalg.norm(keys, axis=1, keepdims=True), 1e-12)
    ways: dict[str, Callable[[int, int], np.ndarray]] = {
        "random": lambda n, seed: np.random.default_rng(seed).permutation(len(unit))[:n],
        "k-means": lambda n, seed: medoids(unit, n, seed),
        "farthest point": lambda n, seed: farthest(unit, n),
    }
    out = [("no", 1.0, np.arange(len(keys)), 0.0)]
    for share in SHARES[1:]:
        for way, choose in ways.items():
            for seed in range(3 if way == "random" else 1):
                start = time.perf_counter()
                kept = np.sort(choose(max(5, round(share * len(keys))), seed))
                out.append((way, share, kept, time.perf_counter() - start))
    return out


def medoids(points: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Of each of n clusters the point nearest to its centre."""
    found = KMeans(n, n_init=1, random_state=seed).fit(points)
    apart = np.square(points - found.cluster_centers_[found.labels_]).sum(axis=1)
    order = np.lexsort((apart, found.labels_))
    return order[np.unique(found.labels_[order], return_index=True)[1]]


def farthest(points: np.ndarray, n: int) -> np.ndarray:
    """Points of which each is the farthest from all before it; the first is nearest to the mean."""
    chosen = [int(np.square(points - points.mean(axis=0)).sum(axis=1).argmin())]
    apart = np.full(len(points), np.inf)
    while len(chosen) < n:
        apart = np.minimum(apart, np.square(points - points[chosen[-1]]).sum(axis=1))
        chosen.append(int(apart.argmax()))
    return np.array(chosen)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=("her2st", "mob2k"))
    parser.add_argument("--k", choices=("share", "same"), default="share")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
