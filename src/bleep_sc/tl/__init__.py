"""Train, embed, impute, evaluate, compare."""

from bleep_sc.tl._alignment import alignment
from bleep_sc.tl._calibrate import calibrate
from bleep_sc.tl._cross_validate import cross_validate
from bleep_sc.tl._embed import embed
from bleep_sc.tl._encode import encode
from bleep_sc.tl._evaluate import evaluate
from bleep_sc.tl._fit import fit
from bleep_sc.tl._impute import impute
from bleep_sc.tl._intervals import intervals
from bleep_sc.tl._noise_ceiling import noise_ceiling
from bleep_sc.tl._predictability import predictability
from bleep_sc.tl._study.evaluate_regions import evaluate_regions
from bleep_sc.tl._study.gene_strata import gene_strata
from bleep_sc.tl._study.learning_curve import learning_curve
from bleep_sc.tl._study.plan import plan
from bleep_sc.tl._study.sweep import sweep
from bleep_sc.tl._study.transfer_matrix import transfer_matrix

__all__ = [
    "alignment",
    "calibrate",
    "cross_validate",
    "embed",
    "encode",
    "evaluate",
    "evaluate_regions",
    "fit",
    "gene_strata",
    "impute",
    "intervals",
    "learning_curve",
    "noise_ceiling",
    "plan",
    "predictability",
    "sweep",
    "transfer_matrix",
]
