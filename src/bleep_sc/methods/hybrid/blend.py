"""The blend of retrieval and regression in a hybrid prediction, chosen on held-out sections of the reference.

All of them predict scores on the same components of expression, so a blend is a weighted sum of scores. Where several
encoders read the crops, each has regressions of its own, and retrieval compares the spaces of all of them side by side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from bleep_sc.methods.learning.heldout import best_of
from bleep_sc.metrics.correlation import pearson

REGRESSIONS = ("linear", "kernel")
PREDICTORS = ("retrieval", *REGRESSIONS)
"""The predictors: the mean of retrieved profiles, ridge regression, and kernel ridge regression."""
_STEPS = 4
"""The number of steps of a weight: weights finer than quarters differ by less than the choice can tell."""
_GAIN_OF_SHARES = 0.005
"""The gain for which one encoder counts more than another. A smaller one is within the noise of the choice."""

Setting = tuple[float, ...]
"""A setting of one predictor: the number of neighbours, or penalty and number of components."""
Shares = tuple[float, ...]
"""How much each encoder counts; shares sum to 1."""


@dataclass(frozen=True)
class Predicted:
    """The scores that every predictor predicts of some spots."""

    retrieved: Mapping[Shares, Mapping[Setting, np.ndarray]]
    """The scores (n, n_components) that retrieval predicts, by the encoders' shares and the number of neighbours."""
    regressed: Sequence[Mapping[str, Mapping[Setting, np.ndarray]]]
    """The scores (n, n_components) that each encoder's regressions predict, by regression and setting."""


@dataclass(frozen=True)
class HeldOutPart(Predicted):
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


@dataclass(frozen=True)
class Blend:
    """The chosen settings, and the weight of each predictor."""

    neighbors: Setting
    """The number of neighbours."""
    settings: Sequence[Mapping[str, Setting]]
    """The setting of each regression, for each encoder."""
    weights: Mapping[str, float]
    """The weight of each predictor; weights sum to 1."""
    shares: Shares

    @property
    def regression(self) -> "Blend":
        """The same blend without retrieval."""
        return replace(self, weights=of_regressions(self.weights))

    def mix(self, predicted: Predicted) -> np.ndarray:
        """Mix what the predictors say of some spots, scores (n, n_components)."""
        scores = self.weights["retrieval"] * predicted.retrieved[self.shares][self.neighbors]
        for regression in REGRESSIONS:
            if weight := self.weights[regression]:
                scores = scores + weight * _fused(predicted, regression, self.settings, self.shares)
        return np.asarray(scores)


def of_regressions(weights: Mapping[str, float]) -> dict[str, float]:
    """Return the weight of each predictor where nothing is retrieved; the kernel's is all where no other was chosen."""
    regressions = {name: float(weights[name]) for name in REGRESSIONS}
    total = sum(regressions.values())
    if not total:
        regressions, total = {**regressions, "kernel": 1.0}, 1.0
    return {"retrieval": 0.0, **{name: weight / total for name, weight in regressions.items()}}


def equal_shares(n_encoders: int) -> Shares:
    """Make the shares of encoders that count alike."""
    return (1 / n_encoders,) * n_encoders


def possible_shares(n_encoders: int) -> list[Shares]:
    """List the shares to choose from: all alike, or one encoder with three quarters, the rest with equal parts."""
    if n_encoders == 1:
        return [(1.0,)]
    small = 0.25 / (n_encoders - 1)
    one_leads = [tuple(0.75 if e == leader else small for e in range(n_encoders)) for leader in range(n_encoders)]
    return [equal_shares(n_encoders), *one_leads]


def choose_blend(parts: Sequence[HeldOutPart], *, least_linear: float = 0.0) -> tuple[Blend, float]:
    """Choose the blend that correlates best with the held-out parts, by gene, and return it with its score.

    First each predictor's own best setting is chosen, then the weights; that of the linear one is `least_linear` or
    more. Encoders count alike unless other shares that were tried gain more than .005. The score is the mean over all
    genes and over the genes that vary most, half each. Most genes are sparse: what can be told of them is mostly how
    deep a spot was sequenced.
    """
    settings = [
        {regression: _best_setting(parts, encoder, regression) for regression in REGRESSIONS}
        for encoder in range(len(parts[0].regressed))
    ]
    equal, *others = parts[0].retrieved
    best, score = _choose_weights(parts, settings, equal, least_linear=least_linear)
    for shares in others:
        blend, with_shares = _choose_weights(parts, settings, shares, least_linear=least_linear)
        if with_shares > score + (_GAIN_OF_SHARES if best.shares == equal else 0):
            best, score = blend, with_shares
    return best, score


def _best_setting(parts: Sequence[HeldOutPart], encoder: int, regression: str) -> Setting:
    predicted = [part.regressed[encoder][regression] for part in parts]
    possible = set.intersection(*(set(by_setting) for by_setting in predicted))
    return best_of(
        {setting: _score(parts, [by_setting[setting] for by_setting in predicted]) for setting in sorted(possible)}
    )


def _choose_weights(
    parts: Sequence[HeldOutPart], settings: Sequence[Mapping[str, Setting]], shares: Shares, *, least_linear: float
) -> tuple[Blend, float]:
    """Choose the number of neighbours, and then the weights, for encoders that count by these shares."""
    retrieved = [part.retrieved[shares] for part in parts]
    possible = set.intersection(*(set(by_setting) for by_setting in retrieved))
    neighbors = best_of({k: _score(parts, [by_setting[k] for by_setting in retrieved]) for k in sorted(possible)})
    score_of = {}
    for quarters in product(range(_STEPS + 1), repeat=len(PREDICTORS)):
        if sum(quarters) == _STEPS:
            free = {name: (1 - least_linear) * n / _STEPS for name, n in zip(PREDICTORS, quarters, strict=True)}
            weights = free | {"linear": free["linear"] + least_linear}
            blend = Blend(neighbors, settings, weights, shares)
            score_of[tuple(weights.values())] = _score(parts, [blend.mix(part) for part in parts])
    best = best_of(score_of)
    return Blend(neighbors, settings, dict(zip(PREDICTORS, best, strict=True)), shares), score_of[best]


def _score(parts: Sequence[HeldOutPart], scores: Sequence[np.ndarray]) -> float:
    score_of_parts = []
    for part, predicted in zip(parts, scores, strict=True):
        by_gene = np.nan_to_num(pearson(part.truth, predicted @ part.loadings))
        score_of_parts.append(float(by_gene.mean() + by_gene[part.leading].mean()) / 2)
    return float(np.mean(score_of_parts))


def _fused(
    predicted: Predicted, regression: str, settings: Sequence[Mapping[str, Setting]], shares: Shares
) -> np.ndarray:
    of_encoders = zip(predicted.regressed, settings, shares, strict=True)
    return np.asarray(sum(share * own[regression][chosen[regression]] for own, chosen, share in of_encoders))
