"""What is known of each slide: how it looks beside the reference, and what was found about image and scale."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bleep_sc import _keys
from bleep_sc._adata import crop_records
from bleep_sc._report.asked import Asked
from bleep_sc._report.maps import ground_of, name_of
from bleep_sc._report.plain import mapping, number, text
from bleep_sc._report.records import Finding, Slide
from bleep_sc.pl._figure import errors_naming
from bleep_sc.pl._reliability import UNLIKE, p_values_of, verdicts_of
from bleep_sc.pl._tissue import Section

GOOD, FAIR, BAD = "good", "fair", "bad"
_COUNTED = ("padded", "missing_tiles")
"""Entries that say something only where they are not 0."""


def slides_of(asked: Asked, *, side: int) -> tuple[Slide, ...]:
    """Describe all sections that are shown."""
    verdicts, records = _verdicts(asked), crop_records(asked.query, asked.image_key)
    return tuple(_slide(asked, section, verdicts, records.get(section.name), side=side) for section in asked.sections)


def _verdicts(asked: Asked) -> Mapping[str, str]:
    column = _keys.reliability(asked.layer)
    return verdicts_of(asked.query, asked.layer) if column in asked.query.obs and asked.provenance else {}


def _slide(
    asked: Asked, section: Section, verdicts: Mapping[str, str], record: Mapping[str, Any] | None, *, side: int
) -> Slide:
    verdict = verdicts.get(section.name) or (next(iter(verdicts.values())) if len(verdicts) == 1 else "")
    grade, meaning = _meaning(verdict)
    of_crops = _findings(asked, section.name, record)
    cut_from = text(mapping(record).get("source")) or "their image"
    alignment, alignment_grade, of_alignment = _alignment(asked, section.name, doubted=cut_from if of_crops else None)
    return Slide(
        name_of(section),
        len(section.rows),
        ground_of(asked, section, side=side),
        verdict,
        meaning,
        grade,
        _unlike(asked, section),
        _facts(record),
        (*of_crops, *of_alignment),
        alignment,
        alignment_grade,
        checked=record is not None and "findings" in record,
    )


def _meaning(verdict: str) -> tuple[str, str]:
    """Grade a verdict, and say in plain words what it means and what to do."""
    from bleep_sc.tl._trust.reliability import LIKE, OTHER, UNLIKE

    meanings = {
        LIKE: (GOOD, "The slide looks like the tissue that the model learned from."),
        OTHER: (
            FAIR,
            "Many spots look somewhat unlike the reference. This is usual for another patient, stain or scanner. "
            "Expect less than the scores below say.",
        ),
        UNLIKE: (
            BAD,
            "The slide looks far from the reference. Its tissue is of another kind, or the image or its scale is "
            "wrong. Take the maps as a guess.",
        ),
    }
    return meanings.get(verdict, ("", ""))


def _unlike(asked: Asked, section: Section) -> str:
    column = _keys.reliability(asked.layer)
    if column not in asked.query.obs:
        return ""
    p_values = p_values_of(asked.query, column)[section.rows]
    known = p_values[np.isfinite(p_values)]
    if not len(known):
        return ""
    n = int((known <= UNLIKE).sum())
    return f"{n:,} of {len(known):,} spots ({n / len(known):.0%}) look unlike the reference. One in twenty is usual."


def _facts(record: Mapping[str, Any] | None) -> tuple[tuple[str, str], ...]:
    """Put the record of the crops in words; what is not known is left out."""
    if record is None:
        return ()
    facts = []
    for name, entry, pattern in (
        ("Tissue in each crop", "size_um", "{:.4g} µm wide"),
        ("Crop", "size", "{:.0f} pixels wide"),
        ("Resolution", "um_per_px", "{:.3g} µm per pixel of the crop"),
        ("Width in spot diameters", "spot_diameters", "{:.3g}"),
        ("Crops over the border of the image", "padded", "{:,.0f}"),
        ("Tiles that the scanner left out", "missing_tiles", "{:,.0f}"),
    ):
        value = number(record.get(entry))
        if np.isfinite(value) and (value or entry not in _COUNTED):
            facts.append((name, pattern.format(value)))
    source = record.get("source")
    if isinstance(source, str) and source:
        facts.append(("Pixels come from", source))
    return tuple(facts)


def _findings(asked: Asked, section: str, record: Mapping[str, Any] | None) -> list[Finding]:
    if record is None or "findings" not in record:
        return []
    with errors_naming(f"query.uns[{asked.image_key!r}][{section!r}]['findings']", writer="crops", room="pp"):
        table = pd.DataFrame(record["findings"])
        if table.empty:
            return []
        return [Finding(str(row["found"]), str(row["remedy"])) for row in table.to_dict("records")]


def _alignment(asked: Asked, section: str, *, doubted: str | None) -> tuple[str, str, list[Finding]]:
    """The verdict of `pp.check_alignment` with its grade, and a finding where another way fits better.

    `doubted` names the image that the crops were cut from, where there are findings about them.
    """
    from bleep_sc.pp._alignment.compare import FITS, UNKNOWN

    with errors_naming(f"query.uns[{_keys.ALIGNMENT_CHECK!r}]", writer="check_alignment", room="pp"):
        checks: Any = asked.query.uns.get(_keys.ALIGNMENT_CHECK, {})
        if section not in checks:
            return "", "", []
        verdict, found, remedy, read = (
            str(checks[section].get(part, "")) for part in ("verdict", "found", "remedy", "source")
        )
    if verdict == FITS and doubted is not None:
        return *_fits_in_doubt(read or "another picture", doubted, of_crops=f"`obsm[{asked.image_key!r}]`"), []
    if verdict == FITS:
        return "Colours under the spots go with their expression, so the image fits the spots.", GOOD, []
    if verdict.startswith(FITS):  # it goes on with what it speaks of
        return f"The check of colours and expression: {verdict}.", "", []
    if verdict == UNKNOWN:
        return "It cannot be told from colours and expression whether the image fits the spots.", "", []
    return f"The image may not fit the spots: {verdict}.", BAD, [Finding(found, remedy)]


def _fits_in_doubt(read: str, cut_from: str, *, of_crops: str) -> tuple[str, str]:
    """Say what a picture that fits the spots tells of crops that are in doubt: of those of another image, nothing."""
    if read in {f"the {cut_from}", of_crops}:
        return (
            "Colours under the spots go with their expression, but there is a doubt about the crops, see the list.",
            FAIR,
        )
    return (
        f"This check read {read}, whose colours go with the expression. It did not read {cut_from}, from which the "
        "crops were cut. So it does not say that the crops fit.",
        "",
    )
