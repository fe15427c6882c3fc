"""The sentences of a report: the summary at its beginning, what the bounds promise, and the limits."""

from collections.abc import Sequence

import numpy as np

from bleep_sc import _keys
from bleep_sc._report.asked import Asked
from bleep_sc._report.genes import best_genes, is_calibrated, promise_of, scope_of
from bleep_sc._report.model import is_in_sample
from bleep_sc._report.plain import mapping, number, text
from bleep_sc._report.records import LOWER, MEASURED, Gene, Slide
from bleep_sc._report.slides import BAD, FAIR, GOOD

Point = tuple[str, str, str]
"""The grade of a point, its heading, and what it says."""
_NOT_KNOWN = "unknown"
_NO_RELATION = 0.1
"""Correlations this close to 0 say that two maps have nothing to do with each other, not that one is upside down."""
_DEPTHS = {"": "likewise", "reference": "as deeply as the reference", "query": "as deeply as these"}
"""The depths that bounds may speak of, in words; others are numbers of counts."""


def brief_of(asked: Asked, slides: Sequence[Slide], genes: Sequence[Gene]) -> tuple[Point, ...]:
    """Sum up in a few points: what was predicted, the slides, image and scale, the genes, the bounds."""
    n_spots = sum(slide.n_spots for slide in slides)
    kinds = f"{counted(len(slides), 'slide')} with {counted(n_spots, 'spot')}"
    measured = MEASURED.name in asked.values
    first = (
        f"This report shows {counted(len(asked.genes), 'gene')} on {kinds}. "
        + ("The same spots were sequenced, so that you can compare. " if measured else "They were not sequenced. ")
        + asked.why_genes
    )
    points = [("plain", "What is shown", first)]
    if is_in_sample(asked):
        seen = "The model has learned from spots that are shown here. Scores and maps look better than on new tissue."
        points.append((BAD, "Seen before", seen))
    points += [_of_slides(slides), _of_images(slides), _of_genes(asked, genes, slides), _of_bounds(asked)]
    return tuple(points)


def title_of(asked: Asked) -> str:
    """Name the report after its slides, where they have names."""
    names = [section.name for section in asked.sections if section.name]
    return "Predicted gene expression" + (f": {_listed(names)}" if names else "")


def bounds_of(asked: Asked) -> str:
    """Say what the bounds promise; empty where there are none."""
    if LOWER.name not in asked.values:
        return ""
    entry = mapping(asked.query.uns.get(_keys.intervals(asked.layer)))
    level, empirical, sure = (number(entry.get(name)) for name in ("level", "empirical", "guaranteed_level"))
    if not np.isfinite(level):
        return "Nothing is recorded of how many values should lie between the bounds."
    scope, depth = text(entry.get("scope")), text(entry.get("depth"))
    if text(entry.get("target")) == "rate":
        return f"About {level:.0%} of the values should lie between the bounds, if counting added no noise."
    sentences = [
        f"About {level:.0%} of the values that sequencing would find should lie between the bounds, in spots that are "
        f"sequenced {_DEPTHS.get(depth, f'to {depth} counts')}."
    ]
    if np.isfinite(empirical):
        sentences.append(f"On tissue that the model had not seen, {empirical:.0%} did{f' ({scope})' if scope else ''}.")
    if np.isfinite(sure):
        sentences.append(f"For a new patient, {sure:.0%} is sure. The rest is experience.")
    elif scope:
        sentences.append(f"Nothing is sure for another patient. The bounds rest on other tissue ({scope}).")
    sentences.append("High values lie outside more often than others.")
    return " ".join(sentences)


def limits_of(asked: Asked) -> tuple[tuple[str, str], ...]:
    """List what a reader should not conclude: heading and sentences."""
    limits = [
        (
            "A prediction is no measurement.",
            "The model has seen the picture, not the RNA. It gives what similar-looking tissue expressed elsewhere. "
            "Use it for research. Do not base a diagnosis or a treatment on it.",
        ),
        (
            "Every map looks like tissue.",
            "A wrong map looks as convincing as a right one. Trust a gene only where its expected score is good.",
        ),
        (
            "Many genes cannot be seen.",
            "The picture shows cell types and structure. A gene that varies within one cell type cannot be read "
            "off it.",
        ),
        (
            "Predicted maps are smooth.",
            "They average over many spots. Peaks come out too low, and small hot spots may vanish.",
        ),
        (
            "A spot is not a cell.",
            "A value stands for all cells in a spot together.",
        ),
        (
            "The reference sets the frame.",
            "Tissue that the reference lacks gets the values of what looks nearest. Rare findings may be missed.",
        ),
    ]
    if scope := scope_of(asked):
        limits.append(
            (
                "The scores speak of the patients at hand.",
                f"They rest on tissue that the model had not seen ({scope}). Lists of genes from few "
                "patients may not hold in the next one.",
            )
        )
    if _keys.reliability(asked.layer) in asked.query.obs:
        limits.append(
            (
                "Unusual does not mean wrong.",
                "The reliability says how unusual a spot looks. It does not measure the error. In a new patient, usual "
                "spots are predicted no better than unusual ones.",
            )
        )
    return tuple(limits)


def _of_slides(slides: Sequence[Slide]) -> Point:
    heading = "Do the slides look familiar?" if len(slides) > 1 else "Does the slide look familiar?"
    graded = [slide for slide in slides if slide.grade]
    if not graded:
        return _NOT_KNOWN, heading, "Nothing says whether this is the kind of tissue that the model learned from."
    worst = max(graded, key=lambda slide: (GOOD, FAIR, BAD).index(slide.grade))
    same = [slide for slide in graded if slide.grade == worst.grade]
    named = f"{_listed([slide.name for slide in same])}: " if len(slides) > 1 else ""
    return worst.grade, heading, f"{named}{worst.meaning}"


def _of_images(slides: Sequence[Slide]) -> Point:
    heading = "Are image and scale right?"
    doubtful = [slide for slide in slides if slide.findings]
    if doubtful:
        n = sum(len(slide.findings) for slide in doubtful)
        names = _listed([slide.name for slide in doubtful])
        return BAD, heading, f"There {'is' if n == 1 else 'are'} {counted(n, 'doubt')} about {names}. See below."
    if not all(slide.checked for slide in slides):
        return _NOT_KNOWN, heading, "This was not checked for all that is shown."
    if any(slide.is_other_tissue for slide in slides):
        in_doubt = "The slides' look is" if len(slides) > 1 else "The slide's look is"
        return FAIR, heading, f"The checks found no fault. {in_doubt} in doubt all the same, see there."
    fits = all(slide.alignment_grade == GOOD for slide in slides)
    return GOOD, heading, "The checks found no fault." + (" Colours and expression go together." if fits else "")


def _of_genes(asked: Asked, genes: Sequence[Gene], slides: Sequence[Slide]) -> Point:
    """Grade by the strongest evidence: what was measured here, the list of genes, whether it speaks of these slides."""
    heading = "Can these genes be predicted?"
    wrong = _wrong_here(genes)
    rest = [gene for gene in genes if not gene.is_wrong_here]
    if not is_calibrated(asked):
        untested = "Nobody has tested here which genes the model can predict."
        return (BAD if wrong else _NOT_KNOWN), heading, " ".join([*wrong, untested, *_reached(rest)])
    listed = [gene.name for gene in rest if gene.predictable]
    others = [gene.name for gene in rest if not gene.predictable]
    far = [slide.name for slide in slides if slide.is_other_tissue]
    said = wrong + ([f"{_listed(others)}: not shown to be predictable."] if others else [])
    if far:
        of = _listed(far) if len(slides) > 1 else "this slide"
        said.append(
            f"The list of genes was made on tissue that looks unlike {of}, so nobody knows whether it holds there."
        )
    yes, is_across = _by_the_list(asked, len(listed))
    if not said:
        said = [yes]
    if wrong or not listed:
        grade = BAD
    elif far:
        grade = _NOT_KNOWN
    else:
        grade = FAIR if others or not is_across else GOOD
    return grade, heading, " ".join([*said, _whole_list(asked), *_reached(rest)])


def _by_the_list(asked: Asked, n_listed: int) -> tuple[str, bool]:
    """Say that genes are on the list, and whether that was shown across patients."""
    yes = f"Yes{', all of them' if n_listed > 1 else ''}"
    promise = promise_of(asked)
    if promise is not None and promise.scope == "across patients":
        return f"{yes}.", True
    shown = "within one patient" if promise is not None and promise.scope == "within-patient" else "on unknown patients"
    return f"{yes}, but this was shown {shown} only. Another patient may differ.", False


def _wrong_here(genes: Sequence[Gene]) -> list[str]:
    """Name the genes whose measured maps the prediction does not follow as expected."""
    unrelated = [gene for gene in genes if gene.is_unrelated_here]
    inverse = [gene for gene in unrelated if (gene.reached or 0.0) <= -_NO_RELATION]
    sentences = []
    for how, some in (
        ("predicted the wrong way round here", inverse),
        ("not predicted here", [gene for gene in unrelated if gene not in inverse]),
        ("predicted worse here than expected", [gene for gene in genes if gene.is_worse_here]),
    ):
        if some:
            names = " and ".join(gene.name for gene in some)
            scores = ", ".join(
                _score(gene.reached) + (f" instead of at least {_score(gene.low)}" if gene.is_worse_here else "")
                for gene in some
            )
            sentences.append(f"{names} {'was' if len(some) == 1 else 'were'} {how} (r = {scores}).")
    return sentences


def _whole_list(asked: Asked) -> str:
    _, n_listed, n_tested = best_genes(asked)
    scope = scope_of(asked)
    of = f" ({scope})" if scope else ""
    return f"In all, {n_listed:,} of {n_tested:,} genes can be read off pictures of the reference's tissue{of}."


def _reached(genes: Sequence[Gene]) -> list[str]:
    scores = [f"{_score(gene.reached)} ({gene.name})" for gene in genes if gene.reached is not None]
    return [f"On these slides r is {', '.join(scores)}."] if scores else []


def _score(r: float | None) -> str:
    return "–" if r is None else f"{r:.2f}".replace("-", "−")


def _of_bounds(asked: Asked) -> Point:
    heading = "How far may a value be off?"
    said = bounds_of(asked)
    return ("plain", heading, said) if said else (_NOT_KNOWN, heading, "No bounds were computed.")


def _listed(names: Sequence[str], *, most: int = 5) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def counted(n: int, noun: str) -> str:
    """Put a number of things in words."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
