"""Reads the tissue of a learning curve, and checks all of it before anything is trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData

from bleep_sc.tl._cv.folds import Fold
from bleep_sc.tl._cv.plan import Asked, Plan, asked_method
from bleep_sc.tl._cv.ready import make_ready
from bleep_sc.tl._cv.scores import FoldScores
from bleep_sc.tl._study._curve.by import By


@dataclass(frozen=True)
class Tissue:
    """What a learning curve is made of."""

    plan: Plan
    asked: Asked
    folds: list[Fold]
    sections: np.ndarray
    """The section of each spot (n_obs,)."""
    patients: Mapping[str, str]
    """The patient of each section; empty where unknown."""
    words: Mapping[str, str]
    """What kind of folds these are, in words."""

    def labels(self, by: By) -> np.ndarray:
        """Return the unit of each spot (n_obs,): itself, its section or its patient."""
        if by == "spots":
            return np.arange(len(self.sections))
        if by == "sections":
            return self.sections
        of_spots = np.array([self.patients[section] for section in self.sections])
        if (of_spots == "").any():
            msg = (
                "`by='patients'`: the patients are not known. Name the column of `adata.obs` that tells them by "
                "`patient_key`."
            )
            raise ValueError(msg)
        return of_spots

    def scorer(self, metrics: Sequence[str]) -> FoldScores:
        """Make what scores the predictions; intervals are made of whole curves later."""
        seed = self.plan.random_state
        return FoldScores(self.plan.adata, self.sections, self.patients, metrics, n_bootstrap=0, random_state=seed)


def read_tissue(
    adata: AnnData,
    method: str,
    arguments: Mapping[str, Any] | None,
    *,
    group_key: str,
    library_key: str | None,
    patient_key: str | None,
    counts_layer: str | None,
    **settings: Any,
) -> Tissue:
    """Read sections, groups and patients, and check whatever a fold would stumble over."""
    if isinstance(arguments, Mapping) and "use_rep" in arguments:
        msg = (
            "`method_kwargs['use_rep']` cannot be given: a representation is made of all training spots at once, so "
            "that a small reference would hold what only a large one knows."
        )
        raise ValueError(msg)
    asked = asked_method(method, arguments)
    ready = make_ready(
        adata,
        {method: asked},
        group_key=group_key,
        library_key=library_key,
        patient_key=patient_key,
        counts_layer=counts_layer,
        **settings,
    )
    return Tissue(ready.plan, asked, ready.folds, ready.sections, ready.patients, ready.labels)
