"""The list of methods: what each reads, how it is trained, and how it predicts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bleep_sc.methods.floors import fit_counts, fit_knn, fit_mean, fit_ridge_method
from bleep_sc.methods.hybrid.fit import fit_hybrid
from bleep_sc.methods.networks import fit_bleep, fit_histogene, fit_regressor, fit_stnet
from bleep_sc.methods.recipes import BleepRecipe, Recipe
from bleep_sc.methods.task import Fitted, Task

Reads = Literal["images", "crops", "places", "counts", "nothing"]
Predicts = Literal["hybrid", "retrieval", "regression"]


@dataclass(frozen=True)
class MethodFacts:
    """How `fit` and `impute` treat a method."""

    fit: Callable[[Task[Any]], Fitted]
    reads: Reads
    """``"images"``: crops or ready-made features; ``"crops"``: crops alone."""
    kind: str
    """Of its model, as `build_model` names them."""
    predicts: Predicts
    """``"retrieval"`` averages measured profiles, ``"regression"`` puts out values of its own, ``"hybrid"`` mixes."""
    match: Literal["expression", "image"] | None = None
    """Which embedding of the reference a retrieval compares with, unless the user says otherwise."""
    validates: bool = False
    """Whether it holds spots out to find its best epoch."""
    chooses: bool = False
    """Whether it chooses a penalty, or a blend, on inner folds."""
    divides: bool = False
    """Whether several processes can train it, each on a part of every batch."""
    most_folds: int | None = None
    """Of these folds, where each costs a training."""

    @property
    def retrieves(self) -> bool:
        """Whether it has a space with the reference's spots in it."""
        return self.predicts != "regression"

    @property
    def names_all_genes(self) -> bool:
        """Whether its model holds every gene, whichever were chosen to learn from: those solved in closed form do."""
        return not self.retrieves and not self.validates

    def mode(self, predict: Predicts | None) -> Predicts:
        """How to predict, by the user's wish or as the method itself does."""
        possible = ("hybrid", "retrieval", "regression") if self.predicts == "hybrid" else (self.predicts,)
        if predict not in (None, *possible):
            msg = (
                f"`predict={predict!r}`: this model predicts by {' or '.join(map(repr, possible))}. A model that mixes "
                "retrieval and regression is the default of `bleep_sc.tl.fit`."
            )
            raise ValueError(msg)
        return predict or self.predicts


METHODS: Mapping[str, MethodFacts] = {
    "bleep": MethodFacts(fit_hybrid, "images", "hybrid", "hybrid", match="expression", chooses=True, most_folds=5),
    "stnet": MethodFacts(fit_stnet, "crops", "regressor", "regression", validates=True, divides=True),
    "histogene": MethodFacts(fit_histogene, "crops", "histogene", "regression", validates=True),
    "regressor": MethodFacts(fit_regressor, "images", "regressor", "regression", validates=True, divides=True),
    "ridge": MethodFacts(fit_ridge_method, "images", "regressor", "regression", chooses=True),
    "knn": MethodFacts(fit_knn, "images", "features", "retrieval", match="image"),
    "coordinates": MethodFacts(fit_ridge_method, "places", "regressor", "regression", chooses=True),
    "counts": MethodFacts(fit_counts, "counts", "regressor", "regression"),
    "mean": MethodFacts(fit_mean, "nothing", "regressor", "regression"),
}

PUBLISHED_BLEEP = MethodFacts(
    fit_bleep, "images", "bleep", "retrieval", match="expression", validates=True, divides=True
)
"""BLEEP as in the paper, and wherever a network is trained along."""


def facts_of(method: str, recipe: Recipe) -> MethodFacts:
    """The facts of a method as it is about to be trained."""
    return PUBLISHED_BLEEP if isinstance(recipe, BleepRecipe) else METHODS[method]


def facts_of_stored(method: str, kind: str) -> MethodFacts:
    """The facts of a stored model, by its method and the kind of its model."""
    return PUBLISHED_BLEEP if (method, kind) == ("bleep", PUBLISHED_BLEEP.kind) else METHODS[method]
