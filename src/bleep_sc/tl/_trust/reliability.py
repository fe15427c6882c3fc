"""Whether the spots of a query, and its slides as wholes, look like the reference that a model was fitted on."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bleep_sc._logging import logger, warn
from bleep_sc._stats import section_rows
from bleep_sc._untrusted import REMEDY
from bleep_sc.models.search.novelty import Novelty

RELIABILITY = "reliability"
"""The entry of a query's `uns[key]` with the verdicts."""

LIKE = "like the reference"
OTHER = "another patient, stain or scanner"
UNLIKE = "unlike the reference's tissue, or a fault of image or scale"
GRADES = (LIKE, OTHER, UNLIKE)
"""The verdicts, the worst last."""

RARE = 0.05
"""The p-value up to which a spot counts as unlike the reference."""
_MOST_UNLIKE = 0.2
"""The share of such spots up to which a section is like the reference. Clean sections of a patient had at most .10."""
_FAR = 3.5
_MOST_MOVED = 0.075
"""The share of features that a new patient moves by more than `_FAR` spreads. It was at most .02 over ten painted
tissues and one real patient, and .07 on another array. Other tissue moved .09 to .21, but only .03 and .05 where the
reference was two small sections. The distance alone, 0.4 to 2.1 against 1.3 to 2.5, tells less: it grows as much from a
little stain, since features that go together rarely part. Benchmark: trust_reliability.py."""
_FARTHEST = 2.5
"""The distance above which nothing else is asked. New patients lay at up to 2.1, faults of the image at up to 6.7."""

_SO_FAR_OFF = "So far off are other tissue, another scale or a fault of the image"


@dataclass(frozen=True)
class Reliability:
    """The reliability of each spot, and the verdict on each section."""

    p_values: np.ndarray
    """The p-value of each spot (n_obs,); low for a spot unlike any of the reference."""
    sections: pd.DataFrame
    """A row for each section: `section`, `n_spots`, `share_unlike`, `distance`, `share_moved`, `verdict`, `moved`."""


def judge(
    novelties: Sequence[Novelty],
    features: Sequence[np.ndarray],
    sections: np.ndarray | None,
    *,
    where: str,
) -> Reliability:
    """Tell how unlike the reference each spot looks, and what that says of each section.

    Where several encoders look, with their features (n_obs, n_features) each, a spot has the smallest of their p-values
    times their number, so that it stays a p-value (Bonferroni). Of a section the encoder tells that finds it farthest.
    """
    widths = [len(novelty.look.center) for novelty in novelties]
    found = [own.shape[1] for own in features]
    if widths != found:
        msg = (
            f"`{where}['novelty']` is of {' and '.join(map(str, widths))} image features, and the model reads "
            f"{' and '.join(map(str, found))}, so it is damaged or another model's. {REMEDY}"
        )
        raise ValueError(msg)
    looks = [(novelty, own, novelty.look.distances(own)) for novelty, own in zip(novelties, features, strict=True)]
    smallest = np.min([novelty.p_values(distances) for novelty, _, distances in looks], axis=0)
    p_values = np.minimum(1.0, len(looks) * smallest)
    rows = []
    for section, members in section_rows(sections, len(features[0])):
        share = float((p_values[members] <= RARE).mean())
        judged = [_of_section(novelty, own[members], distances[members], share) for novelty, own, distances in looks]
        told = max(judged, key=lambda row: (GRADES.index(row["verdict"]), row["distance"]))
        rows.append({"section": section, "n_spots": len(members), **told})
    return Reliability(p_values, pd.DataFrame(rows))


def _of_section(novelty: Novelty, features: np.ndarray, distances: np.ndarray, share: float) -> dict[str, Any]:
    """Judge a section by what one encoder sees of it."""
    distance, moved = novelty.relative(distances), novelty.moved(features)
    share_moved = float((np.abs(moved) > _FAR).mean())
    return {
        "share_unlike": share,
        "distance": distance,
        "share_moved": share_moved,
        "verdict": _verdict(share, distance, share_moved),
        "moved": ", ".join(f"{name} {shift:+.1f} SD" for name, shift in novelty.named(moved)),
    }


def _verdict(share: float, distance: float, share_moved: float) -> str:
    # with a reference of a few spots no p-value is low, and the distance alone tells
    if share <= _MOST_UNLIKE and distance <= 1:
        return LIKE
    return UNLIKE if distance > _FARTHEST or (distance > 1 and share_moved > _MOST_MOVED) else OTHER


def report(reliability: Reliability, *, image_key: str, from_crops: bool) -> None:
    """Warn of each section that is unlike the reference's tissue; log which ones are of another patient or scanner."""
    for row in reliability.sections.to_dict("records"):
        said = _evidence(row)
        if row["verdict"] == UNLIKE:
            check = (
                "Check `um`, `mpp` and `image` of `bleep_sc.pp.crops`, and look at the crops."
                if from_crops
                else f"Check that `obsm[{image_key!r}]` was made as for the reference."
            )
            warn(f"{said}. {_SO_FAR_OFF}, hardly another patient: the prediction is no more than a guess. {check}")
        elif row["verdict"] == OTHER:
            logger.info(
                "%s. It looks like another patient, stain or scanner, which is usual for new tissue. The reliability "
                "does not show where the prediction is wrong there.",
                said,
            )


@contextmanager
def verdicts_unsaid() -> Iterator[None]:
    """A ``with`` block for callers that give verdicts in a table: no warning of a section that is far off."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=f".*{_SO_FAR_OFF}")
        yield


def _evidence(row: Mapping[str, Any]) -> str:
    section = f"section {row['section']!r}" if row["section"] else "`query`"
    moved = f"; what moved most: {row['moved']}" if row["moved"] else ""
    return (
        f"{section}: {row['share_unlike']:.0%} of {row['n_spots']} spots look unlike the reference (p <= {RARE}), at "
        f"{row['distance']:.2g} times its usual distance{moved}"
    )
