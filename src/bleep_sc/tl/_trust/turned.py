"""Turns of whole objects: each section by itself."""

import numpy as np

from bleep_sc._logging import warn
from bleep_sc.metrics.turns import FEWEST_TURNS, random_turns
from bleep_sc.tl._sections import Sections


def turned_sections(xy: np.ndarray, sections: Sections, *, n_turns: int, seed: int, name: str) -> list[np.ndarray]:
    """Draw the turns of each section, int32 (n_turns, n_spots), and tell of sections that cannot be turned."""
    turned, odd = [], []
    for number, (section, rows) in enumerate(sections):
        turns = random_turns(xy[rows], n_turns=n_turns, rng=np.random.default_rng([seed, number]))
        turned.append(turns)
        if ((turns >= 0).any(axis=1)).sum() < FEWEST_TURNS:
            odd.append(section)
    if len(odd) == len(sections):
        msg = (
            f"no section can be turned so that half of it still lies on tissue, such as {odd[0]!r} with "
            f"{len(sections[0][1])} spots: they are too small, or `{name}.obsm['spatial']` is not where the spots lie."
        )
        raise ValueError(msg)
    if odd:
        warn(
            f"{len(odd)} of {len(sections)} sections, such as {odd[0]!r}, are too small or too scattered to be turned: "
            "they say nothing here."
        )
    return turned
