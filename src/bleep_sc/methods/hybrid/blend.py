"""How much of a hybrid prediction is retrieval and how much regression: chosen on held-out sections of the reference.

All of them predict scores on the same components of expression, so a blend is a weighted sum of scores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from bleep_sc.methods.learning.heldout import best_of
from bleep_sc.metrics.correlation import pearson

PREDICTORS = ("retrieval", "linear", "kernel")
"""The mean of retrieved profiles, ridge regression, and kernel ridge regression."""
_STEPS = 4
"""Weights are quarters: finer ones differ by less than the choice can tell."""

Setting = tuple[float, ...]
"""What can be chosen of one predictor: the number of neighbours, or penalty and number of components."""


@dataclass(frozen=True)
class HeldOutPart:
    """One held-out part of the reference, and all that is predicted of it."""

    truth: np.ndarray
    """(n, n_genes)."""
    loadings: np.ndarray
    """(n_components, n_genes), learned without these spots."""
    leading: np.ndarray
    """Genes that vary most in the rest of the reference (n_genes,), bool."""
    scores: Mapping[str, Mapping[Setting, np.ndarray]]
    """Predicted scores, by predictor and setting (n, n_components)."""


@dataclass(frozen=True)
class Blend:
    """The chosen setting of each predictor, and its weight."""

    settings: Mapping[str, Setting]
    weights: Mapping[str, float]
    """They sum to 1."""


def choose_blend(parts: Sequence[HeldOutPart]) -> tuple[Blend, float]:
    """Choose the blend that correlates best with the held-out parts, by gene; and its score.

    First each predictor's own best setting is taken, then the weights. The score is the mean over all genes and over
    the genes that vary most, half each: most genes are sparse, and what can be told of them is mostly how deep a spot
    was sequenced.
    """
    settings = {}
    for predictor in PREDICTORS:
        possible = set.intersection(*(set(part.scores[predictor]) for part in parts))
        score = {setting: _score(parts, {predictor: (setting, 1.0)}) for setting in sorted(possible)}
        settings[predictor] = best_of(score)
    score_of = {}
    for quarters in product(range(_STEPS + 1), repeat=len(PREDICTORS)):
        if sum(quarters) == _STEPS:
            weights = tuple(quarter / _STEPS for quarter in quarters)
            mixed = {
                predictor: (settings[predictor], weight) for predictor, weight in zip(PREDICTORS, weights, strict=True)
            }
            score_of[weights] = _score(parts, mixed)
    best = best_of(score_of)
    return Blend(settings, dict(zip(PREDICTORS, best, strict=True))), score_of[best]


def _score(parts: Sequence[HeldOutPart], mixed: Mapping[str, tuple[Setting, float]]) -> float:
    score_of_parts = []
    for part in parts:
        scores = sum(
            weight * part.scores[predictor][setting] for predictor, (setting, weight) in mixed.items() if weight
        )
        by_gene = np.nan_to_num(pearson(part.truth, scores @ part.loadings))
        score_of_parts.append(float(by_gene.mean() + by_gene[part.leading].mean()) / 2)
    return float(np.mean(score_of_parts))
