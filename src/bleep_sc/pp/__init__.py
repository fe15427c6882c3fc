"""Make images and expression ready."""

from bleep_sc.pp._blank import blank
from bleep_sc.pp._crops import crops
from bleep_sc.pp._genes import select_genes
from bleep_sc.pp._harmony import harmonize

__all__ = ["blank", "crops", "harmonize", "select_genes"]
