"""The reference's spots, with what was measured of them and what models that never saw them predict."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from anndata import AnnData
from scipy import sparse

from bleep_sc import _keys
from bleep_sc._adata import as_numbers, as_text, section_of_spots
from bleep_sc._checks import MissingKeyError, check_in
from bleep_sc._expression import count_values, expression_values, path_of
from bleep_sc._stats import looks_like_counts
from bleep_sc.io._calibration import Scope
from bleep_sc.io._out_of_fold import FoldDecoders
from bleep_sc.io._out_of_fold import from_uns as decoders_from_uns
from bleep_sc.io._reference_record import ReferenceRecord
from bleep_sc.io._stored import StoredModel
from bleep_sc.tl._inputs.measured import warn_of_other_values
from bleep_sc.tl._sections import known_patient_key, patients_of_spots

_ROWS_TO_COMPARE = 64
_SAME_VALUE = 1e-3
_SAME_TOTAL = 0.01


@dataclass(frozen=True)
class Labels:
    """The section and the patient of each spot."""

    sections: np.ndarray
    """The section of each spot (n_obs,)."""
    patients: np.ndarray | None
    """The patient of each spot (n_obs,); None where they are unknown."""
    patient_key: str

    @property
    def scope(self) -> Scope:
        """What the held-out spots say something of."""
        if self.patients is None:
            return "patients unknown"
        return "across patients" if len(set(self.patients)) > 1 else "within-patient"

    @property
    def groups(self) -> np.ndarray:
        """The groups that are held out one by one: patients where there are several, else sections."""
        return self.patients if self.scope == "across patients" and self.patients is not None else self.sections


@dataclass(frozen=True)
class Measured:
    """The counts of spots, and how expression was made of them."""

    genes: np.ndarray
    """Names of the genes (n_genes,)."""
    counts: sparse.csc_matrix
    """Raw counts (n_spots, n_genes)."""
    totals: np.ndarray
    """Total counts of each spot, over all genes (n_spots,)."""
    target_sum: float
    """The total T of log1p(T · counts / total)."""
    rank: np.ndarray
    """The place of each spot among all, ordered by name (n_spots,)."""


@dataclass(frozen=True)
class HeldOutSpots:
    """Spots that models which never saw their patient, or their section, have predicted."""

    measured: Measured
    predict: Callable[[np.ndarray], np.ndarray]
    """The function that returns the predictions of the genes at some columns, float32 (n_columns, n_spots)."""
    rows: np.ndarray
    """The row of each spot in the reference (n_spots,)."""
    labels: Labels
    """The section and the patient of each spot."""
    trained_on: int | None = None
    """The number of spots that a fold was trained on where it had more; None where all were."""

    @property
    def joint(self) -> bool:
        """Whether all groups are taken as one: they are sections, which nobody takes for patients."""
        return self.labels.scope != "across patients"

    @cached_property
    def group_names(self) -> np.ndarray:
        """Names of the groups (n_groups,)."""
        return np.unique(self.labels.groups.astype(str))

    @cached_property
    def group(self) -> np.ndarray:
        """The number of each spot's group (n_spots,)."""
        return np.searchsorted(self.group_names, self.labels.groups.astype(str))


def read_labels(ref: AnnData, stored: StoredModel, key: str, *, patient_key: str | None, again: bool) -> Labels:
    """Read sections and patients, by the columns that the model was fitted with; refuse one section alone.

    `again` says that the folds are trained again, so that another column of patients may be named.
    """
    library_key, fitted_with = stored.config.library_key, stored.config.patient_key
    for column, name in ((library_key, "library_key"), (patient_key or fitted_with, "patient_key")):
        if column:
            check_in(
                "ref.obs", column, ref.obs.columns, remedy=f"It is the `{name}` of the model; put the column back."
            )
    asked = patient_key or fitted_with or known_patient_key(ref, None) or ""
    if asked != fitted_with and not again:
        named = "" if key == _keys.MODEL else f", key_added={key!r}"
        had = f"with the patients of `obs[{fitted_with!r}]`" if fitted_with else "without any patients"
        msg = (
            f"fit again with `bleep_sc.tl.fit(ref, patient_key={asked!r}{named})`, or pass `cross_fit=True`, which "
            f"trains the folds again: the model {key!r} was fitted {had}, so its held-out spots say nothing of the "
            f"patients of `obs[{asked!r}]`."
        )
        raise ValueError(msg)
    sections = section_of_spots(ref, library_key or None, name="ref")
    patients = patients_of_spots(ref, asked or None, sections)
    if sections is None:
        sections = np.full(ref.n_obs, "", dtype=object) if patients is None else patients
    labels = Labels(sections, patients, asked)
    if len(set(labels.groups)) < 2:
        msg = (
            "`ref` holds one section only, so nothing can be known of how far predictions for another section are off: "
            "what a model says of its own section is no measure of that. Bring sections of two or more patients, or at "
            "least two sections, name their column by `library_key` and fit again."
        )
        raise ValueError(msg)
    return labels


def read_measured(ref: AnnData, stored: StoredModel, key: str) -> Measured:
    """Read the counts of all spots, and check that the expression was made of them in the one way that can be undone.

    Raises
    ------
    KeyError
        There are no counts.
    ValueError
        The expression is not log1p(T · counts / total) with one T.
    """
    layer = stored.config.expression.layer
    counts, values, totals, target_sum = read_counts(ref, layer)
    record = ReferenceRecord.from_uns(ref.uns[key], where=f"ref.uns[{key!r}]")
    if record.measured is not None:
        warn_of_other_values(ref, values, record.measured, layer=layer, key=key)
    names = as_text(ref.var_names).to_numpy().astype(str)
    rank = np.empty(ref.n_obs, dtype=np.int64)
    rank[np.argsort(as_text(ref.obs_names).to_numpy().astype(str), kind="stable")] = np.arange(ref.n_obs)
    return Measured(names, sparse.csc_matrix(counts), totals, target_sum, rank)


def read_counts(ref: AnnData, layer: str | None) -> tuple[Any, Any, np.ndarray, float]:
    """Read counts and expression, the total of each spot, and the T of log1p(T · counts / total).

    Raises
    ------
    KeyError, ValueError
        As :func:`read_measured`, of which this is the part that needs no model.
    """
    if _keys.COUNTS not in ref.layers:
        msg = (
            f"`ref.layers[{_keys.COUNTS!r}]` does not exist: how far a value may be off depends on how deep spots were "
            "sequenced, which only raw counts tell. If `ref.X` is normalised already, read the file of the counts "
            "again, as `raw`, and take the rows and genes of `ref`: `ref.layers['counts'] = raw[ref.obs_names, "
            "ref.var_names].X.copy()`. Then fit again."
        )
        raise MissingKeyError(msg)
    counts = count_values(ref, _keys.COUNTS, name="ref")
    values = expression_values(ref, layer, name="ref")
    totals = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    return counts, values, totals, _target_sum(values, counts, totals, path_of("ref", layer))


def _target_sum(values: Any, counts: sparse.csr_matrix, totals: np.ndarray, path: str) -> float:
    """Find the T of log1p(T · counts / total)."""
    with_counts = np.flatnonzero(totals > 0)
    rows = with_counts[np.unique(np.linspace(0, len(with_counts) - 1, _ROWS_TO_COMPARE).astype(int))]
    found = values[rows]
    found = np.asarray(found.toarray() if sparse.issparse(found) else found, dtype=np.float64)
    remedy = (
        "Normalise from the counts, all sections to one total: `ref.X = ref.layers['counts'].copy()`, "
        "`sc.pp.normalize_total(ref, target_sum=1e4)`, `sc.pp.log1p(ref)`; then fit again."
    )
    if looks_like_counts(found) or (found < 0).any() or found.max(initial=0) > 50:
        msg = f"`{path}` is not log1p(T · counts / total), which intervals need: it holds other values. {remedy}"
        raise ValueError(msg)
    sums = np.expm1(found).sum(axis=1)
    if np.ptp(sums) > _SAME_TOTAL * sums.mean():
        msg = (
            f"`{path}` is not log1p(T · counts / total) with one T, which intervals need: by `expm1` its spots add up "
            f"to {sums.min():.4g} to {sums.max():.4g}. {remedy}"
        )
        raise ValueError(msg)
    target_sum = float(f"{np.median(sums):.5g}")
    expected = np.log1p(target_sum * counts[rows].toarray() / totals[rows, None])
    if (np.abs(expected - found) > _SAME_VALUE * (1 + expected)).any():
        msg = (
            f"`{path}` is not log1p(T · counts / total) of `ref.layers[{_keys.COUNTS!r}]`: with T = {target_sum:g} its "
            f"values differ by up to {np.abs(expected - found).max():.3g} from those of the counts. {remedy}"
        )
        raise ValueError(msg)
    return target_sum


def kept_spots(
    ref: AnnData, key: str, measured: Measured, labels: Labels, stored: StoredModel, *, regression: bool = False
) -> HeldOutSpots | None:
    """Read what `fit` has kept of its folds, or of their regressions alone; None where it kept nothing.

    Sections that the model was not fitted on are left out: a concat may bring scores of another model's folds.
    """
    decoders = decoders_from_uns(ref.uns[key], where=f"ref.uns[{key!r}]")
    scores_key, fold_key = (_keys.out_of_fold_regression if regression else _keys.out_of_fold)(key), _keys.fold(key)
    if decoders is None or scores_key not in ref.obsm or fold_key not in ref.obs:
        return None
    path = f"ref.obsm[{scores_key!r}]"
    remedy = f"Fit the model again: `bleep_sc.tl.fit(ref, key_added={key!r})`."
    scores = as_numbers(ref.obsm[scores_key], path=path, remedy=remedy)
    fold = ref.obs[fold_key].to_numpy()
    if (
        scores.shape != (ref.n_obs, decoders.width)
        or fold.dtype.kind not in "iu"
        or not ((fold >= -1) & (fold < len(decoders.decoders))).all()
    ):
        msg = (
            f"`{path}` and `ref.obs[{fold_key!r}]` must be ({ref.n_obs}, {decoders.width}) scores and whole numbers "
            f"below {len(decoders.decoders)}; found {scores.shape} and {fold.dtype}. {remedy}"
        )
        raise ValueError(msg)
    has_scores = (fold >= 0) & np.isfinite(scores).all(axis=1)
    if stored.config.library_key:
        has_scores &= np.isin(labels.sections.astype(str), list(stored.config.method_config["centers"]))
    columns = _columns_of(measured.genes, decoders)
    rows = np.flatnonzero(has_scores & (measured.totals > 0))
    if not len(rows):
        return None
    _check_same_patients(labels, rows, decoders.patients, key)

    def predict(of_genes: np.ndarray) -> np.ndarray:
        return decoders.decode(scores[rows], fold[rows], columns[of_genes]).T

    return replace(spots_at(rows, measured, labels, predict, known=columns >= 0), trained_on=decoders.trained_on)


def _check_same_patients(labels: Labels, rows: np.ndarray, fitted: Mapping[str, str], key: str) -> None:
    """Refuse patients that were renamed or moved since the fit: the folds left out others."""
    if labels.patients is None:
        return
    pairs = (values[rows].astype(str).tolist() for values in (labels.sections, labels.patients))
    now = dict(zip(*pairs, strict=True))
    if changed := [section for section, patient in now.items() if fitted.get(section) != patient]:
        section = changed[0]
        msg = (
            f"`ref.obs[{labels.patient_key!r}]` is not what the model {key!r} was fitted with: section {section!r} is "
            f"of {now[section]!r}, and was of {fitted.get(section, 'no patient')!r}. Its folds left out other "
            "patients. Fit again, or pass `cross_fit=True`, which trains the folds again."
        )
        raise ValueError(msg)


def spots_at(
    rows: np.ndarray,
    measured: Measured,
    labels: Labels,
    predict: Callable[[np.ndarray], np.ndarray],
    *,
    known: np.ndarray,
) -> HeldOutSpots:
    """Take some spots, and the genes that are predicted.

    `predict` gets columns of all genes of `measured`; `known` tells which of these it knows (n_genes,).
    """
    of_known = np.flatnonzero(known)
    taken = Measured(
        measured.genes[of_known],
        measured.counts[rows][:, of_known],
        measured.totals[rows],
        measured.target_sum,
        measured.rank[rows],
    )
    patients = None if labels.patients is None else labels.patients[rows]
    of_spots = Labels(labels.sections[rows], patients, labels.patient_key)
    return HeldOutSpots(taken, lambda columns: predict(of_known[columns]), rows, of_spots)


def _columns_of(genes: np.ndarray, decoders: FoldDecoders) -> np.ndarray:
    order = np.argsort(decoders.genes)
    place = np.minimum(np.searchsorted(decoders.genes, genes, sorter=order), len(order) - 1)
    return np.where(decoders.genes[order[place]] == genes, order[place], -1)
