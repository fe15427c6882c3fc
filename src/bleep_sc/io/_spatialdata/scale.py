"""How many µm a pixel of the image has, as far as SpatialData tells: the readers keep it nowhere."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from bleep_sc._logging import logger
from bleep_sc.io._spatialdata.places import Places
from bleep_sc.io._spatialdata.transforms import Onto
from bleep_sc.io._spatialdata.vendors import CELL_AREA, bin_side, in_um, is_of_xenium, lattice_pitch
from bleep_sc.pp._scale.witnesses import Evidence, lattice

_SAME_UNIT = 2.1
"""Cells whose widths in a table and among the shapes differ by less than this factor have one unit.

Shapes may be the cells' nuclei, half as wide. In pixels of Xenium, of .2125 µm, they would be almost 5 times as wide.
"""


def of_bins(places: Places, way: Onto, obs: pd.DataFrame) -> float | None:
    """The bins of Visium HD have their side in their name; their pitch tells how long it is on the image.

    Circles may be as wide as a bin, as the reader makes them, or as large, as `spatialdata.to_circles` does.
    """
    side = bin_side(places.region)
    if side is None or np.isnan(places.diameter):
        return None
    widths = places.diameter * np.array([1, np.sqrt(np.pi) / 2])
    pitch = lattice_pitch(obs, places.xy)
    width = widths[0] if np.isnan(pitch) else widths[np.argmin(np.abs(np.log(widths / pitch)))]
    return float(side / (width * way.scale))


def of_xenium(places: Places, way: Onto, obs: pd.DataFrame) -> float | None:
    """The elements of Xenium are in µm, if their cells are as wide as the table says."""
    if not is_of_xenium(obs) or not in_um(places.element.kind, places.element.name):
        return None
    if places.region == places.element.name:
        width = 2 * np.sqrt(np.median(obs[CELL_AREA].to_numpy(dtype=np.float64)) / np.pi)
        if not 1 / _SAME_UNIT < places.diameter / width < _SAME_UNIT:
            return None
    return 1 / way.scale


def lies_on_morphology(places: Places, way: Onto, obs: pd.DataFrame) -> bool:
    """Whether an image beside cells of Xenium has the pixels of the morphology image, as one without alignment has.

    The reader lays it there when it finds no alignment: a guess that is wrong for nearly every H&E scan.
    """
    if of_xenium(places, way, obs) is None:
        return False
    return np.allclose(way.matrix, places.element.matrices[way.coordinate_system])


def of_visium(places: Places, way: Onto, obs: pd.DataFrame) -> float | None:
    """The spots of Visium are 100 µm apart, if they form its lattice and have its diameter."""
    diameter = {"spot_diameter_fullres": places.diameter * way.scale}
    witness = lattice(Evidence(places.region, None, diameter, {}, obs=obs, xy=way.places(places.xy), tag=None))
    return None if witness is None or witness.doubt is not None else witness.um_per_px


KNOWN: tuple[Callable[[Places, Onto, pd.DataFrame], float | None], ...] = (of_bins, of_xenium, of_visium)
"""Who is asked, one after the other; a new one is a function and its place here."""


def um_per_px(places: Places, way: Onto, obs: pd.DataFrame) -> float:
    """µm per pixel of the image; NaN, with a line in the log, where nobody knows."""
    for ask in KNOWN:
        found = ask(places, way, obs)
        if found is not None and np.isfinite(found) and found > 0:
            return found
    logger.info(
        "The µm per pixel of %r cannot be told from SpatialData. Pass `mpp=` to `bl.pp.crops` if you know it. For "
        "Visium HD it is `microns_per_pixel` in Space Ranger's scalefactors_json.json.",
        places.region,
    )
    return float("nan")
