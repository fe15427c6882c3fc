"""Places on a square or a hexagonal lattice."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

LatticeKind = Literal["square", "hexagonal"]

_TIE = 1e-7
"""Share of the pitch by which a point counts as further to the right and below.

Points in the middle between two places then fall to one side, whatever the last bits of their numbers are.
"""


@dataclass(frozen=True)
class Lattice(ABC):
    """Places that are `pitch` apart, numbered as Space Ranger numbers spots: ``array_row`` and ``array_col``."""

    pitch: float

    @abstractmethod
    def nearest(self, xy: np.ndarray) -> np.ndarray:
        """Find the place that points (n, 2) are nearest to: int64 (n, 2), row then column; both may be negative."""

    @abstractmethod
    def centres(self, places: np.ndarray) -> np.ndarray:
        """Compute x and y of places (n, 2), given by row and column."""

    @abstractmethod
    def counted_from_zero(self, places: np.ndarray) -> np.ndarray:
        """Number places (n, 2) so that the first row and the first column are 0, as in an array of spots."""

    def within(self, width_height: np.ndarray) -> np.ndarray:
        """List the places whose centres lie within 0 and a width and a height, row by row (n, 2)."""
        last = self.nearest(np.asarray(width_height, dtype=np.float64)[None])[0] + 2
        rows, columns = np.meshgrid(np.arange(last[0] + 1), np.arange(last[1] + 1), indexing="ij")
        places = np.stack([rows.ravel(), columns.ravel()], axis=1)
        places = places[self._exist(places)]
        centres = self.centres(places)
        return np.asarray(places[((centres >= 0) & (centres < width_height)).all(axis=1)])

    def _exist(self, places: np.ndarray) -> np.ndarray:
        """Tell which pairs of row and column are places."""
        return np.ones(len(places), dtype=bool)


class SquareLattice(Lattice):
    """Squares side by side; the corner of the first one lies at (0, 0)."""

    def nearest(self, xy: np.ndarray) -> np.ndarray:
        """Find the square that holds each point."""
        return np.floor(xy[:, ::-1] / self.pitch + _TIE).astype(np.int64)

    def centres(self, places: np.ndarray) -> np.ndarray:
        """Compute the centres of squares."""
        return np.asarray((places[:, ::-1] + 0.5) * self.pitch)

    def counted_from_zero(self, places: np.ndarray) -> np.ndarray:
        """Shift both numbers."""
        return np.asarray(places - places.min(axis=0))


class HexagonalLattice(Lattice):
    """Staggered rows as on a Visium slide: columns count half steps, so row + column is even.

    The hexagons stand on a corner. That of the first one touches x = 0 with its left side and y = 0 with its top.
    """

    @property
    def _step(self) -> np.ndarray:
        """From one column to the next, and from one row to the next."""
        return np.array([self.pitch / 2, self.pitch * np.sqrt(3) / 2])

    @property
    def _first(self) -> np.ndarray:
        """Centre of the first place."""
        return np.array([self.pitch / 2, self.pitch / np.sqrt(3)])

    def nearest(self, xy: np.ndarray) -> np.ndarray:
        """Look at the nearest place in the even rows and in the odd rows, which both form a rectangular lattice."""
        scaled = (xy - self._first) / self._step + _TIE
        even = 2 * np.floor(scaled / 2 + 0.5)
        odd = 2 * np.floor((scaled - 1) / 2 + 0.5) + 1
        to_even, to_odd = (((scaled - near) * self._step / self.pitch) ** 2 for near in (even, odd))
        nearer = (to_odd.sum(axis=1) + _TIE < to_even.sum(axis=1))[:, None]
        return np.where(nearer, odd, even)[:, ::-1].astype(np.int64)

    def centres(self, places: np.ndarray) -> np.ndarray:
        """Compute the centres of hexagons."""
        return np.asarray(places[:, ::-1] * self._step + self._first)

    def counted_from_zero(self, places: np.ndarray) -> np.ndarray:
        """Shift both numbers, the columns by one more where row + column would become odd."""
        shifted = places - places.min(axis=0)
        return np.asarray(shifted + np.array([0, shifted[0].sum() % 2]))

    def _exist(self, places: np.ndarray) -> np.ndarray:
        return np.asarray(places.sum(axis=1) % 2 == 0)


KINDS: dict[LatticeKind, type[Lattice]] = {"square": SquareLattice, "hexagonal": HexagonalLattice}
assert set(KINDS) == set(get_args(LatticeKind))  # noqa: S101
"""The lattices that there are; a new one is a class and its name here."""
