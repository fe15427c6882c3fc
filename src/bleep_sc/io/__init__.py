"""Moves models between AnnData and files, and takes tissue from SpatialData and from tiles that other programs cut."""

from bleep_sc.io._folder import read_model, write_model
from bleep_sc.io._slim_folder import read_slim_model
from bleep_sc.io._spatialdata.read import from_spatialdata
from bleep_sc.io._spatialdata.write import to_spatialdata
from bleep_sc.io._tiles.patches import from_patches
from bleep_sc.io._tiles.wsidata import from_wsidata

__all__ = [
    "from_patches",
    "from_spatialdata",
    "from_wsidata",
    "read_model",
    "read_slim_model",
    "to_spatialdata",
    "write_model",
]
