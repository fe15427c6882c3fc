"""Corrects an imputation, section by section, by the spots of the query that were measured."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bleep_sc._logging import logger
from bleep_sc.methods.measured.correct import Correction, correct
from bleep_sc.methods.measured.prior import Prior
from bleep_sc.methods.prediction import Imputation, Imputed
from bleep_sc.tl._measured.read import MeasuredSpots
from bleep_sc.tl._measured.record import MEASURED_SPOTS

_MOST_LISTED = 6


def corrected(imputation: Imputation, spots: MeasuredSpots | None) -> Imputation:
    """Return an imputation whose result the measured spots correct; the same one where there are none."""
    if spots is None:
        return imputation
    provenance = imputation.provenance
    provenance["params"] = {**provenance["params"], "measured": spots.column}
    return replace(imputation, impute=_Corrected(imputation, spots))


@dataclass(frozen=True)
class _Corrected:
    """A function that imputes all spots of a query and corrects them."""

    imputation: Imputation
    spots: MeasuredSpots

    def __call__(self, **inputs: Any) -> Imputed:
        imputed = self.imputation.impute(**inputs)
        expression, table = _correct_sections(imputed.expression, self.spots)
        self.imputation.provenance[MEASURED_SPOTS] = table
        _report(table)
        return imputed._replace(expression=expression)


def _correct_sections(predicted: np.ndarray, spots: MeasuredSpots) -> tuple[np.ndarray, pd.DataFrame]:
    """Correct the genes that were predicted and that the reference holds; all others stay as they are."""
    known = np.isfinite(predicted[:, spots.shared]).all(axis=0)
    genes = spots.shared[known]
    prior = Prior.learn(spots.reference[:, known], spots.reference_sections, spots.reference_xy)
    out, rows_of_table = predicted.copy(), []
    for name, rows in spots.sections:
        of_section = np.flatnonzero(np.isin(spots.measured, rows))
        found = None
        if len(of_section):
            values = spots.values[of_section][:, known]
            values = np.asarray(values.toarray() if hasattr(values, "toarray") else values)
            measured = np.searchsorted(rows, spots.measured[of_section])
            found = correct(predicted[np.ix_(rows, genes)], measured, values, spots.xy[rows], prior)
            out[np.ix_(rows, genes)] = found.expression
        rows_of_table.append(_row(name, len(rows), len(of_section), found))
    return out, pd.DataFrame(rows_of_table)


def _row(name: str, n_spots: int, n_measured: int, found: Correction | None) -> dict[str, Any]:
    return {
        "section": name,
        "n_spots": n_spots,
        "n_measured": n_measured,
        "shrinkage": 0.0 if found is None else found.shrinkage,
        "length_scale": float("nan") if found is None else found.length,
        "gain": 0.0 if found is None else found.gain,
    }


def _report(table: pd.DataFrame) -> None:
    """Say what the measured spots did, in a line."""
    shown = [
        f"{f'{row.section!r}: ' if row.section else ''}{row.n_measured} spots, {row.shrinkage:.0%} of the pattern, "
        f"error in blocks {-row.gain:+.0%}"
        for row in table[table["n_measured"] > 0].itertuples()
    ]
    more = f"; and {len(shown) - _MOST_LISTED} more sections" if len(shown) > _MOST_LISTED else ""
    logger.info("Measured spots correct the prediction. %s%s.", "; ".join(shown[:_MOST_LISTED]), more)
