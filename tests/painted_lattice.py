"""Spots on a lattice whose expression follows the colours of their picture, and ways to lay them wrong."""

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from bleep_sc.pp._alignment.ways import Way

PITCH, SIDE, MARGIN = 20, 15, 3
FRAME = np.array([(SIDE + 2 * MARGIN) * PITCH, (SIDE + 2 * MARGIN) * PITCH + 40])
"""Width and height of the picture; it is no square."""


def tissue(seed: int = 0, *, linked: bool = True) -> AnnData:
    """Spots on a square lattice; each pitch of the picture has a colour of its own, which half of the genes follow."""
    rng = np.random.default_rng(seed)
    tiles = rng.uniform(0, 1, size=(SIDE + 2 * MARGIN + 2, SIDE + 2 * MARGIN, 3))
    pixels = np.kron(120 + 110 * tiles, np.ones((PITCH, PITCH, 1))).astype(np.uint8)
    column, row = (places.ravel() for places in np.meshgrid(np.arange(SIDE), np.arange(SIDE)))
    own = tiles[row + MARGIN, column + MARGIN] - 0.5
    slopes = np.concatenate([rng.normal(size=(3, 20)), np.zeros((3, 20))], axis=1)
    rate = np.exp(2 + (own if linked else rng.permutation(own)) @ slopes)
    factors = {"tissue_hires_scalef": 0.5, "spot_diameter_fullres": 11.0}
    library = {"images": {"hires": pixels[::2, ::2]}, "scalefactors": factors}
    places = (np.column_stack([column, row]) + MARGIN + 0.5) * PITCH - 0.5
    return AnnData(
        sparse.csr_matrix(rng.poisson(rate).astype(np.float32)),
        obs=pd.DataFrame({"section": "a"}, index=[f"s{i}" for i in range(len(places))]),
        obsm={"spatial": places},
        uns={"spatial": {"a": library}},
    )


def fine_tissue(seed: int = 0, *, bins: int = 9) -> AnnData:
    """The same tissue as bins: each spot becomes `bins` × `bins` of them, among which its transcripts are spread."""
    adata, rng = tissue(seed), np.random.default_rng(seed)
    step = ((np.arange(bins) + 0.5) / bins - 0.5) * PITCH
    within = np.stack(np.meshgrid(step, step), axis=-1).reshape(-1, 2)
    rates = np.repeat(adata.X.toarray() / bins**2, bins**2, axis=0)
    adata.uns["spatial"]["a"]["scalefactors"]["spot_diameter_fullres"] = PITCH / bins
    return AnnData(
        sparse.csr_matrix(rng.poisson(rates).astype(np.float32)),
        obs=pd.DataFrame({"section": "a"}, index=[f"b{i}" for i in range(len(rates))]),
        obsm={"spatial": (adata.obsm["spatial"][:, None] + within).reshape(-1, 2)},
        uns=adata.uns,
    )


def undone(way: Way, xy: np.ndarray) -> np.ndarray:
    """Places that the way brings to these."""
    moved = way.signs * (xy - way.offset)
    return np.ascontiguousarray(moved[:, ::-1] if way.exchange else moved)
