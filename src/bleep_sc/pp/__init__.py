"""Make images and expression ready."""

from bleep_sc.pp._blank import blank
from bleep_sc.pp._check_alignment import check_alignment
from bleep_sc.pp._crops import crops
from bleep_sc.pp._genes import select_genes
from bleep_sc.pp._grid import grid
from bleep_sc.pp._harmony import harmonize
from bleep_sc.pp._pool import pool

__all__ = ["blank", "check_alignment", "crops", "grid", "harmonize", "pool", "select_genes"]
