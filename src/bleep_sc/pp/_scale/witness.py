"""Somebody who says how many µm a pixel has."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Witness:
    """One source of an image's scale."""

    source: str
    """Who says so, as messages name it."""
    um_per_px: float
    """µm per full-resolution pixel."""
