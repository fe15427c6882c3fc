"""Somebody who says how many µm a pixel has."""

from dataclasses import dataclass

from bleep_sc.pp._finding import Finding


@dataclass(frozen=True)
class Witness:
    """One source of an image's scale."""

    source: str
    """Who says so, as messages name it."""
    um_per_px: float
    """µm per full-resolution pixel; NaN if what could have told it turned out to be something else."""
    believed: bool = True
    """Whether the scale may be taken from here; else it only checks others."""
    doubt: Finding | None = None
    """What is odd here, to be said where nobody else knows the scale."""
