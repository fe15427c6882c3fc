"""Predict spatial gene expression from H&E images, inside AnnData.

The flow, each arrow one function::

    image + spots -> pp.crops -> tl.fit (the reference) -> tl.impute (the query) -> layers["bleep"]

Naming any public function imports no deep-learning or image library: those are imported where they are used.
"""

from importlib.metadata import version

from bleep_sc import datasets, io, pl, pp, tl
from bleep_sc._settings import settings

__version__ = version("bleep-sc")
__all__ = ["datasets", "io", "pl", "pp", "settings", "tl"]
