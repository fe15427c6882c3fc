"""Compare ways by the tissue alone, where no expression was measured: how many of the spots lie on it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bleep_sc.pp._alignment.compare import FEWEST, FITS, OTHER, UNKNOWN, Comparison
from bleep_sc.pp._alignment.looks import PictureLook
from bleep_sc.pp._alignment.ways import Way, chance_places
from bleep_sc.pp._signs.tissue import BETTER, ENOUGH, SURE
from bleep_sc.pp._tissue.by_color import tissue_by_color

_LEAST_VARIANCE = 0.01


def compare_by_tissue(
    xy: np.ndarray, look: PictureLook, candidates: Sequence[Way], *, around: np.ndarray
) -> Comparison | None:
    """Compare ways by the share of spots on tissue; None with too few spots, or where no tissue is told from glass.

    The given places fit if most of them lie on tissue and those of no turn do. Shifts are only listed: tissue is wider
    than they are.
    """
    mask = tissue_by_color(look.pixels)
    if mask is None or len(xy) < FEWEST:
        return None

    def on_tissue(places: np.ndarray) -> np.ndarray:
        pixels = np.floor(look.on_picture(places)).astype(np.int64)
        inside = ((pixels >= 0) & (pixels < [mask.shape[1], mask.shape[0]])).all(axis=1)
        found = np.zeros(len(places), dtype=bool)
        found[inside] = mask[pixels[inside, 1], pixels[inside, 0]]
        return found

    by_way = np.stack([on_tissue(way.places(xy)) for way in candidates]).astype(np.float64)
    shares, gain = by_way.mean(axis=1), (by_way - by_way[0]).mean(axis=1)
    error, error_of_gain = (_standard_error(each) for each in (by_way, by_way - by_way[0]))
    chance = np.array([on_tissue(places).mean() for places in chance_places(xy, around)])
    table = pd.DataFrame(
        {
            "way": [way.name for way in candidates],
            "kind": [way.kind for way in candidates],
            "score": shares,
            "score_given": shares[0],
            "gain": gain,
            "standard_error": error_of_gain,
            "gain_in_errors": gain / error_of_gain,
            "score_in_errors": shares / error,
            "n_spots": len(xy),
            "above_chance": (shares - chance.mean()) / max(float(chance.std(ddof=1)), 1e-9),
        },
        index=[str(i) for i in range(len(candidates))],
    )
    turns = table[table["kind"].isin(["turn", "image turn"])]
    best = turns.sort_values("score", kind="stable").iloc[-1]
    least = max(BETTER, SURE * float(error[0]))
    verdict = UNKNOWN
    if best["score"] >= ENOUGH and best["gain"] >= least:
        verdict = OTHER
    elif shares[0] >= ENOUGH and best["gain"] <= -least:
        verdict = FITS
    return Comparison(verdict, str(best["way"]), table, chance, len(xy))


def _standard_error(by_way: np.ndarray) -> np.ndarray:
    """Compute the standard error of each mean over spots (n_ways, n); few spots show too little of their variance."""
    return np.asarray(np.sqrt(np.maximum(by_way.var(axis=1), _LEAST_VARIANCE) / by_way.shape[1]))
