"""Reads the measured spots of a query and what a reference tells of their units, before any image is embedded."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData

from bleep_sc._adata import as_text, spatial_coordinates
from bleep_sc._blocks import LazyRows
from bleep_sc._expression import expression_values, path_of, reference_values
from bleep_sc._logging import logger, warn
from bleep_sc._stats import section_rows
from bleep_sc.io._stored import StoredModel
from bleep_sc.methods.measured.correct import FEWEST_MEASURED
from bleep_sc.methods.record import Method
from bleep_sc.tl._inputs.units import refuse_other_units
from bleep_sc.tl._load import sections_like
from bleep_sc.tl._measured.record import measured_mask

_MOST_REFERENCE_SPOTS = 10_000
"""Number of reference spots by which the variation of expression is known well enough."""


@dataclass(frozen=True)
class MeasuredSpots:
    """The measured spots of a query, and a part of the reference to compare them with."""

    column: str
    """Name of the column of `obs` that marks them."""
    sections: list[tuple[str, np.ndarray]]
    """Name and rows of each section of the query."""
    measured: np.ndarray
    """Rows of the measured spots of all sections that are corrected (n_measured,), in order."""
    values: Any
    """Their expression (n_measured, n_shared), dense or CSR."""
    xy: np.ndarray
    """Places of all spots of the query (n_obs, 2)."""
    shared: np.ndarray
    """Columns, in the query, of the genes that both hold (n_shared,)."""
    reference: Any
    """Expression of spots of the reference (n_reference, n_shared), dense or CSR."""
    reference_sections: np.ndarray | None
    reference_xy: np.ndarray


def read_measured(
    query: AnnData,
    ref: AnnData,
    column: str | None,
    *,
    sections: np.ndarray | None,
    layer: str | None,
    stored: StoredModel,
    method: "Method[Any]",
) -> MeasuredSpots | None:
    """Read measured spots and what they are compared with; None where no section has enough, or none is asked for.

    Parameters
    ----------
    query, ref
        The query, and the reference of its model.
    column
        Name of the boolean column of `query.obs`; None where the user names none.
    sections
        The section of each spot of the query (n_obs,); None where all are of one.
    layer
        The layer of `ref` that is averaged, where the method averages one.
    stored, method
        The model of the reference.
    """
    if column is None:
        return None
    mask = measured_mask(query, column)
    if stored.config.expression.use_rep is not None and not method.retrieves:
        msg = (
            f"`measured`: the model predicts `obsm[{stored.config.expression.use_rep!r}]`, not expression, so measured "
            "expression cannot correct it. Leave `measured` out."
        )
        raise ValueError(msg)
    xy = spatial_coordinates(query, name="query")
    by_section = section_rows(sections, query.n_obs)
    used = np.zeros(query.n_obs, dtype=bool)
    for name, rows in by_section:
        n_measured = int(mask[rows].sum())
        if n_measured >= FEWEST_MEASURED:
            _check_apart(xy[rows][mask[rows]], name)
            used[rows] = mask[rows]
        else:
            where = f"Section {name!r} has" if name else "The query has"
            logger.info(
                "%s %d measured spots, fewer than %d: its prediction is not corrected.",
                where,
                n_measured,
                FEWEST_MEASURED,
            )
    if not used.any():
        return None
    measured = np.flatnonzero(used)
    layer = layer if method.retrieves else stored.config.expression.layer
    in_ref = as_text(ref.var_names).get_indexer(as_text(query.var_names))
    shared = np.flatnonzero(in_ref >= 0)
    values = expression_values(query[measured], layer, name="query")[:, shared]
    if len(shared):
        _check_not_empty(values, path=path_of("query", layer), column=column)
    rows, ref_sections, ref_xy = _near_the_middle(ref, stored)
    reference = _rows(reference_values(ref, layer), rows)[:, in_ref[shared]]
    refuse_other_units(values, reference, path=path_of("query", layer), reference_path=path_of("ref", layer))
    return MeasuredSpots(column, by_section, measured, values, xy, shared, reference, ref_sections, ref_xy)


def _check_apart(xy: np.ndarray, section: str) -> None:
    """Refuse measured spots of a section that all stand at one place: they tell nothing of any other."""
    if np.ptp(xy, axis=0).any():
        return
    where = f"section {section!r}" if section else "the query"
    msg = (
        f"`measured`: all {len(xy)} measured spots of {where} stand at one place, {xy[0].tolist()} in "
        "`query.obsm['spatial']`, so nothing tells which spots are near. Store their pixel positions there, or leave "
        "`measured` out."
    )
    raise ValueError(msg)


def _check_not_empty(values: Any, *, path: str, column: str) -> None:
    """Refuse measured spots that hold nothing, as those of a blank query; warn where only some do."""
    empty = int((np.asarray(abs(values).sum(axis=1)).ravel() == 0).sum())
    if not empty:
        return
    msg = (
        f"{empty} of {values.shape[0]} spots that `query.obs[{column!r}]` marks as measured hold no expression: all "
        f"their values in `{path}` are 0"
    )
    if empty == values.shape[0]:
        msg += ". Put what was measured there, or leave `measured` out."
        raise ValueError(msg)
    warn(f"{msg}, and they pull the prediction towards 0. If they were not measured, mark them by False.")


def _near_the_middle(ref: AnnData, stored: StoredModel) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Choose spots of a large reference: in each section those nearest to its middle, which are neighbours.

    Returns
    -------
    Their rows, in order, their sections (None where all are of one) and their places.
    """
    xy = spatial_coordinates(ref, name="ref")
    sections = sections_like(ref, stored, None, name="ref")
    parts = section_rows(sections, ref.n_obs)
    most, chosen = max(1, _MOST_REFERENCE_SPOTS // len(parts)), []
    for _, rows in parts:
        from_middle = np.linalg.norm(xy[rows] - np.median(xy[rows], axis=0), axis=1)
        chosen.append(rows[np.argsort(from_middle, kind="stable")[:most]])
    rows = np.sort(np.concatenate(chosen))
    return rows, None if sections is None else sections[rows], xy[rows]


def _rows(values: Any, rows: np.ndarray) -> Any:
    """Take rows of a matrix in memory, or lazy."""
    if not isinstance(values, LazyRows):
        return values[rows]
    from scipy import sparse

    parts = []
    for part in values.parts():
        inside = rows[(rows >= part.start) & (rows < part.stop)] - part.start
        if len(inside):
            parts.append(values[part][inside])
    return sparse.vstack(parts, format="csr") if sparse.issparse(parts[0]) else np.concatenate(parts)
