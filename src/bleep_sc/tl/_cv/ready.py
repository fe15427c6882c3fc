"""All that a cross-validation needs before its first fold: arguments checked, inputs read, folds made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from anndata import AnnData

from bleep_sc._adata import recorded_library_key, section_of_spots
from bleep_sc._checks import check_key
from bleep_sc._logging import warn
from bleep_sc._stats import section_rows
from bleep_sc.pp._near_empty import warn_of_near_empty
from bleep_sc.tl._cv.folds import Fold, check_no_copies, check_sections_in_groups, make_folds, scope_of
from bleep_sc.tl._cv.plan import Asked, Plan, check_inputs, make_plan
from bleep_sc.tl._sections import check_section_sizes, known_patient_key, patient_of_sections


@dataclass(frozen=True)
class Ready:
    """A cross-validation that can begin."""

    plan: Plan
    folds: list[Fold]
    sections: np.ndarray
    """The section of each spot (n_obs,)."""
    patients: dict[str, str]
    """The patient of each section, empty where unknown."""
    labels: dict[str, str]
    """Columns of a table of scores that say what kind of folds these are."""


def make_ready(
    adata: AnnData,
    asked: Mapping[str, Asked],
    *,
    group_key: str,
    library_key: str | None,
    patient_key: str | None,
    counts_layer: str | None,
    markers: Sequence[str],
    n_top_genes: int,
    min_fraction: float,
    k: int | None,
    refit: bool,
    random_state: int,
) -> Ready:
    """Read and check what all folds share; the arguments are those of `cross_validate`."""
    check_key("group_key", group_key)
    groups = np.asarray(section_of_spots(adata, group_key), dtype=str)
    if len(np.unique(groups)) < 2:
        msg = f"`adata.obs[{group_key!r}]` holds one group only, {str(groups[0])!r}: nothing is left to train on."
        raise ValueError(msg)
    library_key = _section_key(adata, library_key, group_key)
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
        markers=markers,
        n_top_genes=n_top_genes,
        min_fraction=min_fraction,
        k=k,
        refit=refit,
        random_state=random_state,
    )
    path = f"adata.layers[{counts_layer!r}]" if plan.is_counts else "adata.X"
    check_no_copies(plan.values, groups, list(adata.obs_names), path=path)
    folds = make_folds(groups)
    check_inputs(adata, asked)
    warn_of_near_empty(adata, by_section, counts_layer=counts_layer or "")
    labels: dict[str, str] = {
        "scope": scope_of(folds, np.array([patients[section] for section in sections])),
        "normalisation": "inside the folds" if plan.is_counts else "outside the folds",
    }
    return Ready(plan, folds, sections, patients, labels)


def _section_key(adata: AnnData, library_key: str | None, group_key: str) -> str:
    library_key = library_key or recorded_library_key(adata)
    if library_key is None:
        warn(
            f"each group of `adata.obs[{group_key!r}]` is treated as one section, as no column of sections is known. "
            "Scores are computed within sections, so pass `library_key` if a group holds several."
        )
        return group_key
    return library_key
