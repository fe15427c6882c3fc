"""What all of 10x Genomics' folders have in common: matrices of counts, and images."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy import sparse

GENES = 5


def write_counts(path: Path, barcodes: list[str], counts: np.ndarray, *, genes: list[str] | None = None) -> None:
    """Write a matrix (barcodes, genes) as `cellranger` does, version 3 of that format."""
    genes = genes or [f"gene{i}" for i in range(counts.shape[1])]
    path.parent.mkdir(parents=True, exist_ok=True)
    matrix = sparse.csr_matrix(counts.astype(np.int32))  # genes by barcodes, by column: the same numbers
    names = np.array(genes, dtype="S")
    with h5py.File(path, "w") as file:
        file.attrs["library_ids"] = np.array(["mini"], dtype="S")
        file.attrs["chemistry_description"] = "miniature"
        file.attrs["software_version"] = "spaceranger-0"
        group = file.create_group("matrix")
        group["barcodes"] = np.array(barcodes, dtype="S")
        group["data"], group["indices"], group["indptr"] = matrix.data, matrix.indices, matrix.indptr
        group["shape"] = np.array(counts.shape[::-1])
        features = group.create_group("features")
        features["id"] = features["name"] = names
        features["feature_type"] = np.array([b"Gene Expression"] * counts.shape[1])
        features["genome"] = np.array([b"toy"] * counts.shape[1])


def some_counts(n: int) -> np.ndarray:
    """Counts of which each row is another."""
    return np.arange(1, n * GENES + 1).reshape(n, GENES) % 97


def says_where(height: int, width: int) -> np.ndarray:
    """An image (y, x, 3) of at most 256 pixels a side, whose red is x and whose green is y."""
    image: np.ndarray[Any, Any] = np.full((height, width, 3), 77, dtype=np.uint8)
    image[..., 0] = np.arange(width)
    image[..., 1] = np.arange(height)[:, None]
    return image


def write_small_pictures(folder: Path, image: np.ndarray, *, hires: int, lowres: int) -> None:
    """Write the image reduced so many times, as Space Ranger keeps it."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for name, step in (("hires", hires), ("lowres", lowres)):
        Image.fromarray(image[::step, ::step]).save(folder / f"tissue_{name}_image.png")
