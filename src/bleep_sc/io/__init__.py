"""Moves the model between AnnData and files, and reads slides that other programs cut into tiles."""

from bleep_sc.io._folder import read_model, write_model
from bleep_sc.io._tiles.patches import from_patches
from bleep_sc.io._tiles.wsidata import from_wsidata

__all__ = ["from_patches", "from_wsidata", "read_model", "write_model"]
