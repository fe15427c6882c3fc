"""The output folder of Xenium with an H&E image and its alignment, as Xenium Explorer exports that."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
import zarr

from vendors.tenx import says_where, some_counts, write_counts

PIXEL_SIZE = 0.2125
HE_TO_MORPHOLOGY = np.array([[0.0, -1.6, 380.0], [-1.6, 0.0, 400.0], [0.0, 0.0, 1.0]])
"""The H&E image is turned by 90°, mirrored, and has larger pixels."""


@dataclass(frozen=True)
class Xenium:
    """A folder, and what is true of it."""

    folder: Path
    cells: list[str]
    um: np.ndarray
    """Centres of the cells in µm (n, 2)."""
    xy: np.ndarray
    """The same in pixels of the H&E image."""
    width_um: float
    """Width of a cell, as the circle of its area."""
    um_per_px: float = 1.6 * PIXEL_SIZE


def write_xenium(folder: Path) -> Xenium:
    """Write twelve cells, squares of 8 µm, on an H&E image of 240 x 220 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    um = np.array([[12.0 + 14 * i, 14.0 + 18 * j] for i in range(4) for j in range(3)])
    # the alignment takes pixels of the H&E image to pixels of the morphology image; so, by hand, it goes back
    px = um / PIXEL_SIZE
    xy = np.column_stack([(400 - px[:, 1]) / 1.6, (380 - px[:, 0]) / 1.6])
    prefixes = np.arange(len(um), dtype=np.uint32) * 40_000 + 5
    cells = [_name(int(prefix)) for prefix in prefixes]
    half = 4.0
    _write_table(folder, cells, um, area=(2 * half) ** 2)
    _write_zarr(folder / "cells.zarr.zip", prefixes, um)
    for kind, reach in (("cell", half), ("nucleus", half / 2)):
        corners = um[:, None] + reach * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]])
        pd.DataFrame(
            {
                "cell_id": np.repeat(cells, 5),
                "vertex_x": corners[..., 0].ravel(),
                "vertex_y": corners[..., 1].ravel(),
                "label_id": np.repeat(np.arange(1, len(cells) + 1), 5),
            }
        ).to_parquet(folder / f"{kind}_boundaries.parquet", index=False)
    specs = {"pixel_size": PIXEL_SIZE, "analysis_sw_version": "xenium-3.1.0.4", "run_name": "mini"}
    (folder / "experiment.xenium").write_text(json.dumps(specs))
    (folder / "morphology_focus").mkdir()
    focus = np.zeros((420, 400), dtype=np.uint16)
    tifffile.imwrite(folder / "morphology_focus" / "morphology_focus_0000.ome.tif", focus)
    tifffile.imwrite(folder / "mini_he_image.ome.tif", says_where(220, 240), photometric="rgb", tile=(64, 64))
    np.savetxt(folder / "mini_he_imagealignment.csv", HE_TO_MORPHOLOGY, delimiter=",")
    return Xenium(folder, cells, um, xy, width_um=2 * np.sqrt((2 * half) ** 2 / np.pi))


def _name(prefix: int) -> str:
    """Spell the number of a cell as Xenium does: its hexadecimal digits as letters from a."""
    return "".join(chr(ord("a") + int(digit, 16)) for digit in f"{prefix:08x}") + "-1"


def _write_table(folder: Path, cells: list[str], um: np.ndarray, *, area: float) -> None:
    write_counts(folder / "cell_feature_matrix.h5", cells, some_counts(len(cells)))
    pd.DataFrame(
        {
            "cell_id": cells,
            "x_centroid": um[:, 0],
            "y_centroid": um[:, 1],
            "transcript_counts": 50,
            "control_probe_counts": 0,
            "total_counts": 50,
            "cell_area": area,
            "nucleus_area": area / 4,
        }
    ).to_parquet(folder / "cells.parquet", index=False)
    points = pd.DataFrame(
        {
            "transcript_id": np.arange(len(cells)),
            "cell_id": cells,
            "overlaps_nucleus": 1,
            "feature_name": "gene0",
            "x_location": um[:, 0],
            "y_location": um[:, 1],
            "z_location": 1.0,
            "qv": 40.0,
        }
    )
    points.to_parquet(folder / "transcripts.parquet", index=False)


def _write_zarr(path: Path, prefixes: np.ndarray, um: np.ndarray) -> None:
    n = len(prefixes)
    masks = np.zeros((420, 400), dtype=np.uint32)
    for number, (x, y) in enumerate(np.rint(um / PIXEL_SIZE).astype(int), start=1):
        masks[y - 18 : y + 19, x - 18 : x + 19] = number
    columns = ["cell_centroid_x", "cell_centroid_y", "cell_area", "nucleus_centroid_x", "nucleus_centroid_y"]
    columns += ["nucleus_area", "z_level", "nucleus_count"]
    with zarr.storage.ZipStore(path, mode="w") as store:
        group = zarr.create_group(store, zarr_format=2)
        group.create_array("cell_id", data=np.column_stack([prefixes, np.ones(n, np.uint32)]).astype(np.uint32))
        # a zip takes each file once, so attributes are written with the array
        group.create_array("cell_summary", data=np.ones((n, len(columns))), attributes={"column_names": columns})
        for index in ("0", "1"):
            group.create_array(f"masks/{index}", data=masks)
            group.create_array(f"polygon_sets/{index}/cell_index", data=np.arange(n, dtype=np.uint32))
