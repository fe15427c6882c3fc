from typing import Any

import numpy as np
from anndata import AnnData
from scipy import sparse

from bleep_sc import _keys
from bleep_sc._adata import check_adata, recorded_library_key, section_of_spots
from bleep_sc._all_or_nothing import all_or_nothing
from bleep_sc._checks import check_int, check_number
from bleep_sc._expression import count_values
from bleep_sc._logging import logger
from bleep_sc._stats import looks_like_counts, section_rows
from bleep_sc.metrics import ceiling_from_halves, split_half_pearson
from bleep_sc.models.threads import on_allowed_cores
from bleep_sc.tl._sections import Sections, ordered_by_name

_SPOTS_TO_LOOK_AT = 512


@on_allowed_cores()
def noise_ceiling(
    adata: AnnData,
    *,
    counts_layer: str = _keys.COUNTS,
    library_key: str | None = None,
    n_splits: int = 10,
    target_sum: float | None = None,
    random_state: int = 0,
    copy: bool = False,
) -> AnnData | None:
    """Estimate the highest Pearson correlation that a gene can reach, given the noise of the measured counts.

    Most genes have few counts per spot, so even a perfect prediction of the true expression correlates weakly with what
    was measured. The counts are split at random into two halves. Both halves are normalised, and log1p is taken. Their
    correlation over the spots of each section shows how reliable half the counts are. From this follows how reliable
    all counts are, and what correlation a noise-free prediction can reach.

    Parameters
    ----------
    adata
        Spots with raw counts.
    counts_layer
        Layer of the counts.
    library_key
        Column of `obs` with each spot's section. ``None`` takes the column that :func:`~bleep_sc.pp.crops` was given,
        else all spots are one section.
    n_splits
        Number of random splits to average over.
    target_sum
        Total per spot that the halves are normalised to. ``None`` takes the total of `X`, if `X` is the log1p of counts
        that were normalised to one total. Else it takes the median total of each section, which is scanpy's default.
    random_state
        Seed of the splits. The order of spots and genes does not matter: random numbers are drawn in the order of their
        names.
    copy
        Return a changed copy instead of changing `adata`.

    Returns
    -------
    ``None``, or the changed copy if ``copy=True``. Sets the following fields:

    `adata.var['noise_ceiling']` : :class:`pandas.Series` (dtype `float`)
        Highest Pearson correlation to expect between a noise-free prediction and the measured values, from 0 to 1. It
        is 0 if the halves do not agree at all, and NaN if the gene does not vary in any section.
    `adata.uns['noise_ceiling']` : `dict`
        ``params``: how the ceiling was estimated.

    Raises
    ------
    KeyError
        No such layer or column.
    ValueError
        The layer does not hold counts; a section of fewer than 3 spots; a view.

    Notes
    -----
    Let r be the correlation of the halves, averaged over splits and sections. The reliability of all counts is then 2r
    / (1 + r) (Spearman–Brown), and the ceiling is its square root. The estimate rests on assumptions:

    - All noise is counting noise: given the true expression, counts are Poisson. In reality, a spot that is measured
      again also differs by dissection, diffusion and amplification. The estimate counts these as signal, which makes
      the ceiling too high.
    - Sequencing depth counts as signal too. After normalisation and log1p, spots with few counts differ from the
      others, and both halves of a spot share its depth. So the ceiling is for ``pearson``, not for
      ``pearson_depth_free``.
    - Each half is normalised as if it had all counts. But the logarithm acts differently at half the depth, so the
      ceiling is approximate for genes with very few counts.
    - The ceiling is itself a noisy estimate. With few spots, the value of a gene is rough, and a good prediction can
      lie above it. The root of a noisy reliability is too low on average. So the mean of a panel is too low, and shares
      of the ceiling are somewhat too high. Over 3,063 genes of a HER2ST section the mean ceiling is 0.35, while their
      mean r gives 0.42. For genes without any signal, the error goes the other way. Chance correlations above 0 count,
      and those below 0 are set to 0. On pure noise this gives a ceiling of 0.09 to 0.15, with 1,000 to 100 spots.
    """
    check_adata(adata, copy=copy)
    n_splits = check_int("n_splits", n_splits)
    random_state = check_int("random_state", random_state, minimum=0)
    if target_sum is not None:
        target_sum = check_number("target_sum", target_sum, above=0)
    counts = count_values(adata, counts_layer)
    library_key = library_key or recorded_library_key(adata)
    sections = ordered_by_name(adata, section_rows(section_of_spots(adata, library_key), adata.n_obs))
    for name, rows in sections:
        if len(rows) < 3:
            msg = f"section {name!r} has {len(rows)} spots; a correlation needs at least 3. Leave it out."
            raise ValueError(msg)
    if target_sum is None and adata.X is not None:
        target_sum = common_total(adata.X[:_SPOTS_TO_LOOK_AT])
    ceiling = ceiling_by_name(
        adata, counts, sections, n_splits=n_splits, target_sum=target_sum, random_state=random_state
    )
    logger.info(
        "Noise ceiling of Pearson: mean %.3f over the %d genes that vary, each half normalised to %s.",
        float(np.nanmean(ceiling)) if np.isfinite(ceiling).any() else float("nan"),
        int(np.isfinite(ceiling).sum()),
        "the section's median total" if target_sum is None else f"{target_sum:.6g}",
    )
    adata = adata.copy() if copy else adata
    with all_or_nothing(adata):
        adata.var[_keys.NOISE_CEILING] = ceiling
        adata.uns[_keys.NOISE_CEILING] = {
            "params": ceiling_params(
                counts_layer, library_key, n_splits=n_splits, target_sum=target_sum, random_state=random_state
            )
        }
    return adata if copy else None


def ceiling_by_name(adata: AnnData, counts: sparse.csr_matrix, sections: Sections, **how: Any) -> np.ndarray:
    """Estimate the ceiling of each gene (n_genes,), independent of how the object is ordered.

    Random numbers are drawn in the order of names. `sections` must come in it, and genes are put in it here.
    """
    genes = np.argsort(adata.var_names.to_numpy().astype(str), kind="stable")
    ceiling = np.empty(adata.n_vars)
    ceiling[genes] = ceiling_of(counts[:, genes], [rows for _, rows in sections], **how)
    return ceiling


def ceiling_of(
    counts: sparse.csr_matrix,
    sections: list[np.ndarray],
    *,
    n_splits: int = 10,
    target_sum: float | None,
    random_state: int,
) -> np.ndarray:
    """Estimate the ceiling of each gene (n_genes,), from counts and the rows of each section."""
    rng = np.random.default_rng(random_state)
    scores = []
    for rows in sections:
        section_counts = counts[rows]
        section_counts.sum_duplicates()
        total = float(np.median(np.asarray(section_counts.sum(axis=1)))) if target_sum is None else target_sum
        scores.append(split_half_pearson(section_counts, target_sum=max(total, 1), n_splits=n_splits, rng=rng))
    known = ~np.isnan(scores)
    number = known.sum(axis=0)
    mean = np.where(known, scores, 0).sum(axis=0) / np.maximum(number, 1)
    return ceiling_from_halves(np.where(number > 0, mean, np.nan))


def ceiling_params(
    counts_layer: str, library_key: str | None, *, n_splits: int = 10, target_sum: float | None, random_state: int
) -> dict[str, Any]:
    """Gather how a ceiling was estimated, as `uns` keeps it."""
    return {
        "counts_layer": counts_layer,
        "library_key": library_key or "",
        "n_splits": n_splits,
        "target_sum": "median" if target_sum is None else target_sum,
        "random_state": random_state,
    }


def common_total(values: Any) -> float | None:
    """Find the total that counts were normalised to before log1p; None where spots have different totals."""
    sample = values[:_SPOTS_TO_LOOK_AT]
    sample = sample.compute() if hasattr(sample, "compute") else sample
    sample = np.asarray(sample.toarray() if sparse.issparse(sample) else sample)
    if looks_like_counts(sample) or not (sample >= 0).all():
        return None
    with np.errstate(over="ignore"):
        totals = np.expm1(sample.astype(np.float64)).sum(axis=1)
    totals = totals[totals > 0]
    if not len(totals) or not np.isfinite(totals).all() or np.ptp(totals) > 0.01 * totals.mean():
        return None
    return float(np.round(totals.mean(), 3))
