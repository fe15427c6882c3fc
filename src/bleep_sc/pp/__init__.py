"""Make images and expression ready."""

from bleep_sc.pp._crops import crops

__all__ = ["crops"]
