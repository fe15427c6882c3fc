"""Make images and expression ready."""

from bleep_sc.pp._blank import blank
from bleep_sc.pp._check_alignment import check_alignment
from bleep_sc.pp._crops import crops
from bleep_sc.pp._genes import select_genes
from bleep_sc.pp._harmony import harmonize

__all__ = ["blank", "check_alignment", "crops", "harmonize", "select_genes"]
