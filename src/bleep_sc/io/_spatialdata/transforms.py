"""Coordinate systems of SpatialData: 3 x 3 matrices, and the one that lays an element on an image."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bleep_sc._side_effects import python_random_state_kept

_ANISOTROPY = 1e-3
"""An image whose x and y differ in scale by more than this share is refused: crops are squares of pixels."""
_APART = 0.5
"""Two coordinate systems are one if they lay an element on an image alike, to half a pixel."""
_AXES = ("x", "y")


@dataclass(frozen=True)
class Element:
    """Where an element of SpatialData lies."""

    kind: str
    """What it is: ``"shapes"``, ``"labels"``, ``"points"`` or ``"images"``."""
    name: str
    matrices: Mapping[str, np.ndarray]
    """Matrices (3, 3) from its own x and y to each coordinate system, by that system's name."""

    @property
    def path(self) -> str:
        """The element as messages name it."""
        return f"sdata.{self.kind}[{self.name!r}]"


@dataclass(frozen=True)
class Onto:
    """How one element is laid on another one."""

    coordinate_system: str
    """The system that both share."""
    matrix: np.ndarray
    """From x and y of the element to pixels of the image (3, 3)."""

    @property
    def scale(self) -> float:
        """Pixels of the image per unit of the element."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:2, :2]))))

    def places(self, xy: np.ndarray) -> np.ndarray:
        """Move places (n, 2) of the element into pixels of the image."""
        moved: np.ndarray = xy @ self.matrix[:2, :2].T + self.matrix[:2, 2]
        return moved

    def back(self, pixels: np.ndarray) -> np.ndarray:
        """Move pixels of the image (n, 2) into places of the element."""
        return np.linalg.solve(self.matrix[:2, :2], (pixels - self.matrix[:2, 2]).T).T


def matrices_of(transformations: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Make matrices of the transformations of an element."""
    return {
        str(system): np.asarray(each.to_affine_matrix(input_axes=_AXES, output_axes=_AXES), dtype=np.float64)
        for system, each in transformations.items()
    }


def stored_matrices(transformations: Iterable[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Make matrices of the transformations of an element as its metadata in a store spell them."""
    with python_random_state_kept():
        from spatialdata.transformations.ngff.ngff_transformations import NgffBaseTransformation
        from spatialdata.transformations.transformations import BaseTransformation

    found = {}
    for each in transformations:
        spelt = NgffBaseTransformation.from_dict(dict(each))
        system = spelt.output_coordinate_system
        if system is not None:
            found[system.name] = BaseTransformation.from_ngff(spelt)
    return matrices_of(found)


def lay(element: Element, image: Element, width_height: np.ndarray, coordinate_system: str | None) -> Onto:
    """Find how an element lies on an image.

    Parameters
    ----------
    element, image
        Both.
    width_height
        Size of the image in pixels: systems that lay the element alike within it are one.
    coordinate_system
        The system to go by; None where any that both share will do.

    Raises
    ------
    ValueError
        They share no system, or not that one; several lay them differently; the matrix is no similarity.
    """
    shared = [system for system in element.matrices if system in image.matrices]
    if coordinate_system is not None and coordinate_system not in shared:
        msg = f"`coordinate_system={coordinate_system!r}` is not one that both have. {_systems(element, image)}"
        raise ValueError(msg)
    if not shared:
        msg = (
            f"`{element.path}` and `{image.path}` share no coordinate system, so nothing says where the spots lie on "
            f"that image. {_systems(element, image)} Give both a common one by "
            "`spatialdata.transformations.set_transformation`, or name another `image`."
        )
        raise ValueError(msg)
    ways = [
        Onto(system, _onto(element, image, system))
        for system in ([coordinate_system] if coordinate_system is not None else shared)
    ]
    apart = [_furthest(way, ways[0], width_height) for way in ways]
    if max(apart) > _APART:
        msg = (
            f"`{element.path}` lies on `{image.path}` in {len(ways)} ways, by the coordinate systems "
            f"{[way.coordinate_system for way in ways]}: up to {max(apart):.4g} pixels apart. Say which is right, such "
            f"as `coordinate_system={ways[0].coordinate_system!r}`."
        )
        raise ValueError(msg)
    _check_similarity(ways[0], element, image)
    return ways[0]


def _systems(element: Element, image: Element) -> str:
    return f"`{element.path}` has {list(element.matrices)}, `{image.path}` has {list(image.matrices)}."


def _onto(element: Element, image: Element, system: str) -> np.ndarray:
    to_system, of_image = element.matrices[system], image.matrices[system]
    for each, matrix in ((element, to_system), (image, of_image)):
        if not np.isfinite(matrix).all() or np.linalg.matrix_rank(matrix) < len(matrix):
            msg = (
                f"The transformation of `{each.path}` to {system!r} cannot be inverted: {matrix.tolist()}. Set it "
                "right by `spatialdata.transformations.set_transformation`."
            )
            raise ValueError(msg)
    return np.linalg.solve(of_image, to_system)


def _furthest(one: Onto, other: Onto, width_height: np.ndarray) -> float:
    """How many pixels the corners of the image are apart, if they go there by one way and back by the other."""
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * width_height
    back = Onto(other.coordinate_system, np.linalg.inv(other.matrix))
    return float(np.linalg.norm(one.places(back.places(corners)) - corners, axis=1).max())


def _check_similarity(way: Onto, element: Element, image: Element) -> None:
    """Refuse a matrix under which squares of tissue are no squares of pixels."""
    longer, shorter = np.linalg.svd(way.matrix[:2, :2], compute_uv=False)
    if longer / shorter - 1 <= _ANISOTROPY:
        return
    msg = (
        f"`{element.path}` is laid on `{image.path}` by a matrix that stretches one direction {longer / shorter:.4f} "
        f"times as much as the other (coordinate system {way.coordinate_system!r}; at most {1 + _ANISOTROPY:g} is "
        "taken): crops would not show squares of tissue. Register the image again by shift, turn, mirror and one scale "
        "only, or resample it to square pixels."
    )
    raise ValueError(msg)
