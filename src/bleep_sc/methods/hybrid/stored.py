"""The default recipe's own part of a config: its rules, its values, and the check that it fits its model."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bleep_sc.methods.hybrid.blend import PREDICTORS, of_regressions
from bleep_sc.methods.task import Trained
from bleep_sc.models.nets.rules import MAX_CONTEXT, NUMBER, NUMBERS, POSITIVE, Rule, each, whole

OWN_CONFIG: Mapping[str, Rule] = {
    "spread": each(NUMBER),
    "chosen": each(NUMBER),
    "centers": each(NUMBERS),
    "context": whole(0, MAX_CONTEXT),
    "depth_unit": POSITIVE,
    "depth_genes": whole(1),
}


def known_centers(trained: Trained) -> dict[str, np.ndarray]:
    """Read the centres of the sections that the model was trained on (n_components,), by name."""
    return {name: np.asarray(center, dtype=np.float64) for name, center in trained.method_config["centers"].items()}


def blend_weights(trained: Trained, mode: str) -> dict[str, float]:
    """Read the weight of each predictor: as `fit` chose them, or of the regressions alone."""
    weights = {predictor: float(trained.method_config["chosen"][f"weight_{predictor}"]) for predictor in PREDICTORS}
    if mode == "regression":
        return of_regressions(weights)
    total = sum(weights.values())
    return {predictor: weight / total for predictor, weight in weights.items()}


def check_stored(trained: Trained, where: str) -> None:
    """Refuse a config, which comes from a file, that does not fit the model's parts."""
    model = trained.model
    context, centers, chosen = (trained.method_config.get(name) for name in ("context", "centers", "chosen"))
    n_components, width = model.loadings.shape[0], len(model.feature_mean)
    weights: list[Any] = (
        [chosen.get(f"weight_{predictor}") for predictor in PREDICTORS] if isinstance(chosen, dict) else []
    )
    fine = {
        "context": _is_count(context)
        and sum(part.linear.in_features for part in model.parts) == width * (2 if context else 1),
        "centers": isinstance(centers, dict)
        and bool(centers)
        and all(_are_numbers(center, n_components) for center in centers.values()),
        "chosen": isinstance(chosen, dict)
        and _is_count(chosen.get("k"))
        and chosen["k"] > 0
        and _are_numbers(weights, len(PREDICTORS))
        and min(weights) >= 0 < sum(weights),
    }
    if wrong := [name for name, is_fine in fine.items() if not is_fine]:
        msg = f"{where}: `{wrong[0]}` of the config is missing or damaged, or of another model. Train it again."
        raise ValueError(msg)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_numbers(values: Any, n: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == n
        and all(isinstance(value, int | float) and np.isfinite(value) for value in values)
    )
