"""Judge one section: which ways, on which spots, by what, and the words in which the result is told."""

from dataclasses import dataclass, replace

import numpy as np

from bleep_sc._side_effects import one_thread
from bleep_sc.pp._alignment.compare import FEWEST, FEWEST_GENES, FITS, OTHER, UNKNOWN, Comparison, compare
from bleep_sc.pp._alignment.compared import Compared
from bleep_sc.pp._alignment.looks import Look, PictureLook
from bleep_sc.pp._alignment.tissue import compare_by_tissue
from bleep_sc.pp._alignment.ways import Way, ways
from bleep_sc.pp._places_code import PlacesCode

BY_EXPRESSION, BY_TISSUE = "expression", "tissue"


@dataclass(frozen=True)
class Judged:
    """The verdict on a section, and what it rests on."""

    verdict: str
    by: str
    """"expression" or "tissue"."""
    source: str
    """Where colours come from."""
    found: str
    """The figures, in a sentence or two."""
    remedy: str
    """How to mend it; empty where nothing is to be mended."""
    comparison: Comparison | None

    def __str__(self) -> str:
        return f"{self.verdict}. {self.found}" + (f" {self.remedy}" if self.remedy else "")


@one_thread()
def judge(
    expression: np.ndarray | None,
    compared: Compared,
    look: Look,
    *,
    width_height: np.ndarray | None,
    source: str,
    code: PlacesCode,
) -> Judged:
    """Judge how the spots of a section lie on its image.

    Parameters
    ----------
    expression
        Expression of what is compared (n, n_genes); None judges by the tissue alone.
    compared
        The places that are compared.
    look
        Tells the look at any place.
    width_height
        Size of the image in full-resolution pixels, where it is known.
    source
        Where the look comes from, in words.
    code
        Writes the line that moves the places.
    """
    by = BY_TISSUE if expression is None else BY_EXPRESSION
    if not compared.pitch > 0:
        return Judged(UNKNOWN, by, source, "The spots share their places, or there is one spot.", "", None)
    xy = compared.xy
    candidates = ways(xy, compared.pitch, width_height, step=compared.step)
    if expression is not None:
        comparison = compare(expression, xy[compared.chosen], look, candidates, around=xy)
    elif isinstance(look, PictureLook):
        comparison = compare_by_tissue(xy[compared.chosen], look, candidates, around=xy)
    else:
        comparison = None
    if comparison is None:
        n = len(compared.chosen)
        why = f"{n} {compared.unit} were compared, and at least {FEWEST} are needed."
        if n >= FEWEST:
            why = f"{n} {compared.unit} were compared, and their image or expression does not tell places apart."
            if expression is not None and expression.shape[1] < FEWEST_GENES:
                why = f"{expression.shape[1]} genes were compared, and at least {FEWEST_GENES} are needed."
        return Judged(UNKNOWN, by, source, why, "", None)
    remedy = _remedy(comparison, candidates, compared, code) if comparison.verdict == OTHER else ""
    verdict = f"{OTHER}: {comparison.best}" if comparison.verdict == OTHER else comparison.verdict
    return Judged(verdict, by, source, _IN_WORDS[by](comparison, source, compared.unit), remedy, comparison)


def of_the_picture_alone(judged: Judged, cut_from: str) -> Judged:
    """Say that the hires picture was judged, where the crops were cut from an image that does not look like it."""
    said = f"this speaks of the hires picture, not of {cut_from!r}, from which the crops were cut"
    if judged.verdict == FITS:
        judged = replace(judged, verdict=f"{FITS}, but {said}")
    else:
        judged = replace(judged, found=f"{judged.found} But {said}.")
    return replace(judged, found=f"{judged.found} Pass that image as `image=` to check it.")


def _remedy(comparison: Comparison, candidates: list[Way], compared: Compared, code: PlacesCode) -> str:
    chosen = next(way for way in candidates if way.name == comparison.best)
    line = f"If that is right: `{code.moved(chosen.expression)}`, then cut the crops again."
    if chosen.kind != "shift":
        return line
    rough = f" Shifts are by whole {compared.steps}, so this one is known to about {compared.pitch / 2:.3g} pixels."
    if compared.members is None:
        return line + rough
    finer = f"pass `max_spots={4 * len(compared.xy)}` to `bl.pp.check_alignment`, for blocks that are half as wide."
    return f"{line}{rough} To know it better after that, {finer}"


def _explained(comparison: Comparison, source: str, unit: str) -> str:
    given, other, chance = comparison.given, comparison.other, comparison.chance
    least = "" if comparison.verdict == FITS else f" (standard error of the difference {other['standard_error']:.3f})"
    same = "" if other["n_spots"] == given["n_spots"] else f" on the same {other['n_spots']} {unit}"
    return (
        f"Colours of {source} explain {given['score']:.3f} of the expression of {given['n_spots']} {unit} as given. "
        f"The best other way, {other['way']}, explains {other['score']:.3f} against "
        f"{other['score_given']:.3f}{same}{least}. "
        f"Placements that cannot be right explain {chance.mean():.3f} ± {chance.std(ddof=1):.3f}."
    )


def _on_tissue(comparison: Comparison, source: str, unit: str) -> str:
    given, other = comparison.given, comparison.other
    return (
        f"By {source}, {given['score']:.0%} of {given['n_spots']} {unit} lie on tissue as given, and "
        f"{other['score']:.0%} {other['way']}."
    )


_IN_WORDS = {BY_EXPRESSION: _explained, BY_TISSUE: _on_tissue}
