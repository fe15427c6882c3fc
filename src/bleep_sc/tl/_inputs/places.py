"""What a method reads of the place of a spot in its section: coordinates, and windows of neighbours."""

import numpy as np
from anndata import AnnData

from bleep_sc._adata import spatial_coordinates
from bleep_sc._grid import grid_positions
from bleep_sc._side_effects import python_random_state_kept
from bleep_sc._stats import section_rows
from bleep_sc.methods.recipes import HisToGeneRecipe, Recipe
from bleep_sc.models.nets.histogene import POSITIONS
from bleep_sc.models.nets.windows import split_windows

_DEGREE = 3

Windows = list[tuple[np.ndarray, np.ndarray]]
"""For each window its spots and their rows and columns in it (n, 2)."""


def place_features(adata: AnnData, sections: np.ndarray | None, *, name: str) -> np.ndarray:
    """Polynomial of degree 3 of each spot's place, float32 (n_obs, 9).

    Places are taken from the section's centroid and in units of its spread, so that sections need neither lie at the
    same place on their slides nor have been scanned alike; they are not registered any further.
    """
    with python_random_state_kept():
        from sklearn.preprocessing import PolynomialFeatures

    xy = spatial_coordinates(adata, name=name)
    place = np.empty_like(xy)
    for _, rows in section_rows(sections, adata.n_obs):
        centred = xy[rows] - xy[rows].mean(axis=0)
        spread = np.sqrt((centred**2).mean())
        place[rows] = centred / (spread if spread > 0 else 1.0)
    polynomial = PolynomialFeatures(_DEGREE, include_bias=False).fit_transform(place)
    return np.asarray(polynomial, dtype=np.float32)


def training_windows(
    adata: AnnData, sections: np.ndarray | None, held_out: np.ndarray, recipe: Recipe
) -> tuple[Windows, Windows] | None:
    """Windows of the training and of the validation spots, for a method that reads sequences; else None."""
    if not isinstance(recipe, HisToGeneRecipe):
        return None
    rows = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    training, validation = (spot_windows(adata, sections, part, largest=recipe.window, name="adata") for part in rows)
    return training, validation


def spot_windows(adata: AnnData, sections: np.ndarray | None, rows: np.ndarray, *, largest: int, name: str) -> Windows:
    """Windows of neighbouring spots, of some rows only; none spans two sections, or more than 64 grid positions."""
    xy = spatial_coordinates(adata, name=name)
    wanted = np.zeros(adata.n_obs, dtype=bool)
    wanted[rows] = True
    windows: Windows = []
    for _, section in section_rows(sections, adata.n_obs):
        grid = grid_positions(adata.obs.iloc[section], xy[section])
        chosen = np.flatnonzero(wanted[section])
        if len(chosen):
            found = split_windows(grid[chosen], largest=largest, side=POSITIONS)
            windows += [(section[chosen[spots]], positions) for spots, positions in found]
    return windows
