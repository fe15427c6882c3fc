"""Learns the default recipe, and chooses its blend on held-out parts of the reference, whose predictions are kept."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from bleep_sc._blocks import dense
from bleep_sc._logging import logger
from bleep_sc._progress import progress
from bleep_sc._side_effects import one_thread, threads_for
from bleep_sc._stats import panels
from bleep_sc.methods.hybrid.blend import (
    Blend,
    HeldOutPart,
    Predicted,
    Shares,
    choose_blend,
    equal_shares,
    possible_shares,
)
from bleep_sc.methods.hybrid.component_models import RETRIEVAL, ComponentModels, LearnedSpots
from bleep_sc.methods.hybrid.components import Decoder
from bleep_sc.methods.learning.heldout import say_if_next_to_nothing
from bleep_sc.methods.task import OutOfFold, Task
from bleep_sc.models.train.at_once import at_once
from bleep_sc.models.train.checkpoints import Checkpoints

MOST_TO_CHOOSE_ON = 4000
"""The most spots that a fold learns from, and the most of a part that it is judged by: more choose no better."""
_PREDICTED_AT_ONCE = 50_000
"""Spots of a large part that are predicted together: their features and neighbours take some hundred megabytes."""
_LINEAR_SHARE = 1 / 3
"""The least linear share with fewer than three patients: they cannot tell what serves another patient best.

On one tumour of another patient the linear way did best; folds within one patient give it little or no weight.
"""
FEWEST_PATIENTS = 3
"""The fewest patients of which leaving out one tells what serves another: the linear share, the encoders' shares."""


@dataclass(frozen=True)
class Learned:
    """What is learned from a reference, and the blend that predicts its held-out parts best."""

    models: ComponentModels
    """The models of all spots."""
    blend: Blend
    out_of_fold: OutOfFold | None
    """What the blend predicts of spots by models that saw none of their section; None where folds divide sections."""


def learn_and_choose(task: Task[Any], spots: LearnedSpots) -> Learned:
    """Learn from all spots, and from all but each held-out part; predict the parts by every model, take the best blend.

    On a CPU one thread trains each model, several models at once. OpenMP's threads wait for each other in a loop that
    takes a whole core: beside other work, steps of milliseconds spend nearly all of their time there.
    """
    n_encoders, patients_tell = len(spots.features), task.n_patients >= FEWEST_PATIENTS
    shares = possible_shares(n_encoders) if patients_tell else [equal_shares(n_encoders)]
    folds = _draw_folds(task)
    on_cpu = task.compute.device.type == "cpu"
    n_threads = torch.get_num_threads() if on_cpu else 1
    with one_thread() if on_cpu else threads_for(len(spots.features[0])):
        # the longest first
        models, *of_folds = at_once(
            [
                partial(_learn_from_all, task, spots),
                *(partial(_learn_fold, task, spots, shares, fold) for fold in folds),
            ],
            n_threads=n_threads,
            watch=partial(progress, desc="Choosing the mix", show=task.compute.progress_bar),
        )
    parts = [part for of_fold in of_folds for part in of_fold.parts]
    seen = [judged for of_fold in of_folds for judged in of_fold.seen]
    with threads_for(len(spots.features[0])):
        blend, score = choose_blend(seen, least_linear=0.0 if patients_tell else _LINEAR_SHARE)
    _report(blend, score)
    if not task.leaves_out_sections:
        return Learned(models, blend, None)
    largest = max(len(training) for training, _ in task.folds)
    limited = MOST_TO_CHOOSE_ON if largest > MOST_TO_CHOOSE_ON else None
    decoders = [of_fold.decoder for of_fold in of_folds]
    return Learned(models, blend, _collected(blend, zip(parts, seen, strict=True), decoders, spots, trained_on=limited))


@dataclass(frozen=True)
class _Fold:
    """A fold of which at most so many spots are used as serve the choice."""

    number: int
    training: np.ndarray
    held_out: list[np.ndarray]
    """The rows of each held-out part."""
    judged: list[np.ndarray]
    """Those of them that it is judged by."""


@dataclass(frozen=True)
class _LearnedFold:
    """The held-out parts of a fold, and what its models predict of them."""

    parts: list["_Part"]
    seen: list[HeldOutPart]
    decoder: Decoder | None
    """From scores to the expression of all genes; None where no prediction is kept."""


def _draw_folds(task: Task[Any]) -> list[_Fold]:
    rng = np.random.default_rng(task.seed)
    return [
        _Fold(number, _some(training, rng), held_out, [_some(rows, rng) for rows in held_out])
        for number, (training, held_out) in enumerate(task.folds)
    ]


def _learn_from_all(task: Task[Any], spots: LearnedSpots) -> ComponentModels:
    return ComponentModels.learn(
        spots,
        task.recipe,
        compute=task.compute,
        seed=task.seed,
        announce=True,
        checkpoints=partial(_checkpoints, task, "all-spots"),
    )


def _learn_fold(task: Task[Any], spots: LearnedSpots, shares: Sequence[Shares], fold: _Fold) -> _LearnedFold:
    genes = task.expression.genes
    training_spots = spots.at_rows(fold.training)
    models = ComponentModels.learn(
        training_spots,
        task.recipe,
        compute=replace(task.compute, progress_bar=False),
        seed=task.seed,
        announce=False,
        checkpoints=partial(_checkpoints, task, f"fold{fold.number + 1}"),
    )
    leading = np.isin(genes, panels(training_spots.expression, genes, training_spots.sections)["HVG-50"])
    parts = [_Part(fold.number, rows, models, leading) for rows in fold.held_out]
    return _LearnedFold(
        parts,
        [part.judged(spots, rows, shares) for part, rows in zip(parts, fold.judged, strict=True)],
        Decoder.learn(models.scores, task.all_genes.matrix[fold.training]) if task.leaves_out_sections else None,
    )


@dataclass(frozen=True)
class _Part:
    """A held-out part of the reference, and the models that were learned without it."""

    fold: int
    rows: np.ndarray
    models: ComponentModels
    leading: np.ndarray

    def judged(self, spots: LearnedSpots, rows: np.ndarray, shares: Sequence[Shares]) -> HeldOutPart:
        """Predict spots of the part by every model with all settings that there are to choose from."""
        features, settings = self._features(spots, rows), self.models.possible_settings
        return HeldOutPart(
            retrieved=self.models.retrieve(features, shares, RETRIEVAL),
            regressed=self.models.regress(features, [settings] * len(features)),
            fold=self.fold,
            rows=rows,
            truth=dense(spots.expression[rows]),
            loadings=self.models.components.loadings,
            leading=self.leading,
        )

    def mixed(self, spots: LearnedSpots, blend: Blend) -> list[np.ndarray]:
        """Predict all spots of the part by the chosen settings alone, and mix that: scores (n, n_components).

        The first are those of the blend, the second those of its regressions alone.
        """
        settings = [{name: [setting] for name, setting in chosen.items()} for chosen in blend.settings]
        scores: list[list[np.ndarray]] = [[], []]
        for start in range(0, len(self.rows), _PREDICTED_AT_ONCE):
            features = self._features(spots, self.rows[start : start + _PREDICTED_AT_ONCE])
            retrieved = self.models.retrieve(features, [blend.shares], [blend.neighbors])
            predicted = Predicted(retrieved, self.models.regress(features, settings))
            for mixed, used in zip(scores, (blend, blend.regression), strict=True):
                mixed.append(used.mix(predicted))
        return [np.concatenate(mixed) for mixed in scores]

    @staticmethod
    def _features(spots: LearnedSpots, rows: np.ndarray) -> list[np.ndarray]:
        return [own[rows] for own in spots.features]


def _some(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw some of very many rows, and take all of fewer."""
    if len(rows) <= MOST_TO_CHOOSE_ON:
        return rows
    return np.sort(rng.choice(rows, MOST_TO_CHOOSE_ON, replace=False))


def _checkpoints(task: Task[Any], fold: str, encoder: str) -> Checkpoints | None:
    return task.checkpoints(fold + encoder)


def _report(blend: Blend, score: float) -> None:
    chosen = [f"{weight:.0%} {predictor}" for predictor, weight in blend.weights.items() if weight]
    if blend.shares != equal_shares(len(blend.shares)):
        chosen.append(f"encoders {' : '.join(f'{share:.0%}' for share in blend.shares)}")
    logger.info("Chosen on held-out parts of the reference (Pearson %.3f): %s.", score, ", ".join(chosen))
    say_if_next_to_nothing(score)


def _collected(
    blend: Blend,
    parts: Iterable[tuple[_Part, HeldOutPart]],
    decoders: list[Decoder],
    spots: LearnedSpots,
    *,
    trained_on: int | None,
) -> OutOfFold:
    """Put the predictions of all parts together; of very large parts, those of the spots not seen so far too."""
    n_obs, width = spots.expression.shape[0], max(len(decoder.loadings) for decoder in decoders)
    scores = [np.full((n_obs, width), np.nan, dtype=np.float32) for _ in range(2)]
    fold = np.full(n_obs, -1, dtype=np.int32)
    for part, judged in parts:
        seen_whole = len(judged.rows) == len(part.rows)
        mixed = [blend.mix(judged), blend.regression.mix(judged)] if seen_whole else part.mixed(spots, blend)
        for of_all, of_part in zip(scores, mixed, strict=True):
            of_all[part.rows] = 0  # folds may have unlike numbers of components
            of_all[part.rows, : len(judged.loadings)] = of_part
        fold[part.rows] = part.fold
    return OutOfFold(scores[0], fold, decoders, trained_on, regressed=scores[1])
