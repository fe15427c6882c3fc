"""Real sections for the benchmarks: in $BLEEP_SC_DATA, else in shared/data beside the checkout or within it."""

import os
import shlex
import subprocess
import sys
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
    given, (within, beside) = os.environ.get("BLEEP_SC_DATA"), Path(__file__).parents[1:3]
    folders = [Path(given)] if given else [home / "shared" / "data" for home in (beside, within)]
    for folder in folders:
        if (folder / "her2st").exists():
            return folder
    msg = f"no real sections at {folders[0]}: set BLEEP_SC_DATA to the folder that holds her2st/."
    raise SystemExit(msg)


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


def read_pack(pack: str, *, min_counts: int) -> dict[str, AnnData]:
    """The sections of a pack by name, with raw counts, near-empty spots left out, and the pack in a column."""
    sections = {}
    for path in sorted((data_folder() / pack).glob("*.h5ad")):
        if "all" in path.stem:  # every spot of an array, those off the tissue too
            continue
        section = ad.read_h5ad(path)
        sc.pp.filter_cells(section, min_counts=min_counts)
        section.layers["counts"] = section.X.copy()
        section.obs["pack"] = pack
        sections[path.stem] = section
    return sections


def image_of(section: str, pack: str = "her2st") -> Path:
    return data_folder() / pack / f"{section}.jpg"


def standardized_by_section(features: np.ndarray, sections: np.ndarray) -> np.ndarray:
    """Features with mean 0 and spread 1 in each section."""
    out = np.empty_like(features)
    for section in np.unique(sections):
        rows = sections == section
        spread = features[rows].std(axis=0)
        out[rows] = (features[rows] - features[rows].mean(axis=0)) / np.where(spread > 1e-6, spread, 1)
    return out


def panel_f(ref: AnnData) -> np.ndarray:
    """Panel F of the protocol: HVGs of each training section after the detection filter, and the markers."""
    genes = set(ref.var_names[ref.var["highly_variable"]]) | (set(MARKERS) & set(ref.var_names))
    return np.array(sorted(genes))


def commit() -> str:
    """The commit that a figure was taken on; empty where there is no git."""
    try:
        run = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)  # noqa: S607  # nosec B607 - git, wherever it is
    except OSError:
        return ""
    return run.stdout.strip()


def provenance(*files: Path | None) -> dict[str, str]:
    """The commit and the command that figures were made by; where its files lay is nobody's business."""
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    for path in filter(None, files):
        command = command.replace(str(path), path.name)
    return {"commit": commit(), "command": command}
