"""Reads an AnnData into arrays, alike for `fit`, `embed`, `impute` and `cross_validate`."""

from bleep_sc.tl._inputs.read import AsAsked, AsStored, read

__all__ = ["AsAsked", "AsStored", "read"]
