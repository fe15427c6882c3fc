"""What the checks of an image have found: a doubt, with its evidence and the line that mends it."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Finding:
    """A doubt whether image, scale and spots belong together."""

    sign: str
    """Name of the check that found it."""
    found: str
    """What was seen, with its numbers: one or more sentences."""
    remedy: str
    """How to mend it: one or more sentences with the line of code."""

    def __str__(self) -> str:
        return f"{self.found} {self.remedy}"


def as_frame(findings: Iterable[Finding]) -> pd.DataFrame:
    """Make the table of findings that a record keeps, a row each; it may have none."""
    columns = [field.name for field in fields(Finding)]
    rows = [asdict(finding) for finding in findings]
    return pd.DataFrame(rows, columns=columns, index=[str(i) for i in range(len(rows))], dtype=object)


def findings_in(record: Mapping[str, Any]) -> list[Finding]:
    """Read the findings that the record of a section's crops keeps; none where it keeps no table of them."""
    names, table = [field.name for field in fields(Finding)], record.get("findings")
    if not isinstance(table, pd.DataFrame) or not set(names) <= set(table.columns):
        return []
    return [Finding(*map(str, row)) for row in table[names].itertuples(index=False)]


def in_words(findings: Mapping[str, Iterable[Finding]]) -> str:
    """Put the findings of each section into one text, a line each."""
    lines = [f"{library!r}: {finding}" for library, found in findings.items() for finding in found]
    return "image, scale and spots may not belong together.\n" + "\n".join(lines)
