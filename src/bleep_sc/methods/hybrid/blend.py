"""The blend of retrieval and regression in a hybrid prediction, chosen on held-out sections of the reference.

All of them predict scores on the same components of expression, so a blend is a weighted sum of scores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from bleep_sc.methods.learning.heldout import best_of
from bleep_sc.metrics.correlation import pearson

PREDICTORS = ("retrieval", "linear", "kernel")
"""The predictors: the mean of retrieved profiles, ridge regression, and kernel ridge regression."""
_STEPS = 4
"""The number of steps of a weight: weights finer than quarters differ by less than the choice can tell."""

Setting = tuple[float, ...]
"""A setting of one predictor: the number of neighbours, or penalty and number of components."""


@dataclass(frozen=True)
class HeldOutPart:
    """One held-out part of the reference, and all that is predicted of it."""

    fold: int
    """The number of the fold, from 0."""
    rows: np.ndarray
    """The rows of its spots (n,)."""
    truth: np.ndarray
    """The measured expression (n, n_genes)."""
    loadings: np.ndarray
    """The loadings of the components (n_components, n_genes), learned without these spots."""
    leading: np.ndarray
    """Whether a gene is one of those that vary most in the rest of the reference (n_genes,), bool."""
    scores: Mapping[str, Mapping[Setting, np.ndarray]]
    """The predicted scores (n, n_components), by predictor and setting."""


@dataclass(frozen=True)
class Blend:
    """The chosen setting of each predictor, and its weight."""

    settings: Mapping[str, Setting]
    weights: Mapping[str, float]
    """The weight of each predictor; weights sum to 1."""

    def mix(self, part: HeldOutPart) -> np.ndarray:
        """Mix what the predictors say of a held-out part, scores (n, n_components)."""
        return _mixed(
            part, {predictor: (self.settings[predictor], weight) for predictor, weight in self.weights.items()}
        )


def choose_blend(parts: Sequence[HeldOutPart], *, least_linear: float = 0.0) -> tuple[Blend, float]:
    """Choose the blend that correlates best with the held-out parts, by gene, and return it with its score.

    First each predictor's own best setting is chosen, then the weights; that of the linear one is `least_linear` or
    more. The score is the mean over all genes and over the genes that vary most, half each. Most genes are sparse: what
    can be told of them is mostly how deep a spot was sequenced.
    """
    settings = {}
    for predictor in PREDICTORS:
        possible = set.intersection(*(set(part.scores[predictor]) for part in parts))
        score = {setting: _score(parts, {predictor: (setting, 1.0)}) for setting in sorted(possible)}
        settings[predictor] = best_of(score)
    score_of = {}
    for quarters in product(range(_STEPS + 1), repeat=len(PREDICTORS)):
        if sum(quarters) == _STEPS:
            free = [(1 - least_linear) * quarter / _STEPS for quarter in quarters]
            weights = tuple(
                weight + (least_linear if predictor == "linear" else 0)
                for predictor, weight in zip(PREDICTORS, free, strict=True)
            )
            mixed = {
                predictor: (settings[predictor], weight) for predictor, weight in zip(PREDICTORS, weights, strict=True)
            }
            score_of[weights] = _score(parts, mixed)
    best = best_of(score_of)
    return Blend(settings, dict(zip(PREDICTORS, best, strict=True))), score_of[best]


def _score(parts: Sequence[HeldOutPart], mixed: Mapping[str, tuple[Setting, float]]) -> float:
    score_of_parts = []
    for part in parts:
        by_gene = np.nan_to_num(pearson(part.truth, _mixed(part, mixed) @ part.loadings))
        score_of_parts.append(float(by_gene.mean() + by_gene[part.leading].mean()) / 2)
    return float(np.mean(score_of_parts))


def _mixed(part: HeldOutPart, mixed: Mapping[str, tuple[Setting, float]]) -> np.ndarray:
    return np.asarray(
        sum(weight * part.scores[predictor][setting] for predictor, (setting, weight) in mixed.items() if weight)
    )
