"""Every method on the same folds: real sections, or painted tissue of known truth.

    python benchmarks/compare.py her2st                    # HER2ST C2 to C6, leave one section out
    python benchmarks/compare.py mob2k --group networks    # mouse olfactory bulb, leave one animal out
    python benchmarks/compare.py toy --group parts         # toy tissue, leave one patient out
    python benchmarks/compare.py transfer_c_b4             # HER2ST, five sections of patient C to one of patient B
    python benchmarks/compare.py transfer_mob2k_mob1k      # olfactory bulb to another array, of other animals

Spots of at least 500 counts; in each fold the genes detected in at least 10 % of the training spots, of these the union
of each section's 1,000 most variable and (HER2ST) 20 markers; Pearson of each gene over the spots of each held-out
section on measured log-expression, 0 where undefined. HEG-50 and HVG-50 are chosen on the training sections. The
depth-free score stands beside it: truth and prediction both regressed on the spots' true log depth. A transfer goes one
way, over the genes that both sides have (`_transfers.py`; there and back are two names); from patient C to B4 the spots
of at least 200 counts are scored too, by models that were trained on spots of at least 500.

Four groups of methods, each with equal input. "features": on features made by hand (crops three spot diameters wide;
"z": every section standardised by itself, which uses all of its images and none of its expression) the floors, the
regressor, published BLEEP's heads and loss, and the default recipe. "parts": the default recipe with one part of it
left out or changed, and published BLEEP. "networks": from random weights on crops of 1.5 diameters, all with the same
number of epochs, few of them, so that this runs on a CPU (the papers train 50 to 150, ST-Net and BLEEP from
ImageNet): BLEEP and the regressor with the same ResNet-18, ST-Net's DenseNet-121, HisToGene's transformer, which
takes one step a section. "presets": what `fit` takes by one word, on features made once; cut crops at `--pixels 224`,
of which a network reads the centre.
"""

import argparse
import json
import shlex
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import anndata as ad
import numpy as np
import pandas as pd
from _sections import MARKERS, commit, image_of, read_pack, standardized_by_section
from _transfers import TRANSFERS, read_both, score_transfer
from anndata import AnnData
from squidpy.im import ImageContainer

import bleep_sc as bl
from bleep_sc.models.encoders.color import color_features

METRICS = ("pearson", "pearson_depth_free", "variance_ratio", "gene_gene", "moran_agreement")
WIDE, NEAR = "X_color", "crops_near"
OF_PRESETS = {"color": "X_encoded_color", "lite0": "X_encoded_lite0", "best": "X_encoded_best"}
NO_DEPTH, NO_LINEAR = "default, depth not apart", "default, no linear share"
PATIENT_KEYS = {"her2st": ("section", "patient"), "mob2k": ("animal", "animal"), "toy": ("patient", "patient")}


def main() -> None:
    arguments = _parse()
    warnings.filterwarnings("ignore", module="squidpy|docrep|anndata|scanpy")
    warnings.filterwarnings(
        "ignore", message="the model has nearly collapsed|near-empty|.*DecompressionBomb|Image size"
    )
    bl.settings.verbosity = "warning"
    bl.settings.progress_bar = sys.stderr.isatty()
    adata = load(arguments.data, size=arguments.size, pixels=arguments.pixels, keep_crops=arguments.group == "presets")
    if arguments.group == "presets":
        encode(adata)
    runs = methods(arguments.group, arguments.epochs)
    runs = {label: runs[label] for label in arguments.methods or runs}
    summaries, chosen, seconds = [], [], []
    for label, given in runs.items():
        # what has no random part gives the same for every seed
        for seed in arguments.seeds if given["method"] in SEEDED else arguments.seeds[:1]:
            start = time.perf_counter()
            with changed(label):
                entry = scores(arguments.data, adata, label, given, seed=seed)
            summaries.append(entry["summary"].assign(seed=seed))
            if len(entry["chosen"]):
                chosen.append(entry["chosen"].assign(seed=seed))
            seconds.append({"method": label, "seed": seed, "seconds": time.perf_counter() - start})
            rows = entry["summary"].query("metric == 'pearson'")
            shown = ", ".join(f"{panel} {value:.3f}" for panel, value in zip(rows["panel"], rows["value"], strict=True))
            print(f"{label}, seed {seed}: {shown} ({seconds[-1]['seconds']:.0f} s)", flush=True)
            if arguments.json:  # after each: a long run that is cut off keeps what it has
                _write(arguments, pd.concat(summaries), pd.concat([pd.DataFrame(), *chosen]), seconds)
    for title, rows in by_threshold(pd.concat(summaries)):
        print(title + table(rows))


def scores(data: str, adata: AnnData, label: str, given: dict[str, Any], *, seed: int) -> dict[str, pd.DataFrame]:
    """The tables of one method: of all folds, or of a transfer."""
    if data in TRANSFERS:
        return score_transfer(TRANSFERS[data], adata, label, given, metrics=METRICS, seed=seed)
    group_key, patient_key = PATIENT_KEYS[data]
    bl.tl.cross_validate(
        adata,
        group_key=group_key,
        patient_key=patient_key,
        library_key="section",
        methods=[label],
        method_kwargs={label: given},
        markers=[gene for gene in MARKERS if gene in adata.var_names] if data == "her2st" else [],
        metrics=METRICS,
        random_state=seed,
    )
    del adata.layers[f"cv_{label}"]
    entry: dict[str, pd.DataFrame] = adata.uns.pop("cv")
    return entry


SEEDED = ("bleep", "stnet", "histogene", "regressor")


def methods(group: str, epochs: int) -> dict[str, dict[str, Any]]:
    """What is compared: a label, and what `fit` and `impute` get."""
    z, raw = {"image_key": f"{WIDE}_z"}, {"image_key": WIDE}
    published = {"method": "bleep", "preset": "paper", "accumulate": 1, "patience": 10}
    ours = {"method": "bleep", **raw}
    if group == "features":
        return {
            **{floor: {"method": floor} for floor in ("mean", "counts", "coordinates")},
            "ridge": {"method": "ridge", **raw},
            "ridge, z": {"method": "ridge", **z},
            "ridge to genes, z": {"method": "ridge", "n_components": 0, **z},
            "knn, z": {"method": "knn", **z},
            "regressor on features, z": {"method": "regressor", **z},
            "published BLEEP on features, z": {**published, **z},
            "BLEEP, default": ours,
        }
    if group == "parts":
        space = {**ours, "predict": "retrieval"}
        return {
            "published BLEEP on features": {**published, **raw},
            "published BLEEP on features, z": {**published, **z},
            "retrieval": space,
            "retrieval, one member": {**space, "members": 1},
            "retrieval, no neighbours": {**space, "context": 0},
            "retrieval, 5 components": {**space, "n_components": 5},
            "retrieval, temperature 1": {**space, "temperature": 1.0},
            "regression": {**ours, "predict": "regression"},
            "default": ours,
            "default, no neighbours": {**ours, "context": 0},
            "default, 24 neighbours": {**ours, "context": 24},
            NO_DEPTH: ours,
            NO_LINEAR: ours,
        }
    if group == "presets":
        return {
            "default": {"method": "bleep", "image_key": OF_PRESETS["color"]},
            "best": {"method": "bleep", "preset": "best", "image_key": OF_PRESETS["best"]},
            "lite0": {"method": "bleep", "image_key": OF_PRESETS["lite0"]},
            "ridge": {"method": "ridge", "image_key": OF_PRESETS["color"]},
            "ridge, lite0": {"method": "ridge", "image_key": OF_PRESETS["lite0"]},
        }
    net = {"image_key": NEAR, "weights": None, "max_epochs": epochs, "patience": 0}
    return {
        "BLEEP, ResNet-18": {**published, "encoder": "resnet18", "batch_size": 64, **net},
        "regressor, ResNet-18": {"method": "regressor", "encoder": "resnet18", "batch_size": 64, **net},
        "ST-Net, published optimiser": {"method": "stnet", **net},
        "ST-Net, Adam": {"method": "stnet", "optimizer": "adam", **net},
        "HisToGene, published rate": {"method": "histogene", **net},
        "HisToGene, lr 1e-4": {"method": "histogene", "lr": 1e-4, **net},
    }


def load(data: str, *, size: int, pixels: int = 112, keep_crops: bool = False) -> AnnData:
    """Sections with crops for networks and colour features of wide crops, plain and section-wise.

    The networks' crops are `size` pixels wide, the wide ones `pixels`.
    """
    if data == "toy":
        adata: Any = bl.datasets.toy()
        adata.obsm[NEAR], adata.uns[NEAR] = adata.obsm["crops"], adata.uns["crops"]
    else:
        sections = read_both(TRANSFERS[data]) if data in TRANSFERS else read_pack(data, min_counts=500)
        adata = ad.concat(sections, uns_merge="unique", index_unique="-")
        _cut(adata, sections, size=size, pixels=pixels)
    adata.obs = adata.obs.astype({"section": str})
    features = color_features(adata.obsm["crops"])
    if not keep_crops:
        del adata.obsm["crops"], adata.uns["crops"]
    adata.obsm[WIDE] = features
    adata.obsm[f"{WIDE}_z"] = standardized_by_section(features, adata.obs["section"].to_numpy())
    return adata


def encode(adata: AnnData) -> None:
    """Make the features of each preset once for all folds, and let the crops go."""
    lite = "efficientnet_lite0"
    for name, encoder in {"color": "color", "lite0": lite, "best": ["color", lite]}.items():
        bl.tl.encode(adata, encoder=encoder, key_added=OF_PRESETS[name])
    del adata.obsm["crops"], adata.uns["crops"]


@contextmanager
def changed(label: str) -> Iterator[None]:
    """Take one part out of the default recipe that no argument of `fit` takes out."""
    with ExitStack() as stack:
        if label == NO_DEPTH:
            stack.enter_context(patch("bleep_sc.tl._training._known_depth", lambda _: None))
        elif label == NO_LINEAR:
            stack.enter_context(patch("bleep_sc.methods.hybrid.choose._LINEAR_SHARE", 0.0))
        yield


def _cut(adata: AnnData, sections: dict[str, AnnData], *, size: int, pixels: int) -> None:
    """Cut both widths of crops, each section at its own scale."""
    images = {
        name: ImageContainer(str(image_of(name, section.obs["pack"].iloc[0]))) for name, section in sections.items()
    }
    sources = {name: section.uns["source"] for name, section in sections.items()}
    mpp = {name: float(source["um_per_px"]) for name, source in sources.items()}
    (spot,) = {float(source["spot_diameter_um"]) for source in sources.values()}
    for key, diameters, side in (("crops", 3, pixels), (NEAR, 1.5, size)):
        bl.pp.crops(adata, images, um=diameters * spot, size=side, mpp=mpp, library_key="section", key_added=key)


def by_threshold(summaries: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Tables to print, each with its title: of a transfer, one for each least count of the spots that are scored."""
    if "at_least" not in summaries:
        return [("", summaries)]
    return [
        (f"\nspots of at least {least} counts\n", rows) for least, rows in summaries.groupby("at_least", sort=False)
    ]


def table(summaries: pd.DataFrame) -> str:
    """Mean over seeds, with the spread over seeds where there are several; depth-free scores beside."""
    panels = [panel for panel in dict.fromkeys(summaries["panel"]) if panel != "HVG-200"]
    lines = [f"{'method':<28}" + "".join(f"{panel + ' (depth-free)':>26}" for panel in panels) + f"{'variance':>10}"]
    for method, rows in summaries.groupby("method", sort=False):
        cells = []
        for panel in panels:
            own = rows[rows["panel"] == panel].set_index("metric")["value"]
            values = np.atleast_1d(own["pearson"])
            spread = f" ±{np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.3f}{spread} ({np.mean(own['pearson_depth_free']):.3f})")
        ratio = rows[(rows["panel"] == "HVG-50") & (rows["metric"] == "variance_ratio")]["value"].mean()
        lines.append(f"{method:<28}" + "".join(f"{cell:>26}" for cell in cells) + f"{ratio:>10.2f}")
    first = summaries[(summaries["method"] == summaries["method"].iloc[0]) & (summaries["metric"] == "pearson")]
    ceilings = first.groupby("panel")["ceiling"].mean()
    lines.append(f"{'noise ceiling':<28}" + "".join(f"{ceilings[panel]:>26.3f}" for panel in panels))
    lines.append(f"\n{summaries['scope'].iloc[0]}; intervals over {summaries['interval_over'].iloc[0]}")
    return "\n".join(lines)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=(*PATIENT_KEYS, *TRANSFERS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", help="some of the labels only")
    parser.add_argument("--group", choices=("features", "networks", "parts", "presets"), default="features")
    parser.add_argument("--epochs", type=int, default=5, help="of the networks")
    parser.add_argument("--size", type=int, default=64, help="pixels of the networks' crops (toy tissue: 64)")
    parser.add_argument("--pixels", type=int, default=112, help="of the wide crops (toy tissue: 64)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser.parse_args()


def _write(
    arguments: argparse.Namespace, summaries: pd.DataFrame, chosen: pd.DataFrame, seconds: list[dict[str, Any]]
) -> None:
    record = {
        "commit": commit(),
        # the file's name alone: where it lay is nobody's business
        "command": shlex.join(["python", "benchmarks/compare.py", *sys.argv[1:]]).replace(
            str(arguments.json), arguments.json.name
        ),
        "data": arguments.data,
        "summary": json.loads(summaries.to_json(orient="records")),
        "chosen": json.loads(chosen.to_json(orient="records")),
        "seconds": seconds,
    }
    arguments.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
