"""The main job from end to end: ``python -m bleep_sc.demo``.

Without arguments it runs on painted tissue, whose truth is known. With ``--data path/to/her2st --query C6`` it runs on
real sections.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from anndata import AnnData

import bleep_sc as bl
from bleep_sc._logging import logger

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NO_SCORE = "constant"
_NEXT = """\
Next, with your own data: a Visium section that was measured, and a slide that was never sequenced. Copy these lines:

import bleep_sc as bl
import scanpy as sc
import squidpy as sq

ref = sq.read.visium("A1/outs", library_id="A1")
ref.var_names_make_unique()
sc.pp.filter_cells(ref, min_counts=500)
ref.layers["counts"] = ref.X.copy()
sc.pp.normalize_total(ref, target_sum=1e4)
sc.pp.log1p(ref)
bl.pp.crops(ref, "A1.tif", um=100)  # 100 µm of tissue around each spot
bl.pp.select_genes(ref)
bl.tl.fit(ref)

slide = bl.pp.grid("slide.svs", ref, um=100)  # spots over the tissue of the slide
bl.pp.crops(slide, um=100)
bl.tl.impute(slide, ref)
bl.pl.imputed(slide, ["ERBB2", "COL1A1"])
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Train on some sections, impute a held-out one, score it against two controls, and say what to do next."""
    arguments = _parse(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    ref, query = _toy_tissue() if arguments.data is None else _real_sections(arguments.data, arguments.query)
    logger.info("Reference: %d spots; query: %d spots; %d genes.", ref.n_obs, query.n_obs, ref.n_vars)
    bl.tl.fit(ref, encoder=arguments.encoder, weights=arguments.weights)
    bl.tl.impute(query, ref)
    bl.tl.evaluate(query)
    _add_controls(query, ref)
    print(_table(query))

    figure = arguments.out / "imputed.png"
    section = str(query.obs["section"].iloc[0])
    _save_figure(query, section, figure)
    query.write_h5ad(arguments.out / "query.h5ad")
    ref.write_h5ad(arguments.out / "ref.h5ad")
    print(f"\nWrote {figure}, query.h5ad and ref.h5ad in {time.perf_counter() - start:.0f} s.\n")
    print(_NEXT, end="")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bleep_sc.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of HER2ST sections; painted tissue without it")
    parser.add_argument("--query", default="C6", help="section to hold out and impute (with --data)")
    parser.add_argument("--encoder", default="color", help="image encoder, such as resnet50; color by default")
    parser.add_argument("--weights", default=None, help="'imagenet' or a file; random by default")
    parser.add_argument("--out", type=Path, default=Path("demo_output"), help="folder for figure and .h5ad files")
    arguments = parser.parse_args(argv)
    if arguments.data is not None and not arguments.data.is_dir():
        parser.error(f"--data {arguments.data}: there is no such folder")
    if arguments.out.exists() and not arguments.out.is_dir():
        parser.error(f"--out {arguments.out}: this is a file, not a folder")
    return arguments


def _toy_tissue() -> tuple[AnnData, AnnData]:
    print("Painting tissue of three patients; the third is held out ...")
    tissue = cast(AnnData, bl.datasets.toy())
    held_out = (tissue.obs["patient"] == "P3").to_numpy()
    return tissue[~held_out].copy(), tissue[held_out].copy()


def _real_sections(path: Path, query_section: str) -> tuple[AnnData, AnnData]:
    import scanpy as sc

    print(f"Reading the sections of {path} ...")
    adata, images = bl.datasets.her2st(path)
    if query_section not in images:
        msg = f"--query {query_section}: there is no such section in {path}, which has {', '.join(sorted(images))}."
        raise SystemExit(msg)
    sc.pp.filter_cells(adata, min_counts=500)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    print("Cutting crops ...")
    bl.pp.crops(adata, images, library_key="section", mpp=_scales(adata))
    held_out = (adata.obs["section"] == query_section).to_numpy()
    ref, query = adata[~held_out].copy(), adata[held_out].copy()
    bl.pp.select_genes(ref, batch_key="section")
    return ref, query


def _scales(adata: AnnData) -> dict[str, float]:
    """µm per pixel of each section, from the diameter of its spots: those of this array are 100 µm wide."""
    libraries = adata.uns["spatial"].items()
    return {name: 100 / float(library["scalefactors"]["spot_diameter_fullres"]) for name, library in libraries}


def _add_controls(query: AnnData, ref: AnnData) -> None:
    """Add two predictions that must not beat the model: the reference's mean, and the model's own, shuffled.

    Predictions are shuffled among the spots of a section, as if their crops had been.
    """
    expression: Any = ref[:, query.var_names].X
    query.layers["mean"] = np.broadcast_to(np.asarray(expression.mean(axis=0), dtype=np.float32), query.shape).copy()
    rng = np.random.default_rng(0)
    sections = query.obs["section"].to_numpy()
    order = np.arange(query.n_obs)
    for section in np.unique(sections):
        rows = np.flatnonzero(sections == section)
        order[rows] = rng.permutation(rows)
    imputed: Any = query.layers["bleep"]
    query.layers["shuffled"] = imputed[order]
    for layer in ("mean", "shuffled"):
        with bl.settings.override(verbosity="error"):
            bl.tl.evaluate(query, layer=layer, library_key="section")


def _table(query: AnnData) -> str:
    """A table of mean Pearson by gene within sections: the model beside the controls."""
    layers = {"bleep": "BLEEP", "mean": "reference mean", "shuffled": "shuffled images"}
    groups: dict[str, Any] = {"all genes": np.ones(query.n_vars, dtype=bool)}
    groups |= {
        name: query.var_names.isin(genes) for name, genes in query.uns["bleep"]["panels"].items() if name != "HVG-200"
    }
    if "image_linked" in query.var:
        linked = query.var["image_linked"].to_numpy()
        groups = {"genes the image knows": linked, "genes it cannot know": ~linked}
    heading = "mean Pearson within sections"
    lines = ["", f"{heading}  " + "".join(f"{name:>17}" for name in layers.values())]
    for group, mask in groups.items():
        cells = [_mean_score(query, layer, mask) for layer in layers]
        lines.append(f"{group:<{len(heading) + 2}}" + "".join(f"{cell:>17}" for cell in cells))
    if any(_NO_SCORE in line for line in lines):
        lines += ["", f"{_NO_SCORE}: one value for all spots, so there is no pattern to score."]
    return "\n".join(lines)


def _mean_score(query: AnnData, layer: str, mask: np.ndarray) -> str:
    """The mean of some genes; a prediction that is the same in all spots has no correlation, not one of 0."""
    values: Any = query.layers[layer]
    if not np.ptp(values[:, mask], axis=0).any():
        return _NO_SCORE
    var: pd.DataFrame = query.var
    return f"{var.loc[mask, f'{layer}_pearson'].fillna(0).mean():.3f}"


def _genes_to_show(query: AnnData) -> tuple[list[str], str]:
    """Three genes that the image tells and three that it does not, and a title that says which are which."""
    var: pd.DataFrame = query.var
    panels = query.uns["bleep"]["panels"]
    if "image_linked" in var:
        variable = var.loc[list(panels["HVG-200"]), "image_linked"]
        told, untold = variable.index[variable], variable.index[~variable]
        title = "Left: three genes that the image knows. Right: three that it cannot know."
        return [*told[:3], *untold[:3]], title
    scores = var.loc[[gene for gene in panels["HVG-50"] if gene in query.var_names], "bleep_pearson"].dropna()
    ranked = scores.sort_values(ascending=False).index
    title = (
        f"Of the {len(ranked)} most variable genes. Left: the three predicted best. Right: the three predicted worst."
    )
    return [*ranked[:3], *ranked[3:][-3:]], title


def _save_figure(query: AnnData, section: str, path: Path) -> None:
    import matplotlib

    backend = matplotlib.get_backend()
    matplotlib.use("agg")  # drawing to a file needs no screen
    try:
        genes, title = _genes_to_show(query)
        fig = bl.pl.imputed(query, genes, library_key="section", library_id=section, show=False, return_fig=True)
        fig = cast("Figure", fig)
        fig.suptitle(title)
        fig.savefig(path, dpi=120)
    finally:
        matplotlib.use(backend)


if __name__ == "__main__":
    main()
