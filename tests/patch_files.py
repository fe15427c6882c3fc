"""Patch files as TRIDENT, HEST and CLAM write them, each by what its writer's source does."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np


def _append_rows(path: Path, arrays: dict[str, np.ndarray], attributes: dict[str, dict[str, Any]]) -> None:
    """All three write chunks of one row that can grow, and the attributes beside them."""
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            shape = values.shape
            text = values.dtype.kind == "U"
            array = file.create_dataset(
                name,
                shape=shape,
                maxshape=(None, *shape[1:]),
                chunks=(1, *shape[1:]),
                dtype=h5py.string_dtype("utf-8") if text else values.dtype,
            )
            array[:] = values
            for key, value in attributes.get(name, {}).items():
                array.attrs[key] = "None" if value is None else value


def trident(
    path: Path,
    corners: Any,
    features: np.ndarray | None = None,
    *,
    patch_size: int = 256,
    magnification: int = 40,
    target: int = 20,
    encoder: str | None = "uni_v1",
) -> Path:
    """`coords_to_h5` of trident/IO.py, and `extract_patch_features` of trident/wsi_objects/WSI.py."""
    attributes = {
        "patch_size": patch_size,
        "patch_size_level0": patch_size * magnification // target,
        "level0_magnification": magnification,
        "target_magnification": target,
        "overlap": 0,
        "name": "TCGA-01",
        "savetodir": "out",
        "level0_width": 100_000,
        "level0_height": 90_000,
    }
    arrays = {"coords": np.asarray(corners, dtype=np.int64)}
    if features is not None:
        arrays = {"features": features, **arrays}
    beside = {"coords": attributes, "features": {"name": "TCGA-01", "savetodir": "out", "encoder": encoder}}
    _append_rows(path, arrays, beside)
    return path


def hest(path: Path, corners: Any, barcodes: list[str], *, pixel_size: float = 0.5, side: int = 448) -> Path:
    """`WSIPatcher.to_h5` of hestcore/wsi.py: pictures of 224 pixels, barcodes, (n, 1)."""
    corners = np.asarray(corners, dtype=np.int64)
    beside = {
        "patch_size_src": side,
        "patch_size_target": 224,
        "downsample": side / 224,
        "pixel_size": pixel_size,
        "name": "MEND1",
    }
    pictures = np.zeros((len(corners), 224, 224, 3), dtype=np.uint8)
    pictures += np.arange(len(corners), dtype=np.uint8)[:, None, None, None]
    arrays = {"img": pictures, "coords": corners, "barcode": np.array(barcodes)[:, None]}
    _append_rows(path, arrays, {"img": beside, "coords": beside})
    return path


def first_hest(path: Path, centres: Any, barcodes: list[str], *, side: int = 448) -> Path:
    """`dump_patches` of HEST's first release: centres, y first, nothing beside them."""
    centres = np.asarray(centres, dtype=np.int64)
    arrays = {
        "img": np.zeros((len(centres), 224, 224, 3), dtype=np.uint8),
        "coords": centres[:, ::-1],
        "barcode": np.array(barcodes)[:, None],
    }
    _append_rows(path, arrays, {"img": {"patch_size": side, "factor": 2.0}})
    return path


def embeddings(path: Path, corners: Any, barcodes: list[str], features: np.ndarray) -> Path:
    """`embed_tiles` of hest/bench/benchmark.py."""
    names = np.array(barcodes, dtype="S")[:, None]
    _append_rows(path, {"embeddings": features, "barcodes": names, "coords": np.asarray(corners)}, {})
    return path


def clam(path: Path, corners: Any, *, patch_size: int = 256, level: int = 1, downsample: float = 4.0) -> Path:
    """`process_contour` of wsi_core/WholeSlideImage.py."""
    beside = {
        "patch_size": patch_size,
        "patch_level": level,
        "downsample": (downsample, downsample),
        "downsampled_level_dim": (2000, 1000),
        "level_dim": (2000, 1000),
        "name": "slide_1",
        "save_path": "out",
    }
    _append_rows(path, {"coords": np.asarray(corners, dtype=np.int64)}, {"coords": beside})
    return path


def clam_features(path: Path, corners: Any, features: np.ndarray) -> Path:
    """`compute_w_loader` of extract_features_fp.py."""
    _append_rows(path, {"features": features, "coords": np.asarray(corners, dtype=np.int32)}, {})
    return path
