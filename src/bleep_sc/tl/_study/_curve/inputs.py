"""Reads the tissue of a learning curve, and checks all of it before anything is trained."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import section_of_spots
from bleep_sc._stats import section_rows
from bleep_sc.pp._near_empty import warn_of_near_empty
from bleep_sc.tl._cv.folds import Fold, check_no_copies, check_sections_in_groups, make_folds, scope_of
from bleep_sc.tl._cv.plan import Asked, Plan, asked_methods, check_inputs, make_plan
from bleep_sc.tl._cv.ready import section_key
from bleep_sc.tl._cv.scores import FoldScores
from bleep_sc.tl._sections import check_section_sizes, known_patient_key, patient_of_sections
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

    def arrays(self) -> dict[str, Iterable[Any]]:
        """List the arrays that the result depends on, by what an error calls them."""
        adata = self.plan.adata
        stored = [adata.obsm[key] for key in self.plan.image_keys if key in adata.obsm]
        images = [each.to_numpy() if isinstance(each, pd.DataFrame) else each for each in stored]
        return {
            "the genes": [adata.var_names.to_numpy().astype(str)],
            "their expression": [self.plan.values],
            "the images": images,
            "the sections": [self.sections],
            "the groups": [self.folds[0].groups],
            "the patients": [np.array([self.patients[section] for section in self.sections])],
            "the places of the spots": [np.asarray(adata.obsm[_keys.SPATIAL])] if _keys.SPATIAL in adata.obsm else [],
        }


def read_tissue(
    adata: AnnData,
    method: str,
    arguments: Mapping[str, Any],
    *,
    group_key: str,
    library_key: str | None,
    patient_key: str | None,
    counts_layer: str | None,
    **settings: Any,
) -> Tissue:
    """Read sections, groups and patients, and check whatever a fold would stumble over."""
    if "use_rep" in arguments:
        msg = (
            "`method_kwargs['use_rep']` cannot be given: a representation is made of all training spots at once, so "
            "that a small reference would hold what only a large one knows."
        )
        raise ValueError(msg)
    try:
        asked = asked_methods([method], {method: {**arguments, "method": method}})
    except (TypeError, ValueError) as err:  # there a comparison has the arguments of several methods
        raise type(err)(str(err).replace(f"`method_kwargs[{method!r}]", "`method_kwargs")) from err
    groups = np.asarray(section_of_spots(adata, group_key), dtype=str)
    if len(np.unique(groups)) < 2:
        msg = f"`adata.obs[{group_key!r}]` holds one group only, {str(groups[0])!r}: nothing is left to train on."
        raise ValueError(msg)
    library_key = section_key(adata, library_key, group_key)
    sections = np.asarray(section_of_spots(adata, library_key), dtype=str)
    by_section = section_rows(sections, adata.n_obs)
    check_section_sizes(by_section)
    check_sections_in_groups(sections, groups, library_key=library_key, group_key=group_key)
    patient_key = known_patient_key(adata, patient_key)
    of_sections = patient_of_sections(adata, by_section, patient_key, name="adata")
    patients = dict(zip([name for name, _ in by_section], of_sections, strict=True))
    plan = make_plan(
        adata,
        asked,
        counts_layer=counts_layer,
        library_key=library_key,
        group_key=group_key,
        patient_key=patient_key,
        **settings,
    )
    path = f"adata.layers[{counts_layer!r}]" if plan.is_counts else "adata.X"
    check_no_copies(plan.values, groups, list(adata.obs_names), path=path)
    check_inputs(adata, asked)
    warn_of_near_empty(adata, by_section, counts_layer=counts_layer or "")
    folds = make_folds(groups)
    words = {
        "scope": scope_of(folds, np.array([patients[section] for section in sections])),
        "normalisation": "inside the folds" if plan.is_counts else "outside the folds",
    }
    return Tissue(plan, asked[method], folds, sections, patients, words)
