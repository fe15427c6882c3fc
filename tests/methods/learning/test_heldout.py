import numpy as np
from scipy import sparse

from bleep_sc.methods.learning.heldout import choose_k


def test_number_of_neighbours_follows_the_noise() -> None:
    rng = np.random.default_rng(0)
    angle = np.linspace(0, np.pi, 120)
    place = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    order = rng.permutation(120)
    folds = [(order[:60], [order[60:]]), (order[60:], [order[:60]])]
    sharp = np.sin(12 * angle)[:, None] + np.zeros(4)
    few, scores = choose_k(place, place, sharp, folds, candidates=(2, 20, 60))
    assert few == 2
    assert scores[2] > scores[20]
    flat = np.cos(angle)[:, None] + 3 * rng.normal(size=(120, 4))
    many, _ = choose_k(place, place, sparse.csr_matrix(flat), folds, candidates=(2, 20, 1000))
    assert many == 20
