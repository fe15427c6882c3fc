"""Where the rows of a table lie, in the coordinates of the element that they annotate."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import spatial_coordinates
from bleep_sc._logging import logger, warn
from bleep_sc.io._spatialdata.keys import TableKeys
from bleep_sc.io._spatialdata.store import Source
from bleep_sc.io._spatialdata.transforms import Element
from bleep_sc.io._spatialdata.vendors import CELL_AREA, bin_side, in_um_beside, is_of_xenium, lattice_pitch

_LABELS = "_labels"


@dataclass(frozen=True)
class Places:
    """The rows of one region, and where they lie."""

    region: str
    rows: np.ndarray
    """Rows of the table that have a place (n,)."""
    xy: np.ndarray
    """Their places (n, 2)."""
    diameter: float
    """Width of a spot or bin; of a cell that of the circle of its area; NaN where unknown."""
    element: Element
    """What says where these coordinates lie: the region, or for labels the shapes of the same things."""


def element_of(source: Source, table: AnnData, region: str, *, path: str) -> Element:
    """Find the element in whose coordinates the places of a region are known, without reading a place.

    Raises
    ------
    ValueError
        There is no such element, or only a raster of labels. That is not read: to find the centres in one of a whole
        slide takes hundreds of gigabytes.
    """
    found = source.element(region, ("shapes", "labels", "points"))
    if found is None:
        msg = (
            f"`{path}` annotates {region!r}, but there are only the shapes {list(source.names['shapes'])} and the "
            f"labels {list(source.names['labels'])}. Add that element, or leave its rows out of the table."
        )
        raise ValueError(msg)
    if found.kind == "shapes":
        return found
    if found.kind == "labels" and _keys.SPATIAL in table.obsm:
        bins = region.removesuffix(_LABELS)
        of_bins = [("shapes", bins)] if bin_side(bins) else []
        candidates = in_um_beside(region) if is_of_xenium(table.obs) else of_bins
        for kind, name in candidates:
            if name in source.names[kind]:
                return Element(kind, name, source.matrices(kind, name))
    circles = f"{region}_circles"
    msg = (
        f"`{path}` annotates `{found.path}`, and no shapes say where its instances lie. Make shapes of them, such as "
        f"`sdata[{circles!r}] = spatialdata.to_circles(sdata[{region!r}])`, and let the table annotate these by "
        "`sdata.set_table_annotates_spatialelement`."
    )
    raise ValueError(msg)


def places_of(
    source: Source, table: AnnData, rows: np.ndarray, *, keys: TableKeys, region: str, element: Element, path: str
) -> Places:
    """Find the places of the rows of a region; rows without one are left out, with a warning.

    Raises
    ------
    ValueError
        No row has an instance in the element; an instance occurs there twice; the table of labels has odd places.
    """
    obs = table.obs.iloc[rows]
    if element.name == region:
        frame = source.shapes(region)
        found = _joined(obs[keys.instance_key], frame.index, path=f"{path}.obs[{keys.instance_key!r}]", element=element)
        rows, frame = rows[found >= 0], frame.iloc[found[found >= 0]]
        xy, diameter = _centres(frame, element), _diameter(frame, region)
    else:
        part = AnnData(obs=obs, obsm={_keys.SPATIAL: np.asarray(table.obsm[_keys.SPATIAL])[rows]})
        xy = spatial_coordinates(part, name=path)
        diameter = _diameter_of_labels(obs, xy)
    return Places(region, rows, xy, diameter, element)


def _joined(instances: pd.Series, index: pd.Index, *, path: str, element: Element) -> np.ndarray:
    """Find the row of the shapes for each instance of the table, by its name and not by the order; -1 where none."""
    found = matched(instances, index, path=element.path)
    missing = int((found < 0).sum())
    if missing == len(found):
        msg = (
            f"`{path}` names no instance of `{element.path}`: it holds {some_names(instances)}, and the shapes are "
            f"called {some_names(index)}. Name the column of `obs` that holds these by "
            "`sdata.set_table_annotates_spatialelement`."
        )
        raise ValueError(msg)
    if missing:
        warn(
            f"{missing} of {len(found)} rows of `{path.split('.obs')[0]}` have no shape in `{element.path}`, such as "
            f"{some_names(instances[found < 0])}: they are left out."
        )
    if len(index) > len(found) - missing:
        logger.info("%d of %d shapes of %s have no row.", len(index) - (len(found) - missing), len(index), element.path)
    return found


def matched(instances: pd.Series, index: pd.Index, *, path: str) -> np.ndarray:
    """Find the row of the shapes for each instance by its name; -1 where there is none.

    Raises
    ------
    ValueError
        Several shapes have one name.
    """
    existing = _as_text(index)
    if not existing.is_unique:
        twice = existing[existing.duplicated()][0]
        msg = f"`{path}` has several shapes with the index {twice!r}: make its index unique."
        raise ValueError(msg)
    found = existing.get_indexer(_as_text(instances))
    found[instances.isna().to_numpy()] = -1
    return np.asarray(found)


def _as_text(names: Any) -> pd.Index:
    """Names as text, whole numbers without a fraction, however the column or the file stores them."""
    values = np.asarray(names)
    if values.dtype.kind == "f" and (np.isnan(values) | (values == np.rint(values))).all():
        values = np.array(
            [f"{value:.0f}" for value in values], dtype=object
        )  # a column with gaps becomes one of floats
    return pd.Index([str(value) for value in values.tolist()], dtype=object)


def some_names(names: Any) -> str:
    """Put a few names into words."""
    shown = [repr(name) for name in np.asarray(names)[:3].tolist()]
    return ", ".join(shown) + (", ..." if len(names) > 3 else "")


def _centres(frame: Any, element: Element) -> np.ndarray:
    centres = frame.geometry.centroid
    xy = np.stack([centres.x.to_numpy(), centres.y.to_numpy()], axis=1).astype(np.float64)
    bad = np.asarray(~np.isfinite(xy).all(axis=1))
    if bad.any():
        msg = (
            f"{bad.sum()} of {len(xy)} shapes of `{element.path}` have no centre, such as "
            f"{some_names(frame.index[bad])}: they are empty. Leave them out, and their rows of the table."
        )
        raise ValueError(msg)
    return xy


def _diameter(frame: Any, region: str) -> float:
    if "radius" in frame and (frame.geom_type == "Point").all():
        return float(2 * np.median(frame["radius"]))
    area = float(np.median(frame.area))
    if area <= 0:
        return np.nan
    return np.sqrt(area) if bin_side(region) else 2 * np.sqrt(area / np.pi)


def _diameter_of_labels(obs: pd.DataFrame, xy: np.ndarray) -> float:
    """Width of what a raster of labels shows, without looking at it."""
    if is_of_xenium(obs):
        return 2 * np.sqrt(float(np.median(obs[CELL_AREA].to_numpy(dtype=np.float64))) / np.pi)
    return lattice_pitch(obs, xy)
