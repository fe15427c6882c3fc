"""Places that cannot be right by themselves: several spots on one, or too coarse a number."""

import numpy as np
import pandas as pd

from bleep_sc.pp._signs.section import SectionToCheck

_REPEATED, _OF_WHOLE_NUMBERS, _BY_CHANCE = 0.01, 0.2, 3
"""Share of spots that share their place with another from which on it is spoken of; and where places are whole numbers,

on which cells may fall together; and how many times as many as chance makes of these.
"""
_EXACT_TO = 2048
"""Half precision holds whole numbers up to here; above, its steps are 2 pixels and more."""
_MOST_SECTIONS = 100


def repeated_places(section: SectionToCheck) -> tuple[str, str] | None:
    """Several spots stand at one place: sections that were joined and are cut from one image."""
    if coarse_places(section) is not None:  # which makes places coincide
        return None
    n = number_of_repeated(section.xy)
    if n == 0:
        return None
    found = (
        f"{n} of {len(section.xy)} spots stand at the same place as another spot, as where several sections are taken "
        "for one and are all cut from one image."
    )
    return found, how_to_tell_apart(section.obs, section.xy, given=section.code.library_key)


def number_of_repeated(xy: np.ndarray) -> int:
    """Count the spots that share their place with another (n, 2); 0 where these may be accidents."""
    n = int(pd.DataFrame(xy).duplicated(keep=False).sum())
    return 0 if n < max(2, _least_share(xy) * len(xy)) else n


def how_to_tell_apart(obs: pd.DataFrame, xy: np.ndarray, *, given: str | None) -> str:
    """Name the column that tells apart sections that were taken for one.

    Parameters
    ----------
    obs
        Annotation of the spots.
    xy
        Their places (n, 2).
    given
        Column that was passed as `library_key`.
    """
    column = _telling_apart(obs, xy)
    instead = "" if given is None else f" in place of {given!r}"
    if column is None:
        return f"Name the column of `obs` that tells the sections apart: `library_key=...`{instead}."
    return f"The column {column!r} of `obs` tells them apart: pass `library_key={column!r}`{instead}."


def coarse_places(section: SectionToCheck) -> tuple[str, str] | None:
    """Places were stored with half precision, which large slides do not fit in."""
    largest = float(np.abs(section.xy).max(initial=0))
    if section.stored_dtype != np.float16 or largest <= _EXACT_TO:
        return None
    step = float(np.spacing(np.float16(largest)))
    found = (
        f"`{section.code.stored}` is stored in half precision (float16) and goes up to {largest:.0f}, where its steps "
        f"are of {step:.0f} pixels: places are up to {step / 2:.0f} px off."
    )
    return found, "Read the places anew from their source, as float32 or float64."


def _least_share(xy: np.ndarray) -> float:
    """Share of repeated places that is no accident."""
    if (xy != np.rint(xy)).any():
        return _REPEATED
    by_chance = len(xy) / max(1.0, float(np.ptp(xy, axis=0).prod()))
    return max(_OF_WHOLE_NUMBERS, _BY_CHANCE * by_chance)


def _telling_apart(obs: pd.DataFrame, xy: np.ndarray) -> str | None:
    """Find the first column of `obs` that sets apart all spots at one place."""
    places = pd.DataFrame(xy, columns=["x", "y"])
    for name in obs.columns:
        values = obs[name].astype(str).to_numpy()
        n_kinds = len(np.unique(values))
        if not 2 <= n_kinds <= min(_MOST_SECTIONS, len(values) // 2):
            continue
        if not places.assign(section=values).duplicated().any():
            return str(name)
    return None
