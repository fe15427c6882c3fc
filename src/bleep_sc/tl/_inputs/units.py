"""Warns where sections stand side by side in other units, or where the logarithm was taken twice."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from bleep_sc import _keys
from bleep_sc._expression import path_of
from bleep_sc._logging import warn
from bleep_sc._stats import looks_like_counts, section_rows

_KNOWN: ContextVar[bool] = ContextVar("units_are_known", default=False)

_SPOTS_TO_LOOK_AT = 128
_FEWEST_SPOTS = 8
"""Fewest spots of a section whose median tells anything."""
_FACTOR = 2.0
_FACTOR_OF_CHOSEN_GENES = 5.0
"""Larger than the factor, up to 3.4, between real sections of one scale of which only variable genes are left."""
_ALIKE = 1.02
"""Factor between the 5th and the 95th percentile of totals that were normalised to one number."""
_LARGEST_LOG = 30.0
"""No logarithm of counts is larger, nor is its exponential too large to add up."""
_LARGEST_LOG_OF_LOG = 4.0
_MOST_GROUPS = 4


@dataclass(frozen=True)
class _Scale:
    """The scale of a section's values, as its spots show it."""

    section: str
    is_counts: bool
    largest: float
    total: float
    """The median over spots of the total of ``expm1``."""
    normalised: bool
    """Whether all spots have that total."""
    logged_twice: bool
    """Whether the totals are one number only once both of two logarithms are undone."""

    def __str__(self) -> str:
        if self.is_counts:
            return "raw counts"
        if self.largest > _LARGEST_LOG:
            return f"values of up to {_number(self.largest)}, which are no logarithms"
        if self.normalised:
            return f"log1p of counts per {_number(self.total)}"
        how = " as after log1p twice" if self.logged_twice else ""
        return f"values with a total of about {_number(self.total)} a spot by `expm1`{how}"


@contextmanager
def units_known() -> Iterator[None]:
    """Say nothing of the data within, such as its units, in this thread: it was said once of all folds."""
    token = _KNOWN.set(True)
    try:
        yield
    finally:
        _KNOWN.reset(token)


def said_of_all_folds() -> bool:
    """Tell whether this is a fold of data of which all was said before."""
    return _KNOWN.get()


def warn_of_units(values: Any, sections: np.ndarray | None, *, layer: str | None) -> None:
    """Warn of sections whose scales differ, and of values of which the logarithm was taken twice.

    Parameters
    ----------
    values
        Expression of all genes (n_obs, n_genes), dense or CSR.
    sections
        The section of each spot (n_obs,); None where all are of one.
    layer
        Name of the layer that the values are of; None is `X`.
    """
    if _KNOWN.get():
        return
    found = [_scale(section, values[_some(rows)]) for section, rows in section_rows(sections, values.shape[0])]
    scales = sorted((scale for scale in found if scale is not None), key=lambda scale: scale.total)
    path = path_of("adata", layer)
    if _unlike(scales):
        warn(
            f"sections are on different scales in `{path}`: {_listed(scales)}. A model would learn that difference as "
            f"biology. {_remedy(layer)}"
        )
    elif scales and all(scale.logged_twice for scale in scales):
        warn(
            f"the logarithm was taken twice in `{path}`: its values add up to one number a spot only once `expm1` is "
            "applied two times. "
            f"{_remedy(layer)}"
        )


def refuse_other_units(values: Any, reference: Any, *, path: str, reference_path: str) -> None:
    """Refuse measured values of a query in other units than those of the reference that predicts it.

    Parameters
    ----------
    values
        Expression of the measured spots (n, n_genes), dense or CSR.
    reference
        Expression of spots of the reference, of the same genes.
    path, reference_path
        What messages call them.
    """
    lowest = (float((each.data if sparse.issparse(each) else each).min(initial=0)) for each in (values, reference))
    below, reference_below = (low < 0 for low in lowest)
    ours, theirs = (_scale("", each[_some(np.arange(each.shape[0]))]) for each in (values, reference))
    if below and not reference_below:
        found, expected = "values below 0", "none"
    elif looks_like_counts(values) and not looks_like_counts(reference):
        found, expected = "raw counts", str(theirs or "logarithms")
    elif ours is not None and theirs is not None and _unlike(sorted((ours, theirs), key=lambda scale: scale.total)):
        found, expected = str(ours), str(theirs)
    else:
        return
    msg = (
        f"`{path}` of the measured spots is in other units than `{reference_path}`: {found}, where the reference has "
        f"{expected}. Measured values correct a prediction only in its own units. Normalise the query as the reference "
        "was, from the raw counts: `sc.pp.normalize_total` with the reference's `target_sum`, then `sc.pp.log1p`."
    )
    raise ValueError(msg)


def _some(rows: np.ndarray) -> np.ndarray:
    """Take rows that are spread over a section, where it has many."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _SPOTS_TO_LOOK_AT)).astype(int))]


def _scale(section: str, values: Any) -> _Scale | None:
    """Find the scale of some spots of a section; None where they are too few, or scaled below 0."""
    stored = values.data if sparse.issparse(values) else values
    largest = float(stored.max(initial=0))
    totals = _totals(values, times=1)
    if len(totals) < _FEWEST_SPOTS or stored.min(initial=0) < 0:
        return None
    normalised = _one_number(totals)
    logged_twice = not normalised and largest < _LARGEST_LOG_OF_LOG and _one_number(_totals(values, times=2))
    is_counts = bool((stored == np.rint(stored)).all())
    return _Scale(section, is_counts, largest, float(np.median(totals)), normalised, logged_twice)


def _totals(values: Any, *, times: int) -> np.ndarray:
    """Add up each spot's values once logarithms are undone, those of no logarithm cut off; spots without any left out.

    The exponential of 0 is 0, so that a sparse matrix stays one.
    """
    stored = np.minimum(values.data if sparse.issparse(values) else values, _LARGEST_LOG).astype(np.float64)
    for _ in range(times):
        np.expm1(stored, out=stored)
    if sparse.issparse(values):
        stored = sparse.csr_matrix((stored, values.indices, values.indptr), shape=values.shape)
    totals = np.asarray(stored.sum(axis=1)).ravel()
    return np.asarray(totals[totals > 0])


def _one_number(totals: np.ndarray) -> bool:
    low, high = np.percentile(totals, [5, 95])
    return bool(high < _ALIKE * low)


def _unlike(scales: Sequence[_Scale]) -> bool:
    """Tell whether scales, in order of their totals, are too far apart to be of one kind.

    Where a section's totals are one number, all genes are there, and others must have the same. Where only some genes
    are left, tissue alone makes a difference.
    """
    if len({scale.is_counts for scale in scales}) > 1:
        return True
    if not scales or scales[0].is_counts:  # all of them, which another warning says
        return False
    factor = _FACTOR if any(scale.normalised for scale in scales) else _FACTOR_OF_CHOSEN_GENES
    return scales[-1].total > factor * scales[0].total


def _listed(scales: Sequence[_Scale]) -> str:
    """List sections by scale, the lowest and the highest of many."""
    sections: dict[str, list[str]] = {}
    for scale in scales:
        sections.setdefault(str(scale), []).append(repr(scale.section))
    groups = [f"{_names(names)}: {scale}" for scale, names in sections.items()]
    if len(groups) > _MOST_GROUPS:
        groups = [*groups[: _MOST_GROUPS // 2], "...", *groups[-_MOST_GROUPS // 2 :]]
    return "; ".join(groups)


def _names(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _number(value: float) -> str:
    """Write a number with three digits that count, and no exponent where it is short without."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if 100 <= rounded < 1e9 else f"{rounded:.3g}"


def _remedy(layer: str | None) -> str:
    """Say how all sections are normalised alike."""
    of_layer = "" if layer is None else f", layer={layer!r}"
    return (
        f"Normalise all sections alike, from the raw counts in `layers[{_keys.COUNTS!r}]`: "
        f"`{path_of('adata', layer)} = adata.layers[{_keys.COUNTS!r}].copy()`, "
        f"`sc.pp.normalize_total(adata, target_sum=1e4{of_layer})`, `sc.pp.log1p(adata{of_layer})`."
    )
