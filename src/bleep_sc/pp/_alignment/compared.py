"""What of a section is compared: some of its spots or, of very many bins or cells, blocks of neighbours."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from bleep_sc._stats import are_whole_counts
from bleep_sc.pp._lattice.lattice import SquareLattice

MOST_SPOTS = 16_000
"""No Visium array holds so many spots: a section of more has bins or cells, which tell little one by one."""
_FILLED = 0.5
"""A block is compared if it holds at least this share of what blocks hold in the median."""
_WIDER = 1.01


@dataclass(frozen=True)
class Compared:
    """The places of a section that are compared, be they spots or blocks of spots."""

    xy: np.ndarray
    """All places of the section (m, 2)."""
    chosen: np.ndarray
    """Which of them are compared (n,)."""
    pitch: float
    """Distance from one place to the next; 0 where most share theirs."""
    members: sparse.csr_matrix | None = None
    """Which spots of the section belong to each block (m, n_spots), 0 or 1; None where places are spots."""

    @property
    def unit(self) -> str:
        """What a place is, as messages call it."""
        return "spots" if self.members is None else "blocks of neighbouring spots"

    @property
    def step(self) -> str:
        """What places are shifted by, as messages call it."""
        return "pitch" if self.members is None else "block"

    @property
    def steps(self) -> str:
        """Several of them."""
        return "pitches" if self.members is None else "blocks"

    @property
    def width(self) -> float | None:
        """Width of what a place looks like, in full-resolution pixels; None for that of a spot."""
        return None if self.members is None else self.pitch

    @property
    def rows(self) -> np.ndarray:
        """The spots that are compared, as numbers of the section's rows."""
        return self.chosen if self.members is None else np.unique(self.members.indices)

    def expression(self, values: Any, rows: np.ndarray) -> Any:
        """Take the expression of what is compared: sums of counts in a block, or means of other values.

        Parameters
        ----------
        values
            Expression of many spots, dense or CSR (n_obs, n_genes).
        rows
            Which of these are the spots of the section (n_spots,).
        """
        if self.members is None:
            return values[rows[self.chosen]]
        sums = _members_in(self.members, rows, values.shape[0]) @ values
        return sums if are_whole_counts(sums) else sparse.diags(1 / np.diff(self.members.indptr)) @ sums

    def means(self, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Take what each spot looks like, or its mean in a block (m, width), of many spots (n_obs, width)."""
        if self.members is None:
            return values[rows]
        return np.asarray(_members_in(self.members, rows, len(values)) @ values) / np.diff(self.members.indptr)[:, None]


def compared_places(xy: np.ndarray, rows: np.ndarray, most: int, *, seed: int | None) -> Compared:
    """Choose what is compared.

    Parameters
    ----------
    xy
        Places of all spots of a section (n_spots, 2).
    rows
        Which of these may be compared.
    most
        The most places to compare. Of more than 16,000 spots, neighbours are joined to so many blocks. Of fewer, so
        many are drawn.
    seed
        Seed of the draw; None takes spots at equal distances in their order.
    """
    pitch = pitch_of(xy)
    if len(rows) > MOST_SPOTS and pitch > 0:
        return _blocks(xy, rows, most, pitch)
    if len(rows) > most:
        if seed is None:
            rows = rows[np.unique(np.linspace(0, len(rows) - 1, most).astype(np.int64))]
        else:
            rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
    return Compared(xy, rows, pitch)


def pitch_of(xy: np.ndarray) -> float:
    """Compute the median distance from a spot to the next; 0 where most spots share their place."""
    from scipy.spatial import cKDTree

    return float(np.median(cKDTree(xy).query(xy, k=2)[0][:, 1])) if len(xy) > 1 else 0.0


def _members_in(members: sparse.csr_matrix, rows: np.ndarray, n_obs: int) -> sparse.csr_matrix:
    """Say of many spots which of them belong to each block of a section, whose spots are `rows` (m, n_obs)."""
    return sparse.csr_matrix((members.data, rows[members.indices], members.indptr), shape=(members.shape[0], n_obs))


def _blocks(xy: np.ndarray, rows: np.ndarray, most: int, pitch: float) -> Compared:
    """Join neighbours to square blocks, no more than asked for; blocks that are mostly empty are left out."""
    places = xy[rows]
    side = pitch * np.sqrt(len(rows) / most)
    while True:
        squares = SquareLattice(side).nearest(places - places.min(axis=0))
        found, block, sizes = np.unique(squares, axis=0, return_inverse=True, return_counts=True)
        if len(found) <= most:
            break
        side *= _WIDER * np.sqrt(len(found) / most)
    members = sparse.csr_matrix(
        (np.ones(len(rows), dtype=np.float32), (block.reshape(-1), rows)), shape=(len(found), len(xy))
    )[sizes >= _FILLED * np.median(sizes)]
    centres = np.asarray(members @ xy) / np.diff(members.indptr)[:, None]
    return Compared(centres, np.arange(len(centres)), float(side), members)
