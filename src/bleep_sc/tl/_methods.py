"""The list of methods: what each reads, how it is trained, and how it predicts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bleep_sc.tl._fit_floors import fit_counts, fit_knn, fit_mean, fit_ridge_method
from bleep_sc.tl._fit_networks import fit_bleep, fit_histogene, fit_regressor, fit_stnet
from bleep_sc.tl._task import Fitted, Task

Reads = Literal["images", "crops", "places", "counts", "nothing"]
Predicts = Literal["retrieval", "regression"]


@dataclass(frozen=True)
class MethodFacts:
    """How `fit` and `impute` treat a method."""

    fit: Callable[[Task[Any]], Fitted]
    reads: Reads
    """``"images"``: crops or ready-made features; ``"crops"``: crops alone."""
    kind: str
    """Of its model, as `build_model` names them."""
    predicts: Predicts
    """``"retrieval"`` averages measured profiles, ``"regression"`` puts out values of its own."""
    match: Literal["expression", "image"] | None = None
    """Which embedding of the reference a retrieval compares with, unless the user says otherwise."""
    validates: bool = False
    """Whether it holds spots out to find its best epoch."""
    chooses: bool = False
    """Whether it chooses a penalty on inner folds."""


METHODS: Mapping[str, MethodFacts] = {
    "bleep": MethodFacts(fit_bleep, "images", "bleep", "retrieval", match="expression", validates=True),
    "stnet": MethodFacts(fit_stnet, "crops", "regressor", "regression", validates=True),
    "histogene": MethodFacts(fit_histogene, "crops", "histogene", "regression", validates=True),
    "regressor": MethodFacts(fit_regressor, "images", "regressor", "regression", validates=True),
    "ridge": MethodFacts(fit_ridge_method, "images", "regressor", "regression", chooses=True),
    "knn": MethodFacts(fit_knn, "images", "features", "retrieval", match="image"),
    "coordinates": MethodFacts(fit_ridge_method, "places", "regressor", "regression", chooses=True),
    "counts": MethodFacts(fit_counts, "counts", "regressor", "regression"),
    "mean": MethodFacts(fit_mean, "nothing", "regressor", "regression"),
}
