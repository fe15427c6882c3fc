"""The place of each spot in its section, as methods read it: coordinates, neighbours, row and column."""

import numpy as np
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import spatial_coordinates
from bleep_sc._checks import MissingKeyError
from bleep_sc._grid import grid_positions
from bleep_sc._side_effects import python_random_state_kept
from bleep_sc._stats import section_rows

_DEGREE = 3


def neighbor_places(adata: AnnData, n_neighbors: int, *, name: str) -> np.ndarray | None:
    """Read the places of the spots (n_obs, 2), where a method looks at neighbours."""
    if n_neighbors == 0:
        return None
    if _keys.SPATIAL not in adata.obsm:
        msg = (
            f"`{name}.obsm['spatial']` does not exist, and BLEEP's default recipe looks at the {n_neighbors} spots "
            "around each. Store the places there (x and y of each spot centre), or train with `context=0`."
        )
        raise MissingKeyError(msg)
    return spatial_coordinates(adata, name=name)


def place_features(adata: AnnData, sections: np.ndarray | None, *, name: str) -> np.ndarray:
    """Compute a polynomial of degree 3 of each spot's place, float32 (n_obs, 9).

    Places are taken from the section's centroid and in units of its spread. So sections need neither lie at the same
    place on their slides nor have been scanned alike. They are not registered any further.
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


def grid_of_sections(adata: AnnData, sections: np.ndarray | None, *, name: str) -> np.ndarray:
    """Find the row and column of each spot in its section, int64 (n_obs, 2)."""
    xy = spatial_coordinates(adata, name=name)
    grid = np.empty((adata.n_obs, 2), dtype=np.int64)
    for _, rows in section_rows(sections, adata.n_obs):
        grid[rows] = grid_positions(adata.obs.iloc[rows], xy[rows])
    return grid
