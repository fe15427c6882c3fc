"""How far a prediction rises and falls with the truth, gene by gene."""

import numpy as np

from bleep_sc.metrics._common import constant, settle

_NOTHING_LEFT = 1e-8
"""Share of the variance; layers hold float32, whose rounding alone leaves up to about this much."""


def pearson(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Pearson correlation over spots.

    Parameters
    ----------
    truth, prediction
        (n_obs, n_genes).

    Returns
    -------
    float64 (n_genes,). NaN where the truth is constant, there is nothing to predict, or the prediction holds NaN; 0
    where the prediction is constant: it predicts nothing. All correlations of this module keep to that.
    """
    t, p = _centred(truth), _centred(prediction)
    return settle(_cosine(t, p), truth, prediction)


def spearman(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Pearson correlation of the ranks over spots, ties at their average rank."""
    from scipy.stats import rankdata

    t, p = (_centred(rankdata(values, axis=0)) for values in (truth, prediction))
    return settle(_cosine(t, p), truth, prediction)


def ccc(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Lin's concordance correlation: 1 only where the prediction has the values of the truth, not just its pattern.

    Notes
    -----
    2 cov / (var + var + (difference of means)²), with moments over n as in Lin, Biometrics 45, 255 (1989).
    """
    t, p = _centred(truth), _centred(prediction)
    shift = np.mean(prediction, axis=0, dtype=np.float64) - np.mean(truth, axis=0, dtype=np.float64)
    spread = (t**2).mean(axis=0) + (p**2).mean(axis=0) + shift**2
    with np.errstate(invalid="ignore", divide="ignore"):
        score = 2 * (t * p).mean(axis=0) / spread
    return settle(score, truth, prediction)


def partial_pearson(truth: np.ndarray, prediction: np.ndarray, covariate: np.ndarray) -> np.ndarray:
    """Pearson correlation of what a covariate leaves of truth and of prediction, both regressed on it.

    With log total counts as covariate it tells how much of a score is sequencing depth: after normalisation and log1p,
    spots with few counts still differ from the others in all genes.

    Parameters
    ----------
    truth, prediction
        (n_obs, n_genes).
    covariate
        (n_obs,) or (n_obs, n_covariates).

    Returns
    -------
    float64 (n_genes,), also NaN where the covariate explains all of the truth, 0 where it explains all of the
    prediction.
    """
    from scipy.linalg import orth

    others = np.reshape(np.asarray(covariate, dtype=np.float64), (len(truth), -1))
    basis = orth(np.column_stack([np.ones(len(truth)), others - others.mean(axis=0)]))
    t, p = _centred(truth), _centred(prediction)
    left_t, left_p = (values - basis @ (basis.T @ values) for values in (t, p))
    score = settle(_cosine(left_t, left_p), truth, prediction)
    score[_explained(left_p, p) & ~constant(truth)] = 0
    score[_explained(left_t, t)] = np.nan
    return score


def _centred(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    out: np.ndarray = values - values.mean(axis=0)
    return out


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    norm = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip((a * b).sum(axis=0) / norm, -1, 1)


def _explained(left: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Genes of which the covariate leaves nothing but rounding."""
    explained: np.ndarray = (left**2).sum(axis=0) <= _NOTHING_LEFT * (whole**2).sum(axis=0)
    return explained
