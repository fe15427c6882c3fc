"""A few measured spots of a section correct its prediction: what they gain, and what they tell by themselves.

    python benchmarks/measured_spots.py her2st                  # HER2ST C2 to C6, leave one section out
    python benchmarks/measured_spots.py mob2k --draws 5         # mouse olfactory bulb, leave one animal out

Folds, genes, panels and scores are those of compare.py, the model is the default recipe on its features, one seed. Of
each held-out section a share of the spots counts as measured, drawn again several times. "random": drawn from all its
spots. "around a block": a contiguous quarter of the section has none, they are drawn from the rest. Pearson of each
gene over all spots that were not measured, and in brackets the depth-free one. Three predictions beside each other:
without the measured spots; with them (`bl.tl.impute(measured=)`); and interpolation of the measured values alone,
without image or reference, the best of three (nearest spot, inverse squared distance, Gaussian process), chosen
afterwards for each panel and share, which flatters it. Gains are means over the draws; "worst" is the section that
gains least.
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
from _sections import MARKERS, commit
from anndata import AnnData
from compare import PATIENT_KEYS, WIDE, load
from scipy.spatial.distance import cdist
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern, WhiteKernel

import bleep_sc as bl
from bleep_sc._stats import log_depth
from bleep_sc.tl._cv.folds import Fold, make_folds
from bleep_sc.tl._cv.plan import Plan, asked_methods, make_plan
from bleep_sc.tl._cv.run import prepare

PANELS = ("HEG-50", "HVG-50")
MISSING = 0.25
"""Share of a section that the contiguous block takes."""
INTERPOLATIONS = ("nearest", "inverse distance", "Gaussian process")


def main() -> None:
    arguments = _parse()
    warnings.filterwarnings("ignore")
    bl.settings.verbosity, bl.settings.progress_bar = "error", False
    adata = load(arguments.data, size=64)
    rows: list[dict[str, Any]] = []
    start = time.perf_counter()
    for fold, plan in _folds(adata, arguments.data):
        rows += of_fold(plan, fold, arguments.shares, arguments.draws)
        print(f"fold {fold.name}: {time.perf_counter() - start:.0f} s", flush=True)
        if arguments.json:  # after each: a long run that is cut off keeps what it has
            _write(arguments, summarized(pd.DataFrame(rows)))
    print(table(summarized(pd.DataFrame(rows))))


def _write(arguments: argparse.Namespace, summary: pd.DataFrame) -> None:
    record = {
        "commit": commit(),
        "command": shlex.join(["python", "benchmarks/measured_spots.py", *sys.argv[1:]]).replace(
            str(arguments.json), arguments.json.name
        ),
        "data": arguments.data,
        "summary": json.loads(summary.to_json(orient="records")),
    }
    arguments.json.write_text(json.dumps(record, indent=1))


def _folds(adata: AnnData, data: str) -> list[tuple[Fold, Plan]]:
    group_key, patient_key = PATIENT_KEYS[data]
    plan = make_plan(
        adata,
        asked_methods(["bleep"], {"bleep": {"image_key": WIDE}}),
        counts_layer="counts",
        library_key="section",
        group_key=group_key,
        patient_key=patient_key,
        markers=[gene for gene in MARKERS if gene in adata.var_names] if data == "her2st" else [],
        n_top_genes=1000,
        min_fraction=0.1,
        k=None,
        refit=False,
        random_state=0,
    )
    return [(fold, plan) for fold in make_folds(adata.obs[group_key].astype(str).to_numpy())]


def of_fold(plan: Plan, fold: Fold, shares: list[float], draws: int) -> list[dict[str, Any]]:
    """Fit on a fold, and score each of its test sections with and without measured spots."""
    prepared = prepare(plan, fold)
    ref, query = prepared.ref, prepared.query
    bl.tl.fit(ref, image_key=WIDE, library_key="section", patient_key=plan.patient_key, random_state=0)
    query.X = prepared.truth
    query.layers["counts"] = plan.values[fold.test]
    rows = []
    for name in np.unique(query.obs["section"]):
        section = query[(query.obs["section"] == name).to_numpy()].copy()
        bl.tl.impute(section, ref, key_added="without")
        for design in ("random", "around a block"):
            for share in shares:
                for draw in range(draws):
                    measured = drawn(np.asarray(section.obsm["spatial"], dtype=float), share, draw, design)
                    section.obs["is_measured"] = measured
                    bl.tl.impute(section, ref, measured="is_measured", key_added="with")
                    chosen = section.uns["with"]["measured_spots"].iloc[0] if measured.sum() >= 4 else {}
                    common = {"section": str(name), "design": design, "share": share, "draw": draw}
                    common["shrinkage"] = float(chosen.get("shrinkage", 0.0))
                    rows += [common | row for row in scored(section, measured, prepared.panels)]
    return rows


def drawn(xy: np.ndarray, share: float, draw: int, design: str) -> np.ndarray:
    """Draw the spots that count as measured (n,)."""
    n = len(xy)
    rng = np.random.default_rng(1000 * draw + 17)
    candidates = np.arange(n)
    if design == "around a block":
        from_centre = np.linalg.norm(xy - xy[rng.integers(n)], axis=1)
        candidates = np.argsort(from_centre, kind="stable")[round(MISSING * n) :]
    out = np.zeros(n, dtype=bool)
    out[rng.choice(candidates, max(2, round(share * n)), replace=False)] = True
    return out


def scored(section: AnnData, measured: np.ndarray, panels: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    depth = log_depth(section.layers["counts"])[~measured]
    rows = []
    for panel in PANELS:
        of_panel = section[:, panels[panel]]
        truth = of_panel.X.toarray().astype(np.float64)
        predictions = {kind: np.asarray(of_panel.layers[kind]) for kind in ("without", "with")}
        predictions |= interpolated(np.asarray(section.obsm["spatial"], dtype=float), measured, truth[measured])
        for kind, predicted in predictions.items():
            pair = truth[~measured], predicted[~measured].astype(np.float64)
            for metric, values in (
                ("pearson", bl.metrics.pearson(*pair)),
                ("pearson_depth_free", bl.metrics.partial_pearson(*pair, depth)),
            ):
                value = float(np.nan_to_num(values).mean())
                rows.append({"panel": panel, "kind": kind, "metric": metric, "value": value})
    return rows


def interpolated(xy: np.ndarray, measured: np.ndarray, values: np.ndarray) -> dict[str, np.ndarray]:
    """Interpolate the measured values to all spots, in three ways."""
    apart = cdist(xy, xy[measured])
    weights = 1 / np.maximum(apart, 1e-3) ** 2
    spacing = np.median(np.sort(cdist(xy, xy), axis=1)[:, 1])
    kernel = Matern(4.0, (1.0, 20.0), nu=0.5) + WhiteKernel(1.0, (0.05, 20.0))
    spread = values.std(axis=0)
    varies = spread > 0
    smooth = np.tile(values.mean(axis=0), (len(xy), 1))
    if varies.any():
        scaled = (values[:, varies] - values[:, varies].mean(axis=0)) / spread[varies]
        process = GaussianProcessRegressor(kernel).fit(xy[measured] / spacing, scaled)
        smooth[:, varies] += process.predict(xy / spacing).reshape(len(xy), -1) * spread[varies]
    inverse = weights @ values / weights.sum(axis=1, keepdims=True)
    return dict(zip(INTERPOLATIONS, (values[apart.argmin(axis=1)], inverse, smooth), strict=True))


def summarized(rows: pd.DataFrame) -> pd.DataFrame:
    """Average over draws, then sections; of the interpolations the best; and the section that gains least."""
    keys = ["design", "share", "panel", "metric"]
    means = rows.groupby([*keys, "kind", "section"])["value"].mean().unstack("kind")
    gains = means["with"] - means["without"]
    over = means.groupby(keys).mean()
    out = over[["without", "with"]].assign(interpolation=over[list(INTERPOLATIONS)].max(axis=1))
    out["least_gain"] = gains.groupby(keys).min()
    single = rows.pivot_table(index=[*keys, "section", "draw"], columns="kind", values="value")
    out["least_gain_of_a_draw"] = (single["with"] - single["without"]).groupby(keys).min()
    out["shrinkage"] = rows.groupby(keys)["shrinkage"].mean()
    return out.reset_index()


def table(summary: pd.DataFrame) -> str:
    lines = [
        f"{'design':<16}{'measured':>9}  {'panel':<8}{'without':>15}{'with':>15}{'interpolation':>15}"
        f"{'gain':>17}{'worst section':>15}"
    ]
    for (design, share, panel), cell in summary.groupby(["design", "share", "panel"], sort=False):
        plain, free = (cell.set_index("metric").loc[metric] for metric in ("pearson", "pearson_depth_free"))
        shown = [f"{plain[kind]:.3f} ({free[kind]:.3f})" for kind in ("without", "with", "interpolation")]
        gain, free_gain = (row["with"] - row["without"] for row in (plain, free))
        lines.append(
            f"{design:<16}{share:>9.0%}  {panel:<8}"
            + "".join(f"{text:>15}" for text in shown)
            + f"{f'{gain:+.3f} ({free_gain:+.3f})':>17}"
            + f"{plain['least_gain']:>+15.3f}"
        )
    return "\n".join(lines)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=["her2st", "mob2k"])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.02, 0.05, 0.1, 0.2])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
