"""Moves the model between AnnData and files, and tissue between SpatialData and AnnData."""

from bleep_sc.io._folder import read_model, write_model
from bleep_sc.io._spatialdata.read import from_spatialdata
from bleep_sc.io._spatialdata.write import to_spatialdata

__all__ = ["from_spatialdata", "read_model", "to_spatialdata", "write_model"]
