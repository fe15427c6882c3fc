"""Cuts a section into parts of neighbouring spots."""

from collections.abc import Iterator

import numpy as np

_MOST_BLOCKS, _FEWEST_BLOCKS = 10, 3
_SPOTS_OF_BLOCK = 2
"""Fewest spots of a block, where there are enough for blocks at all."""
_LARGEST_PATCH = 500
"""Most measured spots that are kriged together: the cost grows with the cube of their number."""


def halves(places: np.ndarray, n_parts: int) -> list[np.ndarray]:
    """Cut places (n, 2) into parts of as many spots each, always across the longer side; return positions."""
    parts = [np.arange(len(places))]
    while len(parts) < n_parts:
        largest = max(range(len(parts)), key=lambda number: len(parts[number]))
        part = parts.pop(largest)
        across = int(np.argmax(np.ptp(places[part], axis=0)))
        order = part[np.argsort(places[part, across], kind="stable")]
        parts += [np.sort(order[: len(part) // 2]), np.sort(order[len(part) // 2 :])]
    return parts


def blocks_of(places: np.ndarray) -> list[np.ndarray]:
    """Cut the places of measured spots (n, 2) into blocks of neighbours that are left out in turn."""
    return halves(places, min(_MOST_BLOCKS, max(_FEWEST_BLOCKS, len(places) // _SPOTS_OF_BLOCK)))


def patches_of(places: np.ndarray, measured: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cut a section into patches, of spots and of the measured among them: rows, and positions in `measured`.

    Each spot belongs to the patch of the measured spot that is nearest to it.
    """
    from scipy.spatial import KDTree

    parts = halves(places[measured], -(-len(measured) // _LARGEST_PATCH))
    patch_of = np.empty(len(measured), dtype=int)
    for number, part in enumerate(parts):
        patch_of[part] = number
    of_spot = patch_of[KDTree(places[measured]).query(places)[1]]
    of_spot[measured] = patch_of  # where two spots lie at one place
    for number, part in enumerate(parts):
        yield np.flatnonzero(of_spot == number), part
