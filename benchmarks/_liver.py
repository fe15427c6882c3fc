"""The liver sections of the BLEEP paper (GSE240429), read from the folder that its repository distributes.

``GSE240429_data`` of https://github.com/bowang-lab/BLEEP, with the four images from GEO added::

    data/filtered_expression_matrices/hvg_union.npy          the 3,467 genes of the paper, a mask of features.tsv (*)
    data/filtered_expression_matrices/{1..4}/barcodes.tsv    spots in tissue, in order of the alphabet
                                            /features.tsv    Ensembl id and symbol of each gene
                                            /matrix.mtx      counts, genes × spots
                                            /harmony_matrix.npy    Harmony's result, the paper's genes × spots (*)
    data/tissue_pos_matrices/tissue_positions_list_{1..4}.csv      all places of the array, as Space Ranger has them
    image/GEX_C73_{A1,B1,C1,D1}_Merged.tif                   full-resolution H&E

Files marked (*) may be absent. The images may also lie in ``images/``, as the paper's code expects, end in ``.tiff``,
and keep the sample number that GEO puts before their name.
"""

import struct
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import tifffile
from anndata import AnnData
from anndata.utils import make_index_unique
from scipy import sparse
from scipy.io import mmread
from squidpy.im import ImageContainer

import bleep_sc as bl

SECTIONS = {"A1": "1", "B1": "2", "C1": "3", "D1": "4"}
"""Capture area of the slide, and the number that the paper gives it."""
TEST = "C1"
MARKERS = ("HAL", "CYP3A4", "VWF", "SOX9", "KRT7", "ANXA4", "ACTA2", "DCN")

_SAMPLES = {"A1": "GSM7697868", "B1": "GSM7697869", "C1": "GSM7697870", "D1": "GSM7697871"}
_MATRICES = Path("data/filtered_expression_matrices")
_IMAGES = ("image", "images")
# of Space Ranger's tissue_positions_list.csv, which has no header; row and column are y and x
_POSITIONS = ("barcode", "in_tissue", "array_row", "array_col", "pixel_row", "pixel_col")
_ADVICE = (
    "Expression and positions come with https://github.com/bowang-lab/BLEEP (folder GSE240429_data); the images, "
    "about 2.4 GB each, from GEO GSE240429, one file for each sample ("
    + ", ".join(f"{sample}: {name}" for name, sample in _SAMPLES.items())
    + "), to be unpacked with gunzip and put into image/. Take the files of the samples: D1's image was found "
    "truncated in the tar file of the whole series, so compare its size with what GEO gives."
)


def find_root(folder: Path) -> Path:
    """The folder that holds data/ and image/, where the user names it, its data/, or a clone of the repository."""
    folder = folder.expanduser().resolve()
    for candidate in (folder, folder.parent, folder / "GSE240429_data"):
        if (candidate / _MATRICES).is_dir():
            return candidate
    return folder


def check_files(root: Path) -> None:
    """Stop with everything that is missing or cut short, before anything is read."""
    needed = [
        _MATRICES / n / file for n in SECTIONS.values() for file in ("barcodes.tsv", "features.tsv", "matrix.mtx")
    ]
    needed += [_positions_file(name) for name in SECTIONS]
    problems = [f"{path.as_posix()} is missing" for path in needed if not (root / path).is_file()]
    for name in SECTIONS:
        problems += _image_problems(root, name)
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        msg = f"{root} does not hold all of GSE240429:\n{listed}\n{_ADVICE}"
        raise SystemExit(msg)


def read_sections(root: Path) -> dict[str, AnnData]:
    """The four sections, log-normalised each to its own median as the paper does, with counts, without crops."""
    sections = {name: _read_section(root, name) for name in SECTIONS}
    first = sections["A1"].var
    for name, adata in sections.items():
        if not adata.var.equals(first):
            msg = f"{_MATRICES / SECTIONS[name]}/features.tsv lists other genes than that of section 1."
            raise ValueError(msg)
    return sections


def cut_crops(sections: dict[str, AnnData], root: Path, *, size: int) -> None:
    """Cut the sections' crops, with one whole image in memory at a time."""
    for name, adata in sections.items():
        # the first page, as the paper's cv2.imread
        image = ImageContainer(tifffile.imread(image_file(root, name), key=0))
        # it is Visium, but the files name no spot diameter that would confirm its lattice
        bl.pp.crops(adata, {name: image}, library_key="section", size=size, check="off")


def paper_genes(root: Path, sections: dict[str, AnnData]) -> tuple[np.ndarray, bool]:
    """The paper's genes in the order of its matrices, and whether they are as released.

    Otherwise chosen here as there: 1,000 of each section, the test section included; and the markers.
    """
    genes = sections["A1"].var_names.to_numpy()
    path = root / _MATRICES / "hvg_union.npy"
    if not path.is_file():
        pooled = pool(sections)
        bl.pp.select_genes(pooled, batch_key="section", min_fraction=0)
        return genes[pooled.var["highly_variable"].to_numpy() | np.isin(genes, MARKERS)], False
    mask = np.load(path, allow_pickle=False)
    if mask.dtype != bool or mask.shape != genes.shape:
        msg = (
            f"{path.name} must hold one truth value for each line of features.tsv, {len(genes)}; found {mask.dtype} "
            f"{mask.shape}."
        )
        raise ValueError(msg)
    return genes[mask], True


def paper_harmony(root: Path, sections: dict[str, AnnData]) -> tuple[dict[str, np.ndarray], np.ndarray, str]:
    """Expression that Harmony has corrected over all four sections, by section (spots × genes); genes; its source."""
    genes, released_genes = paper_genes(root, sections)
    files = {name: root / _MATRICES / number / "harmony_matrix.npy" for name, number in SECTIONS.items()}
    if released_genes and all(path.is_file() for path in files.values()):
        corrected = {}
        for name, path in files.items():
            matrix, expected = np.load(path, allow_pickle=False), (len(genes), sections[name].n_obs)
            if matrix.shape != expected:
                msg = f"{SECTIONS[name]}/{path.name} must be genes × spots = {expected}; found {matrix.shape}."
                raise ValueError(msg)
            corrected[name] = np.ascontiguousarray(matrix.T, dtype=np.float32)
        return corrected, genes, "released"
    pooled = pool(sections, genes)
    bl.pp.harmonize(pooled, batch_key="section")
    of_section = pooled.obs["section"].to_numpy()
    corrected = {name: pooled.obsm["X_harmony"][of_section == name] for name in sections}
    return corrected, genes, "computed on the released genes" if released_genes else "computed"


def pool(sections: dict[str, AnnData], genes: np.ndarray | None = None) -> AnnData:
    """Several sections as one object: expression alone, of some genes or all."""
    return ad.concat([with_genes(adata, genes, bare=True) for adata in sections.values()])


def with_genes(adata: AnnData, genes: np.ndarray | None = None, *, bare: bool = False) -> AnnData:
    """Expression of some genes. Crops and places are shared with `adata`, not copied; `bare` leaves them out."""
    genes = adata.var_names.to_numpy() if genes is None else genes
    return AnnData(
        adata[:, genes].X.copy(),
        obs=adata.obs.copy(),
        var=pd.DataFrame(index=genes),
        obsm={} if bare else dict(adata.obsm),
        uns={} if bare else dict(adata.uns),
    )


def image_file(root: Path, name: str) -> Path | None:
    """The full-resolution image of a section."""
    return next((path for path in _image_candidates(root, name) if path.suffix.lower() in (".tif", ".tiff")), None)


def _image_candidates(root: Path, name: str) -> list[Path]:
    return [path for folder in _IMAGES for path in sorted((root / folder).glob(f"*GEX_C73_{name}_Merged.tif*"))]


def _image_problems(root: Path, name: str) -> list[str]:
    path = image_file(root, name)
    if path is None:
        packed = [found.name for found in _image_candidates(root, name)]
        hint = f" (there is {packed[0]}: unpack it)" if packed else ""
        return [f"image/GEX_C73_{name}_Merged.tif is missing{hint}"]
    shown = path.relative_to(root).as_posix()
    try:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            end = max(begin + n for begin, n in zip(page.dataoffsets, page.databytecounts, strict=True))
    except (tifffile.TiffFileError, IndexError, struct.error) as err:
        return [f"{shown} cannot be read as TIFF, so it may be truncated ({err})"]
    size = path.stat().st_size
    return [f"{shown} is truncated: {size:,} bytes, its pixels end at {end:,}"] if end > size else []


def _positions_file(name: str) -> Path:
    return Path(f"data/tissue_pos_matrices/tissue_positions_list_{SECTIONS[name]}.csv")


def _read_section(root: Path, name: str) -> AnnData:
    folder = root / _MATRICES / SECTIONS[name]
    barcodes = pd.read_csv(folder / "barcodes.tsv", sep="\t", header=None)[0].astype(str)
    features = pd.read_csv(folder / "features.tsv", sep="\t", header=None)
    counts = sparse.csr_matrix(mmread(folder / "matrix.mtx").T, dtype=np.float32)
    if counts.shape != (len(barcodes), len(features)):
        msg = (
            f"{_MATRICES / SECTIONS[name]}/matrix.mtx must be genes × spots = ({len(features)}, {len(barcodes)}), as "
            f"features.tsv and barcodes.tsv; found {counts.shape[::-1]}."
        )
        raise ValueError(msg)
    positions = pd.read_csv(root / _positions_file(name), header=None, names=list(_POSITIONS)).set_index("barcode")
    if lost := set(barcodes) - set(positions.index):
        msg = f"{_positions_file(name)} lacks {len(lost)} of {len(barcodes)} spots, such as {min(lost)!r}."
        raise ValueError(msg)
    # all sections come from slides with the same barcodes, and the positions are in another order
    positions = positions.loc[barcodes]
    adata = AnnData(
        counts,
        obs=pd.DataFrame(
            {
                "section": pd.Categorical([name] * len(barcodes), categories=list(SECTIONS)),
                "array_row": positions["array_row"].to_numpy(),
                "array_col": positions["array_col"].to_numpy(),
            },
            index=[f"{name}_{barcode}" for barcode in barcodes],
        ),
        var=pd.DataFrame(
            {"gene_ids": features[0].to_numpy()}, index=make_index_unique(pd.Index(features[1].astype(str)))
        ),
        obsm={"spatial": positions[["pixel_col", "pixel_row"]].to_numpy(dtype=np.float64)},
        layers={"counts": counts.copy()},
    )
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    return adata
