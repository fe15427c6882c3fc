"""Moves the model between AnnData and files."""

from bleep_sc.io._folder import read_model, write_model

__all__ = ["read_model", "write_model"]
