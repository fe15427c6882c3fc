"""The sections that are scored: their order, their size and their patients."""

from collections.abc import Sequence

import numpy as np
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import section_of_spots
from bleep_sc._stats import section_rows
from bleep_sc.metrics.panels import LEAST_SPOTS_FOR_CORRELATION

Sections = Sequence[tuple[str, np.ndarray]]
"""The name and the rows of each section."""


def ordered_by_name(adata: AnnData, sections: Sections) -> Sections:
    """Order the rows of each section by the names of its spots, so that random draws do not depend on row order."""
    names = adata.obs_names.to_numpy().astype(str)
    return [(section, rows[np.argsort(names[rows], kind="stable")]) for section, rows in sections]


def check_section_sizes(sections: Sections) -> None:
    """Refuse a section with too few spots for a correlation."""
    for name, rows in sections:
        if len(rows) < LEAST_SPOTS_FOR_CORRELATION:
            msg = (
                f"section {name!r} has {len(rows)} spots; a correlation needs at least {LEAST_SPOTS_FOR_CORRELATION}. "
                "Leave it out."
            )
            raise ValueError(msg)


def known_patient_key(adata: AnnData, patient_key: str | None) -> str | None:
    """Return the column of patients: the user's, else ``"patient"`` if there is one; None where they are unknown."""
    return patient_key or (_keys.PATIENT if _keys.PATIENT in adata.obs else None)


def patients_of_spots(adata: AnnData, patient_key: str | None, sections: np.ndarray | None) -> np.ndarray | None:
    """Read the patient of each spot (n_obs,); None where no column is named. A section must be of one patient."""
    patients = section_of_spots(adata, patient_key)
    if patients is not None and sections is not None:
        patient_of_sections(adata, section_rows(sections, adata.n_obs), patient_key, name="adata")
    return patients


def patient_of_sections(adata: AnnData, sections: Sections, patient_key: str | None, *, name: str) -> list[str]:
    """Find the patient of each section, empty where unknown."""
    column = section_of_spots(adata, patient_key, name=name)
    if column is None:
        return [""] * len(sections)
    for section, rows in sections:
        patients = sorted(set(column[rows]))
        if len(patients) > 1:
            msg = (
                f"section {section!r} holds spots of {len(patients)} patients, such as {patients[0]!r} and "
                f"{patients[1]!r} in `{name}.obs[{patient_key!r}]`: a section comes from one. Name the "
                "column of `obs` that tells the sections apart by `library_key`."
            )
            raise ValueError(msg)
    return [str(column[rows[0]]) for _, rows in sections]
