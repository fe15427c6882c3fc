"""Deals each molecule of each count into one of two halves at random, many times as fast as a draw for each count."""

from functools import cache

import numpy as np

_FEW = 8
"""Counts up to this are looked up: whatever they give changes at multiples of 1/256 of a uniform number only."""
_INVERTED = 60
"""Counts up to this take one uniform number each, in NumPy as here; NumPy draws larger ones in another way."""
_MOST_LARGE = 0.01
_BLOCK = 2**15
"""Counts at a time: all that is worked out of them stays in a processor's cache."""


def random_half(counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw how many molecules of each count go to the first half, int64 (n_counts,).

    These are the numbers of ``rng.binomial(counts, 0.5)``, and the generator is left as that would leave it. NumPy
    works out powers and logarithms for each count; here they are worked out once.
    """
    if (counts > _INVERTED).mean() > _MOST_LARGE or not counts.all():
        return rng.binomial(counts, 0.5)
    half = np.empty(len(counts), dtype=np.int64)
    for start in range(0, len(counts), _BLOCK):
        block = counts[start : start + _BLOCK]
        half[start : start + _BLOCK] = _half_of(block, np.flatnonzero(block > _INVERTED), rng)
    return half


def _half_of(counts: np.ndarray, large: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw the halves of some counts, of which those at the places in `large` are drawn by NumPy."""
    uniform, start = np.zeros(len(counts)), 0
    of_large = np.empty(len(large), dtype=np.int64)
    for number, place in enumerate(large):
        rng.random(out=uniform[start:place])
        of_large[number] = rng.binomial(counts[place], 0.5)
        start = place + 1
    rng.random(out=uniform[start:])
    few, limits = _tables()
    half: np.ndarray = few[(np.minimum(counts, _FEW) << _FEW) + (uniform * 2**_FEW).astype(np.int64)]
    more = np.flatnonzero(counts > _FEW)
    n = np.minimum(counts[more], _INVERTED)
    half[more] = np.searchsorted(limits, n + uniform[more]) - n * (n - 1) // 2
    half[large] = of_large
    return half


@cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """What few molecules give, by count and 1/256 of the uniform number, and where more molecules give one more.

    The second holds, for each count n up to 60 and k below n, the chance of at most k molecules in the first half,
    with n added, so that all are in one order.
    """
    limits: list[np.ndarray] = []
    for n in range(_INVERTED + 1):
        chance, below = 0.5**n, []
        for k in range(n):
            below.append(chance)
            chance *= (n - k) / (k + 1)
        limits.append(np.cumsum(below))
    middles = (np.arange(2**_FEW) + 0.5) / 2**_FEW
    few = np.concatenate([np.searchsorted(limits[n], middles) for n in range(_FEW + 1)])
    return few.astype(np.int64), np.concatenate([n + limit for n, limit in enumerate(limits)])
