"""Compare ways by the tissue alone, where no expression was measured: how many of the spots lie on it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bleep_sc.pp._alignment.compare import FEWEST, FITS, OTHER, UNKNOWN, Comparison
from bleep_sc.pp._alignment.looks import PictureLook
from bleep_sc.pp._alignment.ways import Way, chance_places
from bleep_sc.pp._signs.tissue import BETTER, ENOUGH, SURE
from bleep_sc.pp._tissue.by_color import tissue_by_color


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

    def share(places: np.ndarray) -> float:
        pixels = np.floor(look.on_picture(places)).astype(np.int64)
        inside = ((pixels >= 0) & (pixels < [mask.shape[1], mask.shape[0]])).all(axis=1)
        return float(mask[pixels[inside, 1], pixels[inside, 0]].sum() / len(xy))

    shares = np.array([share(way.places(xy)) for way in candidates])
    error = np.sqrt(np.maximum(shares * (1 - shares), 0.01) / len(xy))
    gain = shares - shares[0]
    chance = np.array([share(places) for places in chance_places(xy, around)])
    table = pd.DataFrame(
        {
            "way": [way.name for way in candidates],
            "kind": [way.kind for way in candidates],
            "score": shares,
            "score_given": shares[0],
            "gain": gain,
            "standard_error": error,
            "gain_in_errors": gain / error[0],
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
