"""Mouse olfactory bulb for the pictures of the documentation: a reference of animal 1, a query of animal 2."""

import sys
from pathlib import Path
from typing import Any

import anndata as ad
import scanpy as sc
from _sections import image_of, read_pack
from anndata import AnnData

import bleep_sc as bl

REFERENCE, QUERY = ("MOB1", "MOB2"), "MOB4"
UM, PIXELS = 300, 112
"""Width of the crops: three spot diameters, at about twice the pixels that the image has."""
STATIC = Path(__file__).parents[1] / "docs" / "_static"


def sections() -> dict[str, AnnData]:
    """The four sections, log-normalised; spots of at least 500 counts."""
    found = read_pack("mob2k", min_counts=500)
    for section in found.values():
        sc.pp.normalize_total(section, target_sum=1e4)
        sc.pp.log1p(section)
    return found


def joined(parts: dict[str, AnnData]) -> AnnData:
    """Several sections as one object with crops; each animal is a patient."""
    adata = ad.concat(parts, label="section", uns_merge="unique", index_unique="-")
    adata.obs["patient"] = adata.obs["animal"].astype(str)
    mpp = next(iter(parts.values())).uns["source"]["um_per_px"]
    images = {name: image_of(name, "mob2k") for name in parts}
    bl.pp.crops(adata, images, library_key="section", um=UM, size=PIXELS, mpp=float(mpp))
    return adata


def predicted() -> tuple[AnnData, AnnData]:
    """A model of both sections of animal 1, and a section of animal 2 that it predicts without its counts.

    The measured expression of the query stays in `X`, to be drawn and scored; `impute` does not read it.
    """
    bl.settings.verbosity = "warning"
    bl.settings.progress_bar = sys.stderr.isatty()
    parts = sections()
    ref, query = joined({name: parts[name] for name in REFERENCE}), joined({QUERY: parts[QUERY]})
    bl.tl.fit(ref)
    bl.tl.impute(query, ref)
    bl.tl.evaluate(query, ref=ref)
    return ref, query


def save(figure: Any, path: Path, *, quality: int = 88) -> None:
    """Write a figure as WebP, on white paper so that it is legible on a dark page too."""
    import matplotlib.pyplot as plt

    how = {"quality": quality, "method": 6}
    figure.savefig(path, dpi=110, facecolor="white", bbox_inches="tight", pad_inches=0.1, pil_kwargs=how)
    plt.close(figure)
    print(f"wrote {path.name}, {path.stat().st_size / 1000:.0f} kB")
