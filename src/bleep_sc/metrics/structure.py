"""Whether genes go together in a prediction as they do in the truth."""

from typing import Any

import numpy as np
from scipy import sparse

from bleep_sc.metrics._common import brought_near_one, by_gene, check_pair, constant, dense

_FEWEST_VARYING_GENES = 3
_BLOCK = 1024
_SAME = 1e-6
"""Variance over pairs of genes up to which their correlations count as all the same."""


def gene_gene(truth: Any, prediction: Any) -> float:
    """Pearson correlation of measured and predicted gene–gene correlations, over all pairs of genes.

    Parameters
    ----------
    truth, prediction
        Measured and predicted expression (n_obs, n_genes), dense or CSR. Genes that are constant in one of them, or NaN
        in the prediction, are left out.

    Returns
    -------
    One correlation. It is NaN where fewer than 3 genes vary in the truth, or where all measured correlations are the
    same. Else it is 0 where fewer than 3 genes vary in both, or where all predicted correlations are the same: no
    structure is predicted.

    Notes
    -----
    The score equals the correlation of the upper triangles of the two correlation matrices. For at most as many genes
    as spots it is computed so. For more genes than spots these matrices would be larger than the data, and matrices of
    spots × spots suffice. Let the columns of T and P be the genes, centred and of length 1. The products of the two
    matrices' entries, summed over all pairs of genes, are the squared Frobenius norm of T Pᵀ. The entries of one
    matrix, summed, are the squared length of the sum of the columns of T (or of P).
    """
    truth, prediction = check_pair(truth, prediction)
    n_obs, n_genes = truth.shape
    truth, prediction = by_gene(truth), by_gene(prediction)
    blocks = [slice(start, start + _BLOCK) for start in range(0, n_genes, _BLOCK)]
    varies = [(_varies(truth[:, part]), _varies(prediction[:, part])) for part in blocks]
    if sum(int(t.sum()) for t, _ in varies) < _FEWEST_VARYING_GENES:
        return float("nan")
    units = (
        (_unit_length(truth[:, part], t & p), _unit_length(prediction[:, part], t & p))
        for part, (t, p) in zip(blocks, varies, strict=True)
    )
    n_shared = sum(int((t & p).sum()) for t, p in varies)
    if n_shared < _FEWEST_VARYING_GENES:
        return 0.0
    if n_shared <= n_obs:
        t, p = (parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1) for parts in zip(*units, strict=True))
        upper = np.triu_indices(n_shared, 1)
        a, b = (t.T @ t)[upper], (p.T @ p)[upper]
        a, b = a - a.mean(), b - b.mean()
        return _correlation(a @ a, b @ b, a @ b, len(a))
    squares = np.zeros((3, n_obs, n_obs))
    sums = np.zeros((2, n_obs))
    for t, p in units:
        for total, (left, right) in zip(squares, ((t, t), (p, p), (t, p)), strict=True):
            # in single precision twice as quick, and exact to some 1e-6
            total += left.astype(np.float32) @ right.T.astype(np.float32)
        sums += t.sum(axis=1), p.sum(axis=1)
    # of each sum over all pairs, take off the diagonal, which is 1 for every gene
    tt, pp, tp = (float((total**2).sum()) - n_shared for total in squares)
    t_sum, p_sum = (float(total @ total) - n_shared for total in sums)
    n_pairs = n_shared * (n_shared - 1)
    return _correlation(tt - t_sum**2 / n_pairs, pp - p_sum**2 / n_pairs, tp - t_sum * p_sum / n_pairs, n_pairs)


def _varies(values: Any) -> np.ndarray:
    """Tell which genes vary over spots and hold no NaN (n_genes,)."""
    exact = dense(values)
    out: np.ndarray = ~constant(exact) & ~np.isnan(exact).any(axis=0)
    return out


def _unit_length(values: Any, genes: np.ndarray) -> np.ndarray:
    """Return the chosen genes, each centred and of length 1."""
    chosen = values if genes.all() else values[:, genes]
    exact = np.array(chosen.toarray() if sparse.issparse(chosen) else chosen, dtype=np.float64, order="C")
    exact -= exact.mean(axis=0)
    exact *= brought_near_one(exact)
    exact /= np.sqrt(np.einsum("ij,ij->j", exact, exact))
    return exact


def _correlation(tt: float, pp: float, tp: float, n_pairs: int) -> float:
    """Correlation from the sums of squares and of products about the means."""
    if tt <= _SAME * n_pairs:
        return float("nan")
    if pp <= _SAME * n_pairs:
        return 0.0
    return float(np.clip(tp / np.sqrt(tt * pp), -1, 1))
