"""Other ways in which spots could lie on an image, each with the line of code that puts them there."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from bleep_sc.pp._images.turn import TURNS
from bleep_sc.pp._signs.section import SectionToCheck


@dataclass(frozen=True)
class Placement:
    """One way to read the places of the spots."""

    name: str
    """Goes on from "the spots fit ..."."""
    xy: np.ndarray
    """Where they then are, in full-resolution pixels (n, 2)."""
    remedy: str


NAMES_OF_TURNS = {
    2: "mirrored left to right",
    3: "turned by 180°",
    4: "mirrored upside down",
    5: "with x and y swapped",
    6: "turned by 90° to the right",
    7: "with x and y swapped and turned by 180°",
    8: "turned by 90° to the left",
}
_EXPRESSIONS: dict[int, Callable[[int, int], str]] = {
    2: lambda w, h: f"[{w - 1}, 0] + [-1, 1] * {{}}",
    3: lambda w, h: f"[{w - 1}, {h - 1}] - {{}}",
    4: lambda w, h: f"[0, {h - 1}] + [1, -1] * {{}}",
    5: lambda w, h: "{}[:, ::-1].copy()",
    6: lambda w, h: f"[{w - 1}, 0] + [-1, 1] * {{}}[:, ::-1]",
    7: lambda w, h: f"[{w - 1}, {h - 1}] - {{}}[:, ::-1]",
    8: lambda w, h: f"[0, {h - 1}] + [1, -1] * {{}}[:, ::-1]",
}
"""What puts the places right, by the number of the turn, within an image of this width and height."""


def turned(section: SectionToCheck) -> Iterator[Placement]:
    """Give the places turned and mirrored within the image."""
    width, height = np.rint(section.full_size).astype(int).tolist()
    for number, name in NAMES_OF_TURNS.items():
        turn = TURNS[number]
        size = np.array([height, width] if turn.exchange else [width, height])
        line = section.code.moved(_EXPRESSIONS[number](width, height))
        yield Placement(name, turn.place(section.xy, size), f"`{line}`, or turn the image")


def rescaled(section: SectionToCheck) -> Iterator[Placement]:
    """Give the places as pixels of a recorded smaller picture, or as micrometres."""
    yield from in_micrometres(section)
    for name, factor in section.factors.items():
        if factor != 1:
            remedy = f"`{section.code.moved(f'{{}} / {factor:.6g}')}`"
            yield Placement(f"as pixels of a smaller picture (`{name}` {factor:.4g})", section.xy / factor, remedy)


def in_micrometres(section: SectionToCheck) -> Iterator[Placement]:
    """Give the places as micrometres, by all who know the scale."""
    for witness in section.scale.witnesses:
        if witness.um_per_px != 1:
            remedy = f"`{section.code.moved(f'{{}} / {witness.um_per_px:.6g}')}`"
            name = f"as micrometres ({witness.um_per_px:.4g} µm per pixel by {witness.source})"
            yield Placement(name, section.xy / witness.um_per_px, remedy)
