"""Spots that training must not see, and folds of the reference on which something is chosen."""

import re

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc._adata import known_places
from bleep_sc._checks import check_in
from bleep_sc.methods.task import HowHeldOut, InnerFolds

_MIN_PART = 3
_PARTS = 5
"""The number of parts that a single section is cut into."""
_OF_PATIENTS = re.compile(
    r"(sample[ _.-]?)?(patient|animal|donor|subject|mouse|individual|case)s?([ _.-]?(id|name|no|nr|num|number|code))?",
    re.IGNORECASE,
)
"""Names of columns that could tell the patients, such as ``"animal"``, ``"Patient ID"`` and ``"sample_donor"``."""


def validation_spots(
    adata: AnnData, *, sections: np.ndarray | None, validation_key: str | None, random_state: int, share: float = 0.2
) -> np.ndarray:
    """Choose the spots that training must not see, bool (n_obs,).

    Without `validation_key`, a share of the spots of each section, as in the paper. A boolean column of `obs` names
    the spots itself. Any other column names groups (sections, patients), of which whole ones are drawn at random
    until they hold that share. A share of 0 holds out nothing.
    """
    rng = np.random.default_rng(random_state)
    held_out = np.zeros(adata.n_obs, dtype=bool)
    if share == 0:
        return held_out
    if validation_key is None:
        for section in [None] if sections is None else np.unique(sections.astype(str)):
            rows = np.arange(adata.n_obs) if section is None else np.flatnonzero(sections == section)
            held_out[rng.permutation(rows)[: round(share * len(rows))]] = True
        if not held_out.any():  # sections of one or two spots
            held_out[rng.permutation(adata.n_obs)[: round(share * adata.n_obs)]] = True
        return held_out
    check_in("adata.obs", validation_key, adata.obs.columns, remedy="`validation_key` names a column of `obs`.")
    column = adata.obs[validation_key]
    if column.dtype == bool:
        held_out = column.to_numpy().copy()
    else:
        values = column.astype(str).to_numpy()
        groups = np.unique(values)
        if len(groups) < 2:
            msg = f"`adata.obs[{validation_key!r}]` holds one group only, {groups[0]!r}: nothing is left to train on."
            raise ValueError(msg)
        for group in rng.permutation(groups)[: len(groups) - 1]:
            held_out |= values == group
            if held_out.sum() >= share * adata.n_obs:
                break
    if not 2 <= held_out.sum() <= adata.n_obs - 2:
        msg = (
            f"`adata.obs[{validation_key!r}]` puts {held_out.sum()} of {adata.n_obs} spots into validation; at least 2 "
            "must be there, and at least 2 left to train on."
        )
        raise ValueError(msg)
    return held_out


def inner_folds(
    adata: AnnData,
    *,
    sections: np.ndarray | None,
    validation_key: str | None,
    random_state: int,
    patients: np.ndarray | None = None,
    at_most: int | None = None,
) -> InnerFolds:
    """Make the folds on which a penalty, a mix or a number of neighbours is chosen.

    Each group is held out once, section by section. The groups are those of `validation_key`, else the patients if
    there are two or more, else the sections. More than `at_most` groups are joined at random to that number. A boolean
    `validation_key` makes one fold. A single section is cut into neighbouring parts.
    """
    if validation_key is not None:
        held_out = validation_spots(adata, sections=None, validation_key=validation_key, random_state=random_state)
        if adata.obs[validation_key].dtype == bool:
            return [(np.flatnonzero(~held_out), by_section(held_out, sections))]
        groups = adata.obs[validation_key].astype(str).to_numpy()
    else:
        groups = groups_apart(adata, sections=sections, patients=patients, random_state=random_state)
        if not (_several(patients) or _several(sections)):
            sections = None
    names = np.unique(groups)
    if at_most is not None and len(names) > at_most:
        joined = dict(
            zip(np.random.default_rng(random_state).permutation(names), np.arange(len(names)) % at_most, strict=True)
        )
        groups = np.array([joined[group] for group in groups])
    return [(np.flatnonzero(groups != group), by_section(groups == group, sections)) for group in np.unique(groups)]


def how_held_out(
    adata: AnnData, *, sections: np.ndarray | None, validation_key: str | None, patients: np.ndarray | None
) -> HowHeldOut:
    """Say how :func:`inner_folds` holds out, and which column could tell the patients where none is named."""
    if validation_key is not None:
        return HowHeldOut(f"by obs[{validation_key!r}]")
    if _several(patients):
        return HowHeldOut("by patient")
    if not _several(sections):
        return HowHeldOut("within the only section")
    if patients is not None:
        return HowHeldOut("by section, since all are of one patient")
    column = column_of_patients(adata, sections)
    hint = f" If obs[{column!r}] tells the patients, pass patient_key={column!r}." if column else ""
    return HowHeldOut("by section, since no column tells the patients", hint)


def column_of_patients(adata: AnnData, sections: np.ndarray | None) -> str | None:
    """Find a column of `obs` that looks like one of patients; None if there is none.

    Its name says so, no value is missing, each section has one value, and there are fewer values than sections.
    """
    if sections is None:
        return None
    for name in adata.obs.columns:
        if not (isinstance(name, str) and _OF_PATIENTS.fullmatch(name)):
            continue
        column = adata.obs[name]
        if column.dtype == bool or column.isna().any():  # such as a case, not a control
            continue
        pairs = pd.DataFrame({"section": sections.astype(str), "patient": column.astype(str).to_numpy()})
        pairs = pairs.drop_duplicates()
        if not pairs["section"].duplicated().any() and pairs["patient"].nunique() < len(pairs):
            return name
    return None


def groups_apart(
    adata: AnnData, *, sections: np.ndarray | None, patients: np.ndarray | None, random_state: int
) -> np.ndarray:
    """Tell the groups that differ as new tissue does: patients, else sections, else parts of one section (n_obs,)."""
    for groups in (patients, sections):
        if groups is not None and _several(groups):
            return np.asarray(groups, dtype=str)
    return parts_of_section(known_places(adata), adata.n_obs, random_state=random_state)


def _several(groups: np.ndarray | None) -> bool:
    return groups is not None and len(set(groups)) > 1


def parts_of_section(xy: np.ndarray | None, n_obs: int, *, random_state: int) -> np.ndarray:
    """Cut a section across its longest way into parts of equal size; return the part of each spot (n_obs,).

    Random spots would lie among those that are trained on, and look like them. They are taken only where the places
    of the spots are not known.
    """
    if xy is None or not np.isfinite(xy).all():
        return np.random.default_rng(random_state).permutation(np.arange(n_obs) % _PARTS)
    centred = xy - xy.mean(axis=0)
    direction = np.linalg.svd(centred, full_matrices=False)[2][0]
    rank = np.empty(n_obs, dtype=np.int64)
    rank[np.argsort(centred @ direction, kind="stable")] = np.arange(n_obs)
    return rank * _PARTS // n_obs


def by_section(held_out: np.ndarray, sections: np.ndarray | None) -> list[np.ndarray]:
    """List the held-out rows of each section.

    Sections with one or two held-out spots are left out: nothing can be told within so few.
    """
    rows = np.flatnonzero(held_out)
    if sections is None:
        return [rows]
    rows_by_section = [rows[sections[rows] == section] for section in np.unique(sections[rows].astype(str))]
    return [section_rows for section_rows in rows_by_section if len(section_rows) >= _MIN_PART] or [rows]
