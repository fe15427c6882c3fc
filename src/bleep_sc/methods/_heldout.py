from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from bleep_sc.metrics import pearson
from bleep_sc.models.search.averaging import average_profiles
from bleep_sc.models.search.nearest import nearest
from bleep_sc.models.search.weighting import neighbor_weights
from bleep_sc.tl._inputs.held_out import InnerFolds

CANDIDATES = (5, 10, 25, 50, 100, 200)


def choose_k(
    images: np.ndarray,
    keys: np.ndarray,
    expression: Any,
    folds: InnerFolds,
    *,
    candidates: Sequence[int] = CANDIDATES,
) -> tuple[int, dict[int, float]]:
    """Choose how many neighbours to average, by imputing held-out reference spots from the others.

    Parameters
    ----------
    images
        Image embeddings of all reference spots (n, d).
    keys
        What they are compared with: expression or image embeddings of the same spots.
    expression
        Measured expression of the genes that count, dense or CSR (n, n_genes).
    folds
        Rows to retrieve from, and rows to impute, section by section; the latter should not have been trained on.
    candidates
        Numbers to choose from; those above the number of spots are left out.

    Returns
    -------
    The number of highest mean Pearson, by gene within each held-out part (the larger where two are equal), and the
    score of each.
    """
    fewest = min(len(rows) for rows, _ in folds)
    possible = [k for k in candidates if k <= fewest] or [fewest]
    score = dict.fromkeys(possible, 0.0)
    for rows, parts in folds:
        profiles = expression[rows]
        for held_out in parts:
            found, distances = nearest(images[held_out], keys[rows], max(possible))
            truth = expression[held_out]
            truth = truth.toarray() if sparse.issparse(truth) else truth
            for k in possible:
                weights = neighbor_weights(distances[:, :k], "mean")
                imputed = average_profiles(profiles, np.ascontiguousarray(found[:, :k]), weights)
                score[k] += float(np.nan_to_num(pearson(truth, imputed)).mean()) / len(parts) / len(folds)
    return max(possible, key=lambda k: (round(score[k], 9), k)), score
