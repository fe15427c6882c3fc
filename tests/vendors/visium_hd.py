"""The `outs` folder of Space Ranger 3 and 4 of a Visium HD slide: bins of 2, 8 and 16 µm, cells and nuclei."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import tifffile

from vendors.tenx import says_where, some_counts, write_counts, write_small_pictures

TURN = np.deg2rad(3.0)
"""Bins lie a little turned on the image."""
HIRES, LOWRES = 2, 5


@dataclass(frozen=True)
class Slide:
    """What lies on the slide; as it stands, 64 x 64 µm on an image of 220 x 200 pixels."""

    image: np.ndarray = field(default_factory=lambda: says_where(200, 220))
    um_per_px: float = 0.5
    side_um: int = 64
    begin: tuple[float, float] = (40.0, 30.0)
    """Pixel at which the first bin begins."""
    bins: tuple[int, ...] = (2, 8, 16)
    counts: Callable[[np.ndarray], np.ndarray] = lambda xy: some_counts(len(xy))
    """Counts of bins by the pixels of their centres."""
    genes: list[str] | None = None

    def to_px(self, um: np.ndarray) -> np.ndarray:
        turned = um @ np.array([[np.cos(TURN), np.sin(TURN)], [-np.sin(TURN), np.cos(TURN)]])
        return np.asarray(self.begin + turned / self.um_per_px)

    def factors(self) -> dict[str, float]:
        small = {"tissue_hires_scalef": 1 / HIRES, "tissue_lowres_scalef": 1 / LOWRES}
        return small | {"microns_per_pixel": self.um_per_px}


@dataclass(frozen=True)
class VisiumHD:
    """A folder, and what is true of it."""

    folder: Path
    xy: dict[str, np.ndarray]
    """Centres in pixels by table, in the order of its barcodes."""
    barcodes: dict[str, list[str]]


def write_visium_hd(folder: Path, slide: Slide | None = None, *, cells: bool = True, prefix: str = "") -> VisiumHD:
    """Write the slide; `cells` needs bins of 2 µm."""
    slide = slide or Slide()
    image = slide.image
    xy, barcodes = {}, {}
    for side in slide.bins:
        table = f"square_{side:03d}um"
        xy[table], barcodes[table] = _write_bins(folder / "binned_outputs" / table, slide, side)
    write_small_pictures(folder / "spatial", image, hires=HIRES, lowres=LOWRES)
    tifffile.imwrite(folder / "spatial" / "cytassist_image.tiff", image[::4, ::4], photometric="rgb")
    (folder / "microscope_image").mkdir()
    tifffile.imwrite(folder / "microscope_image" / "slide.tif", image, photometric="rgb", tile=(64, 64))
    _write_feature_slice(folder / f"{prefix}feature_slice.h5")
    if cells:
        _write_cells(folder, slide, xy, barcodes)
    return VisiumHD(folder, xy, barcodes)


def _write_bins(folder: Path, slide: Slide, side: int) -> tuple[np.ndarray, list[str]]:
    n = slide.side_um // side
    row, column = (each.ravel() for each in np.mgrid[:n, :n])
    xy = slide.to_px(np.column_stack([column + 0.5, row + 0.5]) * side)
    barcodes = [f"s_{side:03d}um_{r:05d}_{c:05d}-1" for r, c in zip(row, column, strict=True)]
    write_counts(folder / "filtered_feature_bc_matrix.h5", barcodes, slide.counts(xy), genes=slide.genes)
    (folder / "spatial").mkdir()
    positions = pd.DataFrame(
        {
            "barcode": barcodes,
            "in_tissue": 1,
            "array_row": row,
            "array_col": column,
            "pxl_row_in_fullres": xy[:, 1],
            "pxl_col_in_fullres": xy[:, 0],
        }
    )
    positions.iloc[::-1].to_parquet(folder / "spatial" / "tissue_positions.parquet", index=False)
    own = slide.factors() | {"bin_size_um": float(side), "spot_diameter_fullres": side / slide.um_per_px}
    (folder / "spatial" / "scalefactors_json.json").write_text(json.dumps(own))
    return xy, barcodes


def _write_feature_slice(path: Path) -> None:
    same = np.eye(3).ravel().tolist()
    of_cytassist = np.diag([4.0, 4.0, 1.0]).ravel().tolist()
    metadata = {
        "hd_layout_json": json.dumps({"transform": same, "file_format": "1.0"}),
        "transform_matrices": {
            "cytassist_colrow_to_spot_colrow": of_cytassist,
            "spot_colrow_to_cytassist_colrow": np.diag([0.25, 0.25, 1.0]).ravel().tolist(),
            "microscope_colrow_to_spot_colrow": same,
            "spot_colrow_to_microscope_colrow": same,
        },
    }
    with h5py.File(path, "w") as file:
        file.attrs["metadata_json"] = json.dumps(metadata)


def _write_cells(folder: Path, slide: Slide, xy: dict[str, np.ndarray], barcodes: dict[str, list[str]]) -> None:
    """Write nine cells, squares of 12 µm, with nuclei of 4 µm; every nucleus holds four bins of 2 µm."""
    outs = folder / "segmented_outputs"
    centres = slide.to_px(np.array([[16.0 * i + 16, 16.0 * j + 16] for i in range(3) for j in range(3)]))
    names = [f"cellid_{i + 1:09d}-1" for i in range(len(centres))]
    write_counts(outs / "filtered_feature_cell_matrix.h5", names, some_counts(len(names)))
    for kind, half in (("cell", 6 / slide.um_per_px), ("nucleus", 2 / slide.um_per_px)):
        features: list[Any] = [
            {
                "type": "Feature",
                "properties": {"cell_id": i + 1},
                "geometry": {
                    "type": "Polygon",
                    "coordinates": [(centre + half * _CORNERS).tolist()],
                },
            }
            for i, centre in reversed(list(enumerate(centres)))
        ]
        text = json.dumps({"type": "FeatureCollection", "features": features})
        (outs / f"{kind}_segmentations.geojson").write_text(text)
        xy[f"{kind}_segmentations"], barcodes[f"{kind}_segmentations"] = centres, names
    (outs / "spatial").mkdir()
    (outs / "spatial" / "scalefactors_json.json").write_text(json.dumps(slide.factors()))
    bins = xy["square_002um"]
    nearest = np.linalg.norm(bins[:, None] - centres, axis=2)
    cell, distance = nearest.argmin(axis=1), nearest.min(axis=1) * slide.um_per_px
    pd.DataFrame(
        {
            "square_002um": barcodes["square_002um"],
            "cell_id": np.where(distance < 6, np.array(names)[cell], None),
            "in_nucleus": distance < 2,
            "in_cell": distance < 6,
        }
    ).to_parquet(folder / "barcode_mappings.parquet", index=False)


_CORNERS = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]])
