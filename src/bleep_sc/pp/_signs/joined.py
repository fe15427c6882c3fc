"""Sections that were joined and are taken for one: what stands once in a section stands there twice."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bleep_sc import _keys

_REPEATED, _OF_WHOLE_NUMBERS, _BY_CHANCE = 0.01, 0.2, 3
"""Share of spots that share their place with another from which on it is spoken of; and where places are whole numbers,

on which cells may fall together; and how many times as many as chance makes of these.
"""
_MOST_SECTIONS = 100
_ARRAY = ["array_row", "array_col"]
"""Row and column of a spot. They are whole numbers too: of an array whose positions were rounded, a few occur twice."""


@dataclass(frozen=True)
class Joined:
    """What gives away that a section is several."""

    n: int
    """How many of its spots share something with another that no two spots of one section share."""
    how: str
    """What they share: goes on from "n of m spots ..."."""
    shared: pd.DataFrame
    """The same of each spot (n_spots, ...)."""

    def remedy(self, obs: pd.DataFrame, *, given: str | None) -> str:
        """Name the column of `obs` that tells the sections apart; `given` was passed as `library_key`."""
        column = self._telling_apart(obs)
        instead = "" if given is None else f" in place of {given!r}"
        if column is None:
            return (
                f"Name the column of `obs` that tells the sections apart: `library_key=...`{instead}. Where there is "
                "none, `anndata.concat(..., label='sample', index_unique='-')` makes one."
            )
        return f"The column {column!r} of `obs` tells them apart: pass `library_key={column!r}`{instead}."

    def _telling_apart(self, obs: pd.DataFrame) -> str | None:
        """Find the first column of names or whole numbers that sets apart all spots that share something."""
        shared = self.shared.set_axis(range(self.shared.shape[1]), axis=1).reset_index(drop=True)
        for name in obs.columns:
            if pd.api.types.is_float_dtype(obs[name].dtype):  # what is measured may differ by accident
                continue
            values = obs[name].astype(str).to_numpy()
            n_kinds = len(np.unique(values))
            if not 2 <= n_kinds <= min(_MOST_SECTIONS, len(values) // 2):
                continue
            if not shared.assign(section=values).duplicated().any():
                return str(name)
        return None


def joined_sections(obs: pd.DataFrame, xy: np.ndarray, uns: Mapping[str, Any]) -> Joined | None:
    """Tell that several sections are taken for one; None where nothing says so.

    Parameters
    ----------
    obs
        Annotation of the spots.
    xy
        Their places (n, 2).
    uns
        Of the AnnData; it may know which column names the instance of SpatialData that a spot is.
    """
    places = pd.DataFrame(xy, columns=["x", "y"], index=obs.index)
    at_one_place = places.duplicated(keep=False)
    n = int(at_one_place.sum())
    if n >= max(2, _least_share(xy) * len(xy)):
        return Joined(n, "stand at the same place as another one", places)
    for columns, least in _once_in_a_section(obs, uns):
        shared = obs[columns]
        n = int((shared.duplicated(keep=False) & shared.notna().all(axis=1) & ~at_one_place).sum())
        if n >= max(2, least * len(xy)):
            how = f"have the same {' and '.join(f'`{column}`' for column in columns)} as another one"
            return Joined(n, how, shared)
    return None


def _once_in_a_section(obs: pd.DataFrame, uns: Mapping[str, Any]) -> Iterator[tuple[list[str], float]]:
    """Give columns that no two spots of a section share, and the least share of spots that is no accident."""
    if set(_ARRAY) <= set(obs.columns) and (obs[_ARRAY].nunique() > 1).all():
        yield _ARRAY, _OF_WHOLE_NUMBERS
    attributes = uns.get(_keys.SPATIALDATA)
    named = [attributes.get(key) for key in ("region_key", "instance_key")] if isinstance(attributes, Mapping) else []
    keys = [key for key in named if isinstance(key, str) and key in obs.columns]
    if len(keys) == 2:
        yield keys, 0.0


def _least_share(xy: np.ndarray) -> float:
    """Share of repeated places that is no accident."""
    if (xy != np.rint(xy)).any():
        return _REPEATED
    by_chance = len(xy) / max(1.0, float(np.ptp(xy, axis=0).prod()))
    return max(_OF_WHOLE_NUMBERS, _BY_CHANCE * by_chance)
