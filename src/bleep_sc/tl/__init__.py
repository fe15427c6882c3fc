"""Train, embed, impute, evaluate."""

from bleep_sc.tl._embed import embed
from bleep_sc.tl._evaluate import evaluate
from bleep_sc.tl._fit import fit
from bleep_sc.tl._impute import impute

__all__ = ["embed", "evaluate", "fit", "impute"]
