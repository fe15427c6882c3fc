"""Chooses the blend of the default recipe on held-out parts of the reference, and keeps what it predicts of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from bleep_sc._blocks import dense
from bleep_sc._logging import logger
from bleep_sc._progress import progress
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


def choose_on_folds(task: Task[Any], spots: LearnedSpots) -> tuple[Blend, OutOfFold | None]:
    """Predict each held-out part of the reference from the rest, by every model, and take the best blend.

    What the blend predicts is kept where no fold was trained on other spots of the sections that it predicts.
    """
    parts: list[_Part] = []
    seen: list[HeldOutPart] = []
    decoders = []
    kept = task.leaves_out_sections
    rng = np.random.default_rng(task.seed)
    quiet = replace(task.compute, progress_bar=False)
    n_encoders, patients_tell = len(spots.features), task.n_patients >= FEWEST_PATIENTS
    shares = possible_shares(n_encoders) if patients_tell else [equal_shares(n_encoders)]
    genes, largest = task.expression.genes, 0
    folds = progress(task.folds, desc="Choosing the mix", show=task.compute.progress_bar)
    for fold, (training, held_out_parts) in enumerate(folds):
        largest = max(largest, len(training))
        training = _some(training, rng)
        training_spots = spots.at_rows(training)
        models = ComponentModels.learn(
            training_spots,
            task.recipe,
            compute=quiet,
            seed=task.seed,
            announce=False,
            checkpoints=partial(_checkpoints, task, f"fold{fold + 1}"),
        )
        if kept:
            decoders.append(Decoder.learn(models.scores, task.all_genes.matrix[training]))
        leading = np.isin(genes, panels(training_spots.expression, genes, training_spots.sections)["HVG-50"])
        for rows in held_out_parts:
            parts.append(_Part(fold, rows, models, leading))
            seen.append(parts[-1].judged(spots, _some(rows, rng), shares))
    blend, score = choose_blend(seen, least_linear=0.0 if patients_tell else _LINEAR_SHARE)
    _report(blend, score)
    limited = MOST_TO_CHOOSE_ON if largest > MOST_TO_CHOOSE_ON else None
    return blend, _collected(
        blend, zip(parts, seen, strict=True), decoders, spots, trained_on=limited
    ) if kept else None


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
