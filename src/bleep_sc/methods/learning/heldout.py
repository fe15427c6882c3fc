"""Chooses a penalty, or a number of neighbours: fits on a part of the reference and predicts the rest."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from scipy import sparse

from bleep_sc._logging import logger
from bleep_sc.methods.learning.ridge_regression import RidgeProblem, component_scores
from bleep_sc.methods.task import InnerFolds
from bleep_sc.metrics.correlation import pearson
from bleep_sc.models.search.averaging import average_profiles
from bleep_sc.models.search.nearest import nearest
from bleep_sc.models.search.weighting import neighbor_weights

ALPHAS = tuple(float(a) for a in 10 ** np.arange(0, 5.5, 0.5))
NEIGHBORS = (5, 10, 25, 50, 100, 200)

_NEXT_TO_NOTHING = 0.05
"""Held-out Pearson below which images tell next to nothing of the expression.

Ridge regression on colours reaches .31 (olfactory bulb), .10 (HER2ST, all 14,978 genes) and .46 (toy tissue), and .01,
-.01 and .03 where the images of a section are shuffled. The default recipe reached .45 on the bulb, and .04 with the
images of its two sections swapped.
"""

S = TypeVar("S", bound=Any)
Learn = Callable[[np.ndarray, Sequence[np.ndarray]], Iterable[tuple[S, Iterable[np.ndarray]]]]
"""A function that learns from some rows.

It yields each setting with its predictions of each held-out part, one setting after another.
"""


def score_settings(folds: InnerFolds, settings: Sequence[S], learn: Learn[S], truth: Any) -> dict[S, float]:
    """Score each setting by its mean Pearson correlation, by gene within each held-out part.

    Parameters
    ----------
    folds
        Rows to learn from, and held-out rows, part by part.
    settings
        What is to be chosen from.
    learn
        Gives the predictions of all settings.
    truth
        Measured expression, dense or CSR (n, n_genes).
    """
    score = dict.fromkeys(settings, 0.0)
    for training, parts in folds:
        for setting, predictions in learn(training, parts):
            for held_out, predicted in zip(parts, predictions, strict=True):
                measured = truth[held_out]
                measured = measured.toarray() if sparse.issparse(measured) else measured
                correlation = float(np.nan_to_num(pearson(measured, predicted)).mean())
                score[setting] += correlation / len(parts) / len(folds)
    return score


def say_if_next_to_nothing(score: float) -> None:
    """Log that something may be wrong with the images, where they predict held-out parts no better than chance.

    It is no warning: a tissue, or a set of sparse genes, may be so.
    """
    if score < _NEXT_TO_NOTHING:
        logger.info(
            "The images tell next to nothing of the expression (Pearson %.3f on held-out parts). Check image, scale "
            "and places: bleep_sc.pp.check_alignment(adata).",
            score,
        )


def best_of(score: Mapping[S, float]) -> S:
    """Choose the setting of highest score; of two with the same score the larger."""
    return max(score, key=lambda setting: (round(score[setting], 9), setting))


def choose_alpha(
    features: np.ndarray,
    chosen: np.ndarray,
    folds: InnerFolds,
    *,
    n_components: int,
    alphas: Sequence[float] = ALPHAS,
    seed: int = 0,
) -> tuple[float, dict[float, float]]:
    """Choose the penalty of a ridge regression.

    Returns
    -------
    The penalty of highest score, the stronger where two are equal, and the score of each.
    """

    def learn(training: np.ndarray, parts: Sequence[np.ndarray]) -> Iterator[tuple[float, Iterable[np.ndarray]]]:
        y = chosen[training]
        scores = component_scores(y, n_components, seed=seed)
        problem = RidgeProblem.of(features[training], y, scores=scores)
        for alpha in alphas:
            yield alpha, map(problem.solved(alpha).predict, (features[held_out] for held_out in parts))

    score = score_settings(folds, alphas, learn, chosen)
    return best_of(score), score


def choose_k(
    images: np.ndarray,
    keys: np.ndarray,
    expression: Any,
    folds: InnerFolds,
    *,
    candidates: Sequence[int] = NEIGHBORS,
) -> tuple[int, dict[int, float]]:
    """Choose how many neighbours to average, by imputing held-out reference spots from the others.

    Parameters
    ----------
    images
        Image embeddings of all reference spots (n, d).
    keys
        What they are compared with: expression or image embeddings of the same spots.
    expression
        Measured expression of the genes that count, dense or CSR (n, n_genes).
    folds
        Rows to retrieve from, and rows to impute, section by section; the latter should not have been trained on.
    candidates
        Numbers to choose from; those above the number of spots are left out.

    Returns
    -------
    The number of highest score, the larger where two are equal, and the score of each.
    """
    fewest = min(len(rows) for rows, _ in folds)
    possible = [k for k in candidates if k <= fewest] or [fewest]

    def learn(training: np.ndarray, parts: Sequence[np.ndarray]) -> Iterator[tuple[int, Iterable[np.ndarray]]]:
        profiles = expression[training]
        near = [nearest(images[held_out], keys[training], max(possible)) for held_out in parts]
        for k in possible:
            yield k, (_average(profiles, rows[:, :k], distances[:, :k]) for rows, distances in near)

    score = score_settings(folds, possible, learn, expression)
    return best_of(score), score


def _average(profiles: Any, rows: np.ndarray, distances: np.ndarray) -> np.ndarray:
    return average_profiles(profiles, np.ascontiguousarray(rows), neighbor_weights(distances, "mean"))
