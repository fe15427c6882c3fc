"""Which genes can be predicted, and how well in another section: scores of single sections brought together."""

from typing import NamedTuple

import numpy as np

from bleep_sc._checks import check_number

_WINDOW = 0.1
"""Share of all genes whose differences make one gene's interval: those of nearest expected correlation."""
_FEWEST = 50
"""Fewest differences for one interval, if there are that many."""
_PLACES = 101
"""Expected correlations at which quantiles are taken; between them they are interpolated."""
_LARGEST = 1 - 1e-7
"""Largest correlation whose Fisher z is taken."""


class Evidence(NamedTuple):
    """What all sections together say of each gene (all float64 (n_genes,))."""

    z: np.ndarray
    pvalue: np.ndarray
    qvalue: np.ndarray


def combine_sections(z: np.ndarray, patients: np.ndarray) -> Evidence:
    """Combine what each section says of each gene.

    Sections of one patient are taken as fully dependent, so that a patient's z is their mean. Patients are combined as
    by Stouffer, for scores that depend on each other. p-values are one-sided: of predictions that go with the truth.
    q-values are by Benjamini and Hochberg.

    Parameters
    ----------
    z
        Scores (n_sections, n_genes), standard normal where a gene cannot be predicted. 0 says nothing. They come from
        :func:`~bleep_sc.metrics.turns.beyond_depth`.
    patients
        Patient of each section (n_sections,).

    Returns
    -------
    The combined z, its p-value, and the q-value. Genes of which no section says anything are not counted among those
    that were tested: their p and q are 1.

    Notes
    -----
    A patient's predictions are what the others taught, and theirs in part what it taught. So the scores of two patients
    are nearly one and the same bilinear form of both their expressions, read from either side. Among K patients, each
    pair's form counts twice. The variance of the sum of their scores is then 2 K at most, not K.
    """
    from scipy.stats import false_discovery_control, norm

    z, patients = _by_section("z", z, patients)
    if not np.isfinite(z).all():
        msg = "`z` holds NaN or infinite values: 0 stands for a gene of which a section says nothing."
        raise ValueError(msg)
    by_patient = np.stack([z[patients == patient].mean(axis=0) for patient in np.unique(patients)])
    n_patients = len(by_patient)
    combined = by_patient.sum(axis=0) / np.sqrt(2 * n_patients if n_patients > 1 else 1)
    tested = (z != 0).any(axis=0)
    pvalue, qvalue = np.ones((2, z.shape[1]))
    if tested.any():
        pvalue[tested] = norm.sf(combined[tested])
        qvalue[tested] = false_discovery_control(pvalue[tested])
    return Evidence(combined, pvalue, qvalue)


class Expected(NamedTuple):
    """The Pearson correlation of each gene to expect in another section (all float64 (n_genes,))."""

    mean: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def expected_pearson(r: np.ndarray, groups: np.ndarray, *, level: float = 0.9) -> Expected:
    """Tell which Pearson correlation to expect of each gene in a section that was not seen.

    Parameters
    ----------
    r
        Plain Pearson correlation of out-of-fold predictions (n_sections, n_genes); NaN where a section has none.
    groups
        Group of each section (n_sections,): its patient where there are several, else the section itself. The promise
        is for a section of another group. Where all groups are one, each section is taken as a group of its own.
    level
        Share of genes whose correlation in that section the interval should hold.

    Returns
    -------
    The mean over sections of a group, then over groups, and the ends of the interval, which holds the mean. All are NaN
    for a gene without any correlation; the ends also where there is one section only.

    Notes
    -----
    Each group in turn is left out, and the correlations in its sections are compared with the mean over the others, as
    differences of Fisher's z. Genes of which the others expect as much lend each other their differences, a tenth of
    them at a time. The interval ends at quantiles of these, which lie off the middle where the best genes tend to do
    worse elsewhere.
    """
    r, groups = _by_section("r", r, groups)
    level = check_number("level", level, above=0)
    if level >= 1:
        msg = f"`level` must be below 1, found {level}."
        raise ValueError(msg)
    if (np.abs(r) > 1 + 1e-6).any():
        msg = f"`r` must hold correlations from -1 to 1, found {np.nanmin(r):.4g} to {np.nanmax(r):.4g}."
        raise ValueError(msg)
    names = np.unique(groups)
    if len(names) == 1:
        groups = names = np.arange(len(r))
    by_group = np.stack([_mean(r[groups == name]) for name in names])
    mean = _mean(by_group)
    expected, differences = [], []
    for number, name in enumerate(names):
        of_others = _mean(np.delete(by_group, number, axis=0))
        for section in r[groups == name]:
            known = np.isfinite(section) & np.isfinite(of_others)
            expected.append(of_others[known])
            differences.append(_fisher(section[known]) - _fisher(of_others[known]))
    low, high = _quantiles_near(np.concatenate(expected), np.concatenate(differences), mean, level)
    z = _fisher(mean)
    return Expected(mean, np.minimum(np.tanh(z + low), mean), np.maximum(np.tanh(z + high), mean))


def _by_section(name: str, values: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Check that values have a row a section, and that each section has a group."""
    values, groups = np.asarray(values, dtype=np.float64), np.asarray(groups)
    if values.ndim != 2 or not len(values) or groups.shape != (len(values),):
        msg = (
            f"`{name}` must have a row for each section, and each section a group, found {values.shape} and "
            f"{groups.shape}."
        )
        raise ValueError(msg)
    return values, groups


def _mean(values: np.ndarray) -> np.ndarray:
    """Average over rows what is known; NaN where nothing is (n_columns,)."""
    known = np.isfinite(values)
    number = known.sum(axis=0)
    return np.divide(
        np.where(known, values, 0).sum(axis=0), number, out=np.full(values.shape[1], np.nan), where=number > 0
    )


def _fisher(r: np.ndarray) -> np.ndarray:
    out: np.ndarray = np.arctanh(np.clip(r, -_LARGEST, _LARGEST))
    return out


def _quantiles_near(
    expected: np.ndarray, differences: np.ndarray, at: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Take quantiles of the differences of those genes whose expected correlation is near each of some values."""
    if not len(expected):
        return np.full((2, len(at)), np.nan)[0], np.full(len(at), np.nan)
    order = np.argsort(expected, kind="stable")
    expected, differences = expected[order], differences[order]
    n = len(expected)
    width = min(n, max(_FEWEST, int(np.ceil(_WINDOW * n))))
    starts = np.unique(np.linspace(0, n - width, _PLACES).astype(int))
    places = [float(np.median(expected[start : start + width])) for start in starts]
    ends = [np.quantile(differences[start : start + width], [(1 - level) / 2, (1 + level) / 2]) for start in starts]
    low, high = np.transpose(ends)
    return np.interp(at, places, low), np.interp(at, places, high)
