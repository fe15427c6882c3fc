"""Real sections for the benchmarks: found in $BLEEP_SC_DATA, else in ../shared/data beside the checkout."""

import os
import subprocess
from pathlib import Path

import anndata as ad
import numpy as np
import scanpy as sc
from anndata import AnnData

HER2ST = ("C2", "C3", "C4", "C5", "C6")
MARKERS = (
    *("ERBB2", "GNAS", "FASN", "KRT19", "KRT8", "KRT18", "CD24", "MUC1", "COL1A1", "COL1A2"),
    *("COL3A1", "VIM", "DCN", "SPARC", "FN1", "IGHG1", "IGKC", "CD74", "HLA-DRA", "ACTA2"),
)


def data_folder() -> Path:
    """The folder that holds her2st/ and mob2k/."""
    folder = Path(os.environ.get("BLEEP_SC_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not (folder / "her2st").exists():
        msg = f"no real sections at {folder}: set BLEEP_SC_DATA to the folder that holds her2st/."
        raise SystemExit(msg)
    return folder


def load_her2st(*, min_counts: int = 500, target_sum: float | None = 1e4) -> dict[str, AnnData]:
    """The sections with near-empty spots left out, counts kept, log-normalised; to each section's median by None."""
    sections = {}
    for name in HER2ST:
        adata = ad.read_h5ad(data_folder() / "her2st" / f"{name}.h5ad")
        sc.pp.filter_cells(adata, min_counts=min_counts)
        adata.layers["counts"] = adata.X.copy()
        sc.pp.normalize_total(adata, target_sum=target_sum)
        sc.pp.log1p(adata)
        sections[name] = adata
    return sections


def image_of(section: str) -> Path:
    return data_folder() / "her2st" / f"{section}.jpg"


def panel_f(ref: AnnData) -> np.ndarray:
    """Panel F of the protocol: HVGs of each training section after the detection filter, and the markers."""
    genes = set(ref.var_names[ref.var["highly_variable"]]) | (set(MARKERS) & set(ref.var_names))
    return np.array(sorted(genes))


def commit() -> str:
    """The commit that a figure was taken on."""
    run = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)  # noqa: S607  # nosec B607 - git, wherever it is
    return run.stdout.strip()
