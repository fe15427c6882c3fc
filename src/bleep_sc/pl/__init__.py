"""Draw what tl has written."""

from bleep_sc.pl._alignment import alignment
from bleep_sc.pl._alignment_check import alignment_check
from bleep_sc.pl._calibration import calibration
from bleep_sc.pl._gene_correlation import gene_correlation
from bleep_sc.pl._gene_scores import gene_scores
from bleep_sc.pl._history import history
from bleep_sc.pl._imputed import imputed
from bleep_sc.pl._neighbors import neighbors
from bleep_sc.pl._predictable_genes import predictable_genes
from bleep_sc.pl._reliability import reliability
from bleep_sc.pl._scores import scores
from bleep_sc.pl._study.learning_curve import learning_curve
from bleep_sc.pl._study.regions import regions
from bleep_sc.pl._study.transfer_matrix import transfer_matrix
from bleep_sc.pl._sweep import sweep

__all__ = [
    "alignment",
    "alignment_check",
    "calibration",
    "gene_correlation",
    "gene_scores",
    "history",
    "imputed",
    "learning_curve",
    "neighbors",
    "predictable_genes",
    "regions",
    "reliability",
    "scores",
    "sweep",
    "transfer_matrix",
]
