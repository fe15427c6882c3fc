"""The `outs` folder of Space Ranger 1 to 4 of a Visium slide."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import tifffile

from vendors.tenx import says_where, some_counts, write_counts, write_small_pictures

PITCH = 25.0
"""Pixels from one spot to the next, which are 100 µm apart."""
ROWS, COLUMNS = 8, 16
HIRES, LOWRES = 2, 5


@dataclass(frozen=True)
class Visium:
    """A folder, and what is true of it."""

    folder: Path
    image: Path
    barcodes: list[str]
    xy: np.ndarray
    """Centres in pixels, by barcode."""
    counts: np.ndarray
    um_per_px: float = 100 / PITCH
    diameter: float = 0.55 * PITCH


def write_visium(folder: Path, *, version: Literal[1, 2, 3, 4] = 2, prefix: str = "") -> Visium:
    """Write a slide of 64 spots on an image of 240 x 220 pixels; the file of positions has another order."""
    row, column = (each.ravel() for each in np.mgrid[:ROWS, :COLUMNS])
    on = (row + column) % 2 == 0
    row, column = row[on], column[on]
    xy = np.column_stack([24.0 + column * PITCH / 2, 20.0 + row * PITCH * np.sqrt(3) / 2])
    barcodes = [f"ACGT{i:04d}-1" for i in range(len(row))]
    counts = some_counts(len(row))
    write_counts(folder / f"{prefix}filtered_feature_bc_matrix.h5", barcodes, counts)
    positions = pd.DataFrame(
        {
            "barcode": barcodes,
            "in_tissue": 1,
            "array_row": row,
            "array_col": column,
            "pxl_row_in_fullres": xy[:, 1],
            "pxl_col_in_fullres": xy[:, 0],
        }
    ).iloc[np.random.default_rng(0).permutation(len(row))]
    image = says_where(220, 240)
    spatial = folder / "spatial"
    write_small_pictures(spatial, image, hires=HIRES, lowres=LOWRES)
    name, header = ("tissue_positions_list.csv", False) if version == 1 else ("tissue_positions.csv", True)
    positions.to_csv(spatial / name, index=False, header=header)
    factors = {
        "tissue_hires_scalef": 1 / HIRES,
        "tissue_lowres_scalef": 1 / LOWRES,
        "spot_diameter_fullres": Visium.diameter,
        "fiducial_diameter_fullres": 1.6 * Visium.diameter,
    }
    if version >= 3:  # a slide of a CytAssist
        factors["regist_target_img_scalef"] = 0.5
        tifffile.imwrite(spatial / "cytassist_image.tiff", image[::4, ::4], photometric="rgb")
    (spatial / "scalefactors_json.json").write_text(json.dumps(factors))
    tifffile.imwrite(folder / "slide.tif", image, photometric="rgb", tile=(64, 64))
    return Visium(folder, folder / "slide.tif", barcodes, xy, counts)
