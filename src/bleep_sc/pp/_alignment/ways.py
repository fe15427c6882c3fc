"""The ways in which the spots of a section could lie on its image, each with the code that puts them there."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bleep_sc.pp._images.turn import TURNS, Turn
from bleep_sc.pp._signs.placements import NAMES_OF_TURNS

GIVEN = "as given"
_DIRECTIONS = {
    "right": (1, 0),
    "lower right": (1, 1),
    "bottom": (0, 1),
    "lower left": (-1, 1),
    "left": (-1, 0),
    "upper left": (-1, -1),
    "top": (0, -1),
    "upper right": (1, -1),
}
_MOST_PITCHES = 3
_ODD_ANGLES = (30, 45, 60)
"""In degrees, beside each quarter turn: so far from all symmetries that none of these placements can be right."""


@dataclass(frozen=True)
class Way:
    """One way to read the places: x and y exchanged or not, each multiplied by 1 or -1, and then moved."""

    name: str
    """Goes on from "the spots fit ..."."""
    kind: str
    """"given", "turn" (about the centre of the spots), "image turn" (within the image's frame) or "shift"."""
    exchange: bool
    signs: np.ndarray
    offset: np.ndarray

    def places(self, xy: np.ndarray) -> np.ndarray:
        """Find where spots come to lie (n, 2)."""
        moved: np.ndarray = self.offset + self.signs * (xy[:, ::-1] if self.exchange else xy)
        return moved

    @property
    def expression(self) -> str:
        """The same as code, in which braces stand for the places."""
        x, y = (f"{value:.10g}" for value in np.round(self.offset, 2) + 0.0)
        signs = "" if (self.signs == 1).all() else "[{:.0f}, {:.0f}] * ".format(*self.signs)
        return f"[{x}, {y}] + {signs}{{}}{'[:, ::-1]' if self.exchange else ''}"


def ways(xy: np.ndarray, pitch: float, width_height: np.ndarray | None, *, step: str = "pitch") -> list[Way]:
    """List all ways, as given first.

    Parameters
    ----------
    xy
        Places of all spots of the section (n, 2), in full-resolution pixels.
    pitch
        Distance from a spot to the next.
    width_height
        Size of the image in full-resolution pixels; None where it is not known, or part of a larger one.
    step
        What `pitch` is, in the name of a shift.
    """
    centre = (xy.min(axis=0) + xy.max(axis=0)) / 2
    found = [Way(GIVEN, "given", False, np.ones(2), np.zeros(2))]
    found += _turns(centre)
    found += [way for way in _in_the_image(width_height) if not any(_alike(way, known, pitch) for known in found)]
    return found + list(_shifts(pitch, step))


def chance_places(xy: np.ndarray, around: np.ndarray) -> Iterator[np.ndarray]:
    """Give places that cannot be right: turned by odd angles about the centre of the section, and mirrored.

    Parameters
    ----------
    xy
        Places of the spots to turn (n, 2).
    around
        Places of all spots of the section, whose centre they are turned about.
    """
    centre = (around.min(axis=0) + around.max(axis=0)) / 2
    for angle in np.deg2rad([quarter + odd for quarter in range(0, 360, 90) for odd in _ODD_ANGLES]):
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        for mirror in (1, -1):
            yield centre + ((xy - centre) * [mirror, 1]) @ turn


def _turns(centre: np.ndarray) -> Iterator[Way]:
    """Give the symmetries of the square about a centre."""
    for number, name in NAMES_OF_TURNS.items():
        signs = _signs(TURNS[number])
        start = centre[::-1] if TURNS[number].exchange else centre
        yield Way(f"{name} about their centre", "turn", TURNS[number].exchange, signs, centre - signs * start)


def _in_the_image(width_height: np.ndarray | None) -> Iterator[Way]:
    """Give the symmetries of the image's frame: all, or x and y swapped alone where its size is not known."""
    for number, name in NAMES_OF_TURNS.items():
        turn, signs = TURNS[number], _signs(TURNS[number])
        if turn == Turn(exchange=True):
            yield Way(name, "image turn", True, signs, np.zeros(2))
        elif width_height is not None:
            offset = np.where(signs < 0, width_height - 1, 0.0)
            yield Way(f"{name} within the image", "image turn", turn.exchange, signs, offset)


def _shifts(pitch: float, step: str) -> Iterator[Way]:
    for steps in range(1, _MOST_PITCHES + 1):
        length = f"{steps} {step}" + ("" if steps == 1 else "es" if step.endswith("ch") else "s")
        for name, direction in _DIRECTIONS.items():
            offset = np.array(direction) / np.hypot(*direction) * steps * pitch
            yield Way(f"shifted by {length} to the {name}", "shift", False, np.ones(2), offset)


def _signs(turn: Turn) -> np.ndarray:
    return np.where([turn.left_right, turn.upside_down], -1.0, 1.0)


def _alike(way: Way, known: Way, pitch: float) -> bool:
    """Tell whether two ways lead to the same places, within half a pitch."""
    same = way.exchange == known.exchange and (way.signs == known.signs).all()
    return bool(same and np.hypot(*(way.offset - known.offset)) < pitch / 2)
