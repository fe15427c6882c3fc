"""How many measured values lie within the intervals: on painted tissue, and on real sections that were left out.

    python benchmarks/trust_intervals.py toy --seeds 0 1 2 3 4        # leave one of four patients out
    python benchmarks/trust_intervals.py her2st --seeds 0 1 2         # leave one of five sections of a patient out
    python benchmarks/trust_intervals.py mob2k                        # one animal to the other
    python benchmarks/trust_intervals.py mob1k                        # both animals of mob2k to another array
    python benchmarks/trust_intervals.py her2st_b                     # one patient to another
    python benchmarks/trust_intervals.py her2st --preset best         # any of them with two encoders fused
    python benchmarks/trust_intervals.py cost                         # 2,000 spots × 20,000 genes

The default recipe as it is, on colour features of crops three spot diameters wide (112 px; with `--preset best` 224 px,
and EfficientNet-Lite0's features of their centres beside them); spots of at least 500 counts. Genes:
those that the reference learned from, each reference its own. "HEG" is the tenth of them with the highest mean in the
reference, "top" each gene's own highest tenth of measured values in the section that is scored. Intervals are those of
`bl.tl.intervals(query, ref, depth="query")`, from the reference alone.
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

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from _sections import HER2ST, MARKERS, commit, data_folder
from anndata import AnnData
from scipy import sparse
from squidpy.im import ImageContainer

import bleep_sc as bl
from bleep_sc._stats import log_depth
from bleep_sc.metrics import partial_pearson, pearson
from bleep_sc.tl._trust.genes import LEAST_DETECTED

TARGET_SUM = 1e4
FEATURES = "X_features"
ENCODERS = {"default": "color", "best": ["color", "efficientnet_lite0"]}
PIXELS = {"default": 112, "best": 224}
LEVELS = (0.5, 0.8, 0.9, 0.95)
FIFTHS = 5


def section(folder: str, name: str, preset: str, *, genes: pd.Index | None = None) -> AnnData:
    """One real section: counts, log-normalised values and features; of some genes alone where they are named."""
    adata = ad.read_h5ad(data_folder() / folder / f"{name}.h5ad")
    if genes is not None:
        adata = adata[:, adata.var_names.isin(genes)].copy()
    sc.pp.filter_cells(adata, min_counts=500)
    adata.layers["counts"] = sparse.csr_matrix(adata.X, dtype=np.float32)
    adata.X = adata.layers["counts"].copy()
    sc.pp.normalize_total(adata, target_sum=TARGET_SUM)
    sc.pp.log1p(adata)
    source = adata.uns["source"]
    image = ImageContainer(str(data_folder() / folder / f"{name}.jpg"))
    um = 3 * float(source["spot_diameter_um"])
    bl.pp.crops(adata, image, um=um, size=PIXELS[preset], mpp=float(source["um_per_px"]), library_key="section")
    describe(adata, preset)
    adata.obs = adata.obs.astype({"section": str})
    if "animal" in adata.obs:
        adata.obs["patient"] = adata.obs["animal"].astype(str)
    return adata


def describe(adata: AnnData, preset: str) -> None:
    """Put features in the place of crops, and keep their record alone."""
    bl.tl.encode(adata, encoder=ENCODERS[preset], key_added=FEATURES)
    del adata.obsm["crops"]
    adata.uns = {FEATURES: adata.uns[FEATURES]}


def splits(data: str, seed: int, preset: str) -> Iterator[tuple[str, AnnData, AnnData]]:
    """A name, the reference and the query of each split."""
    if data == "toy":
        tissue: Any = bl.datasets.toy(n_patients=4, random_state=seed)
        describe(tissue, preset)
        for patient in np.unique(tissue.obs["patient"].astype(str)):
            own = (tissue.obs["patient"] == patient).to_numpy()
            yield patient, tissue[~own].copy(), tissue[own].copy()
        return
    her2st = {name: section("her2st", name, preset) for name in HER2ST} if data.startswith("her2st") else {}
    bulbs = ("MOB1", "MOB2", "MOB3", "MOB4")
    mob2k = {name: section("mob2k", name, preset) for name in bulbs} if data == "mob2k" else {}
    if data == "her2st":
        for name in HER2ST:
            yield name, joined([her2st[other] for other in HER2ST if other != name]), her2st[name].copy()
    elif data == "her2st_b":
        yield "C to B4", joined(list(her2st.values())), section("her2st_b", "B4", preset)
    elif data == "mob2k":
        for names in (("MOB1", "MOB2"), ("MOB3", "MOB4")):
            others = [name for name in mob2k if name not in names]
            yield (
                f"{' '.join(others)} to {' '.join(names)}",
                joined([mob2k[name] for name in others]),
                joined([mob2k[name] for name in names]),
            )
    else:
        first = ad.read_h5ad(data_folder() / "mob2k" / "MOB1.h5ad")
        for name in ("Rep11", "Rep12"):
            # of the same genes on both sides, since values are shares of a spot's total
            query = section("mob1k_layers", name, preset, genes=first.var_names)
            ref = joined([section("mob2k", bulb, preset, genes=query.var_names) for bulb in bulbs])
            yield f"mob2k to {name}", ref, query


def joined(sections: list[AnnData]) -> AnnData:
    """Sections as one reference, with the genes to learn from."""
    ref = ad.concat(sections, index_unique="-")
    ref.uns[FEATURES] = sections[0].uns[FEATURES]  # cut alike; widths in spot diameters differ in the last digits
    ref.obs_names = [f"{name}-{number}" for number, name in enumerate(ref.obs_names)]
    bl.pp.select_genes(ref, batch_key="section", n_top_genes=1000, min_fraction=0.1)
    ref.var.loc[[gene for gene in MARKERS if gene in ref.var_names], "highly_variable"] = True
    return ref


def measure(data: str, seed: int, preset: str) -> list[dict[str, Any]]:
    """Rows of coverage: split, section, panel, level, fifth of distance."""
    rows: list[dict[str, Any]] = []
    for name, ref, query in splits(data, seed, preset):
        start = time.perf_counter()
        bl.tl.fit(ref, preset=preset, image_key=FEATURES, library_key="section", random_state=seed)
        fitted = time.perf_counter() - start
        bl.tl.calibrate(ref, random_state=seed)
        bl.tl.impute(query, ref)
        scope = ref.uns["bleep"]["scope"]
        learned = ref.var_names[ref.var["highly_variable"]] if "highly_variable" in ref.var else ref.var_names
        genes = [gene for gene in learned if gene in query.var_names]
        mean = np.asarray(ref[:, genes].X.mean(axis=0)).ravel()
        truth = query[:, genes].X.toarray()
        highest = truth >= np.quantile(truth, 0.9, axis=0)
        highest &= truth > 0
        panels = {"all": np.ones(len(genes), bool), "HEG": mean >= np.quantile(mean, 0.9)}
        distance = query.obsm["bleep_distances"].mean(axis=1)
        fifth = np.argsort(np.argsort(distance)) * FIFTHS // len(distance)
        for level in LEVELS:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="`query` is sequenced deeper")
                lower, upper = bl.tl.intervals(query, ref, genes=genes, level=level, depth="query")
            inside = (truth >= lower.to_numpy()) & (truth <= upper.to_numpy())
            common = {"split": name, "seed": seed, "scope": scope, "level": level, "n_spots": query.n_obs}
            for panel, chosen in panels.items():
                of_genes = inside[:, chosen].mean(axis=0)
                rows.append(
                    {
                        **common,
                        "panel": panel,
                        "coverage": float(of_genes.mean()),
                        "genes_above": float((of_genes >= 0.8).mean()),
                        "width": float((upper - lower).to_numpy()[:, chosen].mean()),
                    }
                )
            rows.append({**common, "panel": "top", "coverage": float(inside[highest].mean())})
            for part in range(FIFTHS):
                rows.append(
                    {**common, "panel": f"distance {part + 1}", "coverage": float(inside[fifth == part].mean())}
                )
        rows += _own_table(ref, common) + _list(ref, query, common)
        print(f"{name}, seed {seed} ({fitted:.0f} s to fit): " + _line(rows, name, seed), flush=True)
    return rows


def _own_table(ref: AnnData, common: dict[str, Any]) -> list[dict[str, Any]]:
    """What the reference says of its own left-out sections: these chose the blend, and are calibrated on."""
    table = ref.uns["bleep"]["coverage"].groupby(["panel", "level"])["coverage"].mean()
    return [
        {**common, "level": level, "panel": f"own table, {panel}", "coverage": float(coverage)}
        for (panel, level), coverage in table.items()
    ]


def _list(ref: AnnData, query: AnnData, common: dict[str, Any]) -> list[dict[str, Any]]:
    """How the list of predictable genes, and the correlation to expect, do on the section that was left out.

    Of all genes with counts in a tenth of the reference's spots, whether it learned from them or not.
    """
    detected = np.asarray((ref.layers["counts"] > 0).mean(axis=0)).ravel() >= LEAST_DETECTED
    genes = [gene for gene in ref.var_names[detected] if gene in query.var_names]
    table = ref.var.loc[genes]
    listed = table["bleep_predictable"].to_numpy()
    found: dict[str, list[float]] = {name: [] for name in ("positive", "unlisted positive", "expected r holds")}
    for name in np.unique(query.obs["section"].astype(str)):
        own = query[query.obs["section"].astype(str) == name, genes]
        truth, imputed = own.X.toarray(), np.asarray(own.layers["bleep"])
        beyond = partial_pearson(truth, imputed, log_depth(query[own.obs_names].layers["counts"]))
        r = pearson(truth, imputed)
        known = np.isfinite(r) & np.isfinite(table["bleep_expected_pearson_lower"].to_numpy())
        inside = (r >= table["bleep_expected_pearson_lower"]) & (r <= table["bleep_expected_pearson_upper"])
        found["positive"].append(float((beyond[listed] > 0).mean()) if listed.any() else np.nan)
        found["unlisted positive"].append(float((beyond[~listed] > 0).mean()) if (~listed).any() else np.nan)
        found["expected r holds"].append(float(inside[known].mean()))
    values = {"listed": float(listed.sum()), **{name: float(np.nanmean(each)) for name, each in found.items()}}
    if "image_linked" in table:
        linked = table["image_linked"].to_numpy()
        values["false finds"] = float((listed & ~linked).sum() / max(listed.sum(), 1))
        values["power"] = float(listed[linked].mean())
    return [{**common, "level": 0.9, "panel": f"list: {name}", "coverage": value} for name, value in values.items()]


def _line(rows: list[dict[str, Any]], name: str, seed: int) -> str:
    table = pd.DataFrame(rows)
    at = table[(table["split"] == name) & (table["seed"] == seed) & np.isclose(table["level"], 0.9)]
    values = at.groupby("panel", sort=False)["coverage"].mean()  # of lists: what their name says
    above = at[at["panel"] == "all"]["genes_above"].mean()
    return ", ".join(f"{panel} {value:.3f}" for panel, value in values.items()) + f"; genes >= .8: {above:.3f}"


def cost(n_spots: int = 2000, n_genes: int = 20_000) -> list[dict[str, Any]]:
    """Seconds of `calibrate` on simulated counts with out-of-fold scores, for intervals alone and with lists."""
    rng = np.random.default_rng(0)
    adata: Any = bl.datasets.toy(n_patients=2, n_sections=2, n_spots=n_spots // 4, n_genes=300)
    rates = rng.gamma(0.3, 1, size=n_genes - 300)
    more = sparse.csr_matrix(
        rng.poisson(np.clip(rates * 0.3, 0, 20), size=(adata.n_obs, n_genes - 300)), dtype=np.float32
    )
    counts = sparse.hstack([adata.layers["counts"], more]).tocsr()
    big = AnnData(counts.copy(), obs=adata.obs, var=pd.DataFrame(index=[f"g{i}" for i in range(n_genes)]))
    big.layers["counts"] = counts
    big.obsm = {key: adata.obsm[key] for key in ("spatial", "crops")}
    big.uns["crops"] = adata.uns["crops"]
    sc.pp.normalize_total(big, target_sum=TARGET_SUM)
    sc.pp.log1p(big)
    big.var["highly_variable"] = np.arange(n_genes) < 300
    bl.tl.fit(big)
    out = []
    for turns in (0, 150):
        start = time.perf_counter()
        bl.tl.calibrate(big, n_turns=turns)
        out.append({"n_spots": big.n_obs, "n_genes": n_genes, "n_turns": turns, "seconds": time.perf_counter() - start})
        print(out[-1], flush=True)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=["toy", "her2st", "mob2k", "mob1k", "her2st_b", "cost"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--preset", choices=ENCODERS, default="default")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    bl.settings.verbosity, bl.settings.progress_bar = "warning", False
    warnings.filterwarnings("ignore", module="squidpy|docrep|anndata|scanpy")
    warnings.filterwarnings("ignore", message="near-empty|.*DecompressionBomb|Image size")
    if arguments.data == "cost":
        rows = cost()
    else:
        rows = [row for seed in arguments.seeds for row in measure(arguments.data, seed, arguments.preset)]
        table = pd.DataFrame(rows)
        print(table.groupby(["panel", "level"], sort=False)[["coverage", "genes_above", "width"]].mean().round(3))
    if arguments.json:
        command = "python " + " ".join(["benchmarks/trust_intervals.py", *map(shlex.quote, sys.argv[1:])])
        text = {"command": command, "commit": commit(), "rows": rows}
        arguments.json.write_text(json.dumps(text) + "\n")


if __name__ == "__main__":
    main()
