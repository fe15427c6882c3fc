"""The calibration of a model: how far its predictions of held-out spots were off, gene by gene, and its storage."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from bleep_sc._untrusted import REMEDY
from bleep_sc.io._bundle import Part, names_from_bytes, names_to_bytes, pack, unpack

CALIBRATION = "calibration"
"""The entry of `uns[key]` with what `intervals` reads."""
COVERAGE = "coverage"
"""The entry of `uns[key]` with the table that `pl.calibration` draws."""
SCOPE = "scope"
"""The entry of `uns[key]` that says in words what the calibration speaks of."""
ENTRIES = (CALIBRATION, COVERAGE, SCOPE)
Scope = Literal["across patients", "within-patient", "patients unknown"]
"""The label of what held-out tissue says something of."""
_PHRASES: Mapping[str, str] = {
    "across patients": "across {} patients",
    "within-patient": "on {} sections of one patient",
    "patients unknown": "on {} sections of unknown patients",
}
COVERAGE_COLUMNS = {"group": str, "n_spots": int, "panel": str, "level": float, "coverage": float, "genes_above": float}
_PARTS = {
    "genes": Part("uint8", ("characters of genes",)),
    "half_width": Part("float16", ("depths", "levels", "genes"), finite=False),
    "depths": Part("float64", ("depths",)),
    "levels": Part("float64", ("levels",)),
    "n_spots": Part("int64", ("depths", "groups")),
    "rate_sd": Part("float16", ("genes",), finite=False),
}
_TEXTS = ("group_key", "scope", "model_sha256")
_NUMBERS = ("target_sum", "lowest_depth", "median_depth", "highest_depth")
_MOST_GROUPS = 10_000


@dataclass(frozen=True)
class Promise:
    """What a calibration rests on, in plain types."""

    group_key: str
    """The column of `obs` with the groups that were held out."""
    scope: str
    """``"across patients"``, ``"within-patient"`` or ``"patients unknown"``."""
    groups: list[str]
    """Names of the groups."""
    predictor: dict[str, Any]
    """The method, and the arguments of `impute`, that it is the calibration of."""
    target_sum: float
    lowest_depth: float
    median_depth: float
    highest_depth: float
    """Total counts of the calibration spots."""
    n_left_out: int
    """Number of spots that no fold has predicted, or without counts."""
    seed: int
    model_sha256: str
    n_reference: int
    """Number of spots of the reference that is averaged."""
    cross_fit: bool
    """Whether the folds were trained again, so that what `fit` has kept says nothing of them."""
    trained_on: int | None = None
    """The number of spots that a fold was trained on where it had more; None where all were."""
    coverage: list[list[Any]] = field(default_factory=list)
    """The rows of the table of coverage."""

    @property
    def in_words(self) -> str:
        """What the calibration speaks of, as :func:`scope_in_words` says it."""
        return scope_in_words(self.scope, len(self.groups))

    @property
    def joint(self) -> bool:
        """Whether all groups are taken as one."""
        return self.scope != "across patients"

    def guaranteed(self, level: float) -> float | None:
        """Compute the level that is sure for a new patient; None where one patient alone is known.

        Of K + 1 patients who could each be the new one, the new one is the worst with chance 1 / (K + 1).
        """
        n = len(self.groups)
        return None if self.joint else level * n / (n + 1)

    def coverage_table(self) -> pd.DataFrame:
        """Make the table of how many measured values lay within intervals made from the other groups."""
        columns = list(COVERAGE_COLUMNS)
        return pd.DataFrame(self.coverage, columns=columns).astype(COVERAGE_COLUMNS)


@dataclass(frozen=True)
class Calibration:
    """The half-widths of intervals for each gene, at some depths and levels."""

    genes: np.ndarray
    """Names of the genes (n_genes,)."""
    half_width: np.ndarray
    """Half-widths float16 (n_depths, n_levels, n_genes), rounded up; infinity where nothing can be promised."""
    depths: np.ndarray
    """Total counts that spots are thinned to (n_depths,); 0 for spots as they are."""
    levels: np.ndarray
    """Shares of the spots that are covered (n_levels,)."""
    n_spots: np.ndarray
    """Number of spots of each group at each depth (n_depths, n_groups)."""
    rate_sd: np.ndarray
    """Root of the mean squared error without count noise, float16 (n_genes,)."""
    promise: Promise

    def to_uns(self) -> dict[str, Any]:
        """Turn the calibration into the entries of `uns[key]`."""
        arrays = {name: getattr(self, name) for name in _PARTS if name != "genes"}
        return {
            CALIBRATION: pack({"genes": names_to_bytes(self.genes), **arrays}, asdict(self.promise)),
            COVERAGE: self.promise.coverage_table(),
            SCOPE: self.promise.in_words,
        }

    @classmethod
    def from_bytes(cls, stored: Any, *, where: str) -> "Calibration":
        """Read a calibration, which may come from a stranger.

        Raises
        ------
        ValueError
            A part is missing or is not what it must be. The message names it.
        """
        arrays, record = unpack(stored, _PARTS, where=where)
        genes = names_from_bytes(arrays.pop("genes"), where=where)
        promise = _promise(record, where)
        levels, depths, n_spots = arrays["levels"], arrays["depths"], arrays["n_spots"]
        fine = {
            "genes": len(genes) == arrays["half_width"].shape[2] == len(set(genes)),
            "half_width": not (arrays["half_width"] < 0).any(),
            "rate_sd": not (arrays["rate_sd"] < 0).any(),
            "levels": len(levels) > 0 and bool(((levels > 0) & (levels < 1)).all()),
            "depths": len(depths) > 0 and depths[0] == 0 and bool((np.diff(depths) > 0).all()),
            "n_spots": n_spots.shape[1] == len(promise.groups) and not (n_spots < 0).any(),
        }
        if wrong := [name for name, is_fine in fine.items() if not is_fine]:
            msg = f"{where}: `{wrong[0]}` is damaged. {REMEDY}"
            raise ValueError(msg)
        return cls(genes, promise=promise, **arrays)


def rounded_up(values: np.ndarray) -> np.ndarray:
    """Turn half-widths into float16 that are no smaller."""
    with np.errstate(over="ignore"):
        short = np.asarray(values, dtype=np.float16)
    return np.where(short < values, np.nextafter(short, np.float16(np.inf)), short)


def scope_in_words(scope: str, n: int) -> str:
    """Turn a scope into a phrase that goes on after a verb, such as "was made" or "calibrated".

    `n` is the number of groups that were held out: of patients across patients, else of sections. A label of another
    version counts as unknown.
    """
    return _PHRASES.get(scope, _PHRASES["patients unknown"]).format(n)


def _promise(record: Mapping[str, Any], where: str) -> Promise:
    groups, predictor, coverage = record.get("groups"), record.get("predictor"), record.get("coverage")
    fine = {
        **{name: isinstance(record.get(name), str) for name in _TEXTS},
        **{name: _is_number(record.get(name)) and record[name] > 0 for name in _NUMBERS},
        **{name: _is_count(record.get(name)) for name in ("n_left_out", "seed", "n_reference")},
        "trained_on": record.get("trained_on") is None or _is_count(record["trained_on"]),
        "cross_fit": isinstance(record.get("cross_fit"), bool),
        "groups": _are_texts(groups) and 1 < len(groups or ()) <= _MOST_GROUPS,
        "predictor": isinstance(predictor, dict)
        and all(v is None or isinstance(v, str | int | float) for v in predictor.values()),
        "coverage": isinstance(coverage, list) and all(map(_is_row, coverage)),
    }
    if wrong := [name for name, is_fine in fine.items() if not is_fine]:
        msg = f"{where}: `{wrong[0]}` of the record is missing or damaged. {REMEDY}"
        raise ValueError(msg)
    return Promise(**{name: record[name] for name in fine})


def _is_row(row: Any) -> bool:
    if not isinstance(row, list) or len(row) != len(COVERAGE_COLUMNS):
        return False
    return all(
        isinstance(value, str) if kind is str else _is_number(value)
        for value, kind in zip(row, COVERAGE_COLUMNS.values(), strict=True)
    )


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def nearest(values: Sequence[float] | np.ndarray, wanted: float) -> int | None:
    """Find a number among others; None where it is not there."""
    found = np.flatnonzero(np.isclose(np.asarray(values, dtype=np.float64), wanted, rtol=1e-6, atol=0))
    return int(found[0]) if len(found) else None
