"""The one loop over turns that numba compiles. It is imported where it runs."""

import numba
import numpy as np


@numba.njit(nogil=True)
def add_turned_products(fixed: np.ndarray, turned: np.ndarray, turns: np.ndarray, out: np.ndarray) -> None:
    """Add to `out` (n_turns, n_genes) the sums over spots of ``fixed[i] * turned[turns[k, i]]``, where such a spot is.

    The genes of a spot lie side by side, so that a processor multiplies several at a time; a loop along the spots of
    one gene, whose values it would have to gather, takes three times as long.
    """
    for k in range(turns.shape[0]):
        sums = out[k]
        for i in range(turns.shape[1]):
            source = turns[k, i]
            if source >= 0:
                here, there = fixed[i], turned[source]
                for gene in range(fixed.shape[1]):
                    sums[gene] += here[gene] * there[gene]
