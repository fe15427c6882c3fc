"""What is known of how well genes are predicted."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bleep_sc import _keys
from bleep_sc._report.asked import Asked
from bleep_sc._report.plain import mapping, text
from bleep_sc._report.records import (
    NOT_HERE,
    NOT_KNOWN_HERE,
    NOT_SHOWN,
    NOT_TESTED,
    READABLE,
    WORSE_HERE,
    Gene,
    Slide,
    Standing,
)
from bleep_sc.pl._figure import errors_naming

if TYPE_CHECKING:
    from bleep_sc.io._calibration import Promise

_N_BEST = 20


def is_calibrated(asked: Asked) -> bool:
    """Whether `tl.calibrate` has listed the genes that can be predicted."""
    return asked.ref is not None and {*_keys.of_calibrated_genes(asked.key)} <= {*asked.ref.var.columns}


def chosen_genes(asked: Asked, slides: Sequence[Slide]) -> tuple[Gene, ...]:
    """Describe the genes that are shown, on these slides."""
    expected = _expected(asked)
    of_layer: pd.DataFrame = asked.query.var
    reached = _column(of_layer, _keys.pearson(asked.layer), writer="evaluate")
    ceiling = _column(of_layer, _keys.NOISE_CEILING, writer="noise_ceiling")
    genes = []
    for name in asked.genes:
        scores = {
            "reached": _known(reached, name),
            "ceiling": _known(ceiling, name),
            **(_row(expected, name) if name in expected.index else {}),
        }
        gene = Gene(name, **scores)
        genes.append(replace(gene, standing=_standing(gene, slides)))
    return tuple(genes)


def _standing(gene: Gene, slides: Sequence[Slide]) -> Standing:
    """Say whether a gene can be read off the picture; what was measured here comes before what was expected."""
    if gene.is_wrong_here:
        return WORSE_HERE if gene.is_worse_here else NOT_HERE
    if gene.predictable is None:
        return NOT_TESTED
    if not gene.predictable:
        return NOT_SHOWN
    return NOT_KNOWN_HERE if any(slide.is_other_tissue for slide in slides) else READABLE


def best_genes(asked: Asked) -> tuple[tuple[Gene, ...], int, int]:
    """List the best of the predictable genes, how many there are, and of how many that were tested."""
    table = _expected(asked)
    listed = table[table["predictable"].astype(bool)].sort_values("expected", ascending=False, kind="stable")
    rows = tuple(Gene(str(name), **_row(table, name)) for name in listed.index[:_N_BEST])
    return rows, len(listed), len(table)


def scope_of(asked: Asked) -> str:
    """What the scores speak of, such as "across 3 patients"; empty where nothing says it."""
    return "" if asked.ref is None else text(mapping(asked.ref.uns.get(asked.key)).get("scope"))


def promise_of(asked: Asked) -> "Promise | None":
    """What the scores rest on; None where nothing says it."""
    from bleep_sc.io._calibration import CALIBRATION, Calibration

    entry = mapping(None if asked.ref is None else asked.ref.uns.get(asked.key))
    if CALIBRATION not in entry:
        return None
    where = f"`ref.uns[{asked.key!r}][{CALIBRATION!r}]`"
    return Calibration.from_bytes(entry[CALIBRATION], where=where).promise


def _expected(asked: Asked) -> pd.DataFrame:
    """Fetch what to expect of each gene that has an expected correlation; empty where nothing was calibrated."""
    if asked.ref is None or not is_calibrated(asked):
        return pd.DataFrame({name: [] for name in ("predictable", "expected", "low", "high")})
    var: pd.DataFrame = asked.ref.var
    columns = dict(zip(("predictable", "expected", "low", "high"), _keys.of_calibrated_genes(asked.key), strict=True))
    with errors_naming("ref.var", writer="calibrate"):
        table = pd.DataFrame({name: pd.to_numeric(var[column]) for name, column in columns.items()}, index=var.index)
    return table[np.isfinite(table["expected"].astype(float))]


def _row(table: pd.DataFrame, name: Any) -> dict[str, Any]:
    row = table.loc[name]
    numbers = {part: _finite(row[part]) for part in ("expected", "low", "high")}
    return {"predictable": bool(row["predictable"]), **numbers}


def _column(var: pd.DataFrame, column: str, *, writer: str) -> pd.Series:
    if column not in var:
        return pd.Series(dtype=np.float64)
    with errors_naming(f"query.var[{column!r}]", writer=writer):
        return pd.to_numeric(var[column]).astype(float)


def _known(values: pd.Series, name: str) -> float | None:
    return _finite(values[name]) if name in values.index else None


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
