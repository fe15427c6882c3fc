"""Predict spatial gene expression from H&E images, inside AnnData.

The main job runs from left to right, one function each step::

    image + spots -> pp.crops -> tl.fit (the reference) -> tl.impute (the query) -> layers["bleep"]

Importing `bleep_sc` loads no deep-learning or image library. Each function imports those that it uses.
"""

from importlib.metadata import version

from bleep_sc import datasets, io, pl, pp, tl
from bleep_sc._report import report
from bleep_sc._settings import settings

__version__ = version("bleep-sc")
__all__ = ["datasets", "io", "pl", "pp", "report", "settings", "tl"]
