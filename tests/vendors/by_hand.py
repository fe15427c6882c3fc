"""A SpatialData object of a few spots on an image that says where its pixels are; each part can be replaced."""

from typing import Any

import numpy as np
import pandas as pd
import spatialdata as sd
from anndata import AnnData
from spatialdata.models import Image2DModel, ShapesModel, TableModel
from spatialdata.transformations import Affine, BaseTransformation, Identity

from vendors.tenx import says_where

XY = np.array([[40.0, 150.0], [180.0, 60.0], [200.0, 190.0], [90.0, 30.0]])
HEIGHT, WIDTH = 210, 250


def affine(matrix: Any) -> BaseTransformation:
    return Affine(np.asarray(matrix, dtype=float), input_axes=("x", "y"), output_axes=("x", "y"))


def image_of(pixels: np.ndarray, to: dict[str, BaseTransformation] | None = None, **kwargs: Any) -> Any:
    """An image element of pixels (y, x, c)."""
    return Image2DModel.parse(
        pixels.transpose(2, 0, 1), dims=("c", "y", "x"), transformations=to or {"global": Identity()}, **kwargs
    )


def circles_of(xy: np.ndarray, to: dict[str, BaseTransformation] | None = None, **kwargs: Any) -> Any:
    return ShapesModel.parse(xy, geometry=0, radius=5, transformations=to or {"global": Identity()}, **kwargs)


def table_of(regions: list[str], instances: Any, **kwargs: Any) -> AnnData:
    """A table of one row for each region and instance given; its counts are all different."""
    obs = pd.DataFrame({"region": pd.Categorical(regions), "spot": instances})
    obs.index = [f"row{i}" for i in range(len(obs))]
    counts = np.arange(2 * len(obs), dtype="float32").reshape(-1, 2)
    table = AnnData(counts, obs=obs, **kwargs)
    region: Any = sorted(set(regions)) if len(set(regions)) > 1 else regions[0]
    return TableModel.parse(table, region=region, region_key="region", instance_key="spot")


def by_hand(**parts: Any) -> sd.SpatialData:
    """Four circles at `XY`, the image `he`, and a table; whole kinds of elements can be given."""
    n = len(XY)
    return sd.SpatialData(
        **{
            "images": {"he": image_of(says_where(HEIGHT, WIDTH))},
            "shapes": {"spots": circles_of(XY)},
            "tables": {"table": table_of(["spots"] * n, np.arange(n))},
            **parts,
        }
    )
