"""Writes one HTML file from what tl has written: for someone who has a browser and no Python."""

from bleep_sc._report._write import report

__all__ = ["report"]
