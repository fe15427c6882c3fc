"""How far a prediction rises and falls with the truth, gene by gene."""

import numpy as np

from bleep_sc.metrics._common import brought_near_one, constant, dense_pair, with_undefined_set

_NOTHING_LEFT = 1e-8
"""Share of the variance that counts as nothing: rounding of float32 layers alone leaves up to about this much."""


def pearson(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Pearson correlation over spots.

    Parameters
    ----------
    truth, prediction
        Measured and predicted expression (n_obs, n_genes).

    Returns
    -------
    float64 (n_genes,). The value is NaN where the truth is constant, so that there is nothing to predict, or where one
    of the two holds NaN. It is 0 where the prediction is constant: it predicts nothing. All correlations of this module
    follow these rules.
    """
    truth, prediction = dense_pair(truth, prediction)
    t, p = _centred(truth), _centred(prediction)
    return with_undefined_set(_cosine(t, p), truth, prediction)


def spearman(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Pearson correlation of the ranks over spots (n_genes,); ties get their average rank."""
    truth, prediction = dense_pair(truth, prediction)
    t, p = (_centred(_ranks(values)) for values in (truth, prediction))
    return with_undefined_set(_cosine(t, p), truth, prediction)


def ccc(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Lin's concordance correlation: 1 only if the prediction has the values of the truth, not just its pattern.

    Notes
    -----
    The score is 2 cov / (var + var + (difference of means)²), with moments over n as in Lin, Biometrics 45, 255 (1989).
    """
    truth, prediction = dense_pair(truth, prediction)
    scale = np.minimum(brought_near_one(truth), brought_near_one(prediction))
    t, p = truth * scale, prediction * scale
    shift = p.mean(axis=0) - t.mean(axis=0)
    t, p = t - t.mean(axis=0), p - p.mean(axis=0)
    spread = (t**2).mean(axis=0) + (p**2).mean(axis=0) + shift**2
    with np.errstate(invalid="ignore", divide="ignore"):
        score = 2 * (t * p).mean(axis=0) / spread
    return with_undefined_set(score, truth, prediction)


def partial_pearson(truth: np.ndarray, prediction: np.ndarray, covariate: np.ndarray) -> np.ndarray:
    """Pearson correlation of truth and prediction, after both were regressed on a covariate.

    With log total counts as covariate, it shows how much of a score is due to sequencing depth. After normalisation and
    log1p, spots with few counts still differ from the others in all genes.

    Parameters
    ----------
    truth, prediction
        Measured and predicted expression (n_obs, n_genes).
    covariate
        Values of one covariate (n_obs,), or of several (n_obs, n_covariates).

    Returns
    -------
    float64 (n_genes,). The value is also NaN where the covariate explains all of the truth, and 0 where it explains all
    of the prediction.
    """
    from scipy.linalg import orth

    truth, prediction = dense_pair(truth, prediction)
    others = _covariates(covariate, len(truth))
    basis = orth(np.column_stack([np.ones(len(truth)), others - others.mean(axis=0)]))
    t, p = _centred(truth), _centred(prediction)
    left_t, left_p = (values - basis @ (basis.T @ values) for values in (t, p))
    score = with_undefined_set(_cosine(left_t, left_p), truth, prediction)
    score[_explained(left_p, p) & ~constant(truth)] = 0
    score[_explained(left_t, t)] = np.nan
    return score


def _covariates(covariate: np.ndarray, n_obs: int) -> np.ndarray:
    """Check covariates, and scale them (n_obs, n_covariates) so that no square over- or underflows."""
    numbers = np.asarray(covariate)
    if numbers.dtype.kind not in "fiub" or numbers.ndim not in (1, 2) or len(numbers) != n_obs or not numbers.size:
        msg = f"`covariate` must be numbers of the {n_obs} spots, found {numbers.dtype} {numbers.shape}."
        raise ValueError(msg)
    covariates = numbers.reshape(n_obs, -1).astype(np.float64)
    if not np.isfinite(covariates).all():
        msg = "`covariate` holds NaN or infinite values: leave these spots out."
        raise ValueError(msg)
    return covariates * brought_near_one(covariates)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Rank the spots of each gene from 1 (n_obs, n_genes); ties get their average rank, and genes with NaN get NaN.

    These are the numbers of :func:`scipy.stats.rankdata`. Values that single precision holds, as those of most layers,
    are sorted with their places as one whole number each, which is quicker; and SciPy's statistics take a second to
    import.
    """
    n_obs, n_genes = values.shape
    by_gene = np.ascontiguousarray(values.T)
    with np.errstate(over="ignore"):
        single = by_gene.astype(np.float32)
    if np.array_equal(single, by_gene):
        bits = (single + np.float32(0)).view(np.uint32)  # there is one 0 only
        # as whole numbers, floating-point numbers are in order once those below 0 are turned round
        ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(np.uint64)
        keys = np.sort((ordered << np.uint64(32)) | np.arange(n_obs, dtype=np.uint64), axis=1)
        place, in_order = (keys & np.uint64(0xFFFFFFFF)).astype(np.intp), (keys >> np.uint64(32)).astype(np.uint32)
    else:
        place = np.argsort(by_gene, axis=1)
        in_order = np.take_along_axis(by_gene, place, axis=1)
    differs = np.ones(by_gene.shape, dtype=bool)
    differs[:, 1:] = in_order[:, 1:] != in_order[:, :-1]
    first = np.flatnonzero(differs)
    number = np.diff(first, append=differs.size)
    ranks = np.empty(differs.size)
    ranks[(place + n_obs * np.arange(n_genes)[:, None]).ravel()] = np.repeat(first % n_obs + (number + 1) / 2, number)
    ranked = ranks.reshape(by_gene.shape)
    ranked[np.isnan(by_gene).any(axis=1)] = np.nan
    return ranked.T


def _centred(values: np.ndarray) -> np.ndarray:
    """Subtract the mean of each gene, and scale the values so that no square over- or underflows."""
    centred: np.ndarray = values - values.mean(axis=0)
    centred *= brought_near_one(centred)
    return centred


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Give the cosine between two sets of columns, which is the correlation where they are centred."""
    norm = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip((a * b).sum(axis=0) / norm, -1, 1)


def _explained(left: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Whether the covariate leaves nothing but rounding of a gene (n_genes,)."""
    explained: np.ndarray = (left**2).sum(axis=0) <= _NOTHING_LEFT * (whole**2).sum(axis=0)
    return explained
