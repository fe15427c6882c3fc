"""The look of spots from what is stored of them, where there is no picture: their crops, or features of these."""

from typing import Any

import numpy as np

from bleep_sc._blocks import LazyRows, is_lazy
from bleep_sc._side_effects import one_thread, python_random_state_kept
from bleep_sc.pp._alignment.compared import Compared
from bleep_sc.pp._alignment.looks import SAMPLES, SpotLook, color_terms

_COMPONENTS = 8
"""As many as there are colour terms."""
_CROPS_AT_ONCE = 4096
_FLAT = 1e-6
"""A feature that varies by less than this share of the most varying one says nothing."""


def stored_look(stored: Any, rows: np.ndarray, compared: Compared) -> SpotLook:
    """Tell the look of places by crops uint8 (n_obs, y, x, 3), in memory or lazy, or by features (n_obs, n_features).

    Parameters
    ----------
    stored
        What is stored of many spots.
    rows
        Which of these are the spots of the section (n_spots,), in ascending order.
    compared
        The places that are compared.
    """
    if stored.ndim == 4:
        terms = compared.means(_terms_of_crops(stored, rows), np.arange(len(rows)))
    else:
        terms = _leading(compared.means(np.asarray(stored), rows))
    return SpotLook(compared.xy, terms, compared.pitch)


def _terms_of_crops(crops: Any, rows: np.ndarray) -> np.ndarray:
    """Compute the colour terms of some crops by a few of their pixels (n, n_terms)."""
    at = ((np.arange(SAMPLES) + 0.5) * (crops.shape[1] / SAMPLES)).astype(np.int64)
    lazy = LazyRows(crops) if is_lazy(crops) else None
    parts = [slice(i, i + _CROPS_AT_ONCE) for i in range(0, crops.shape[0], _CROPS_AT_ONCE)]
    terms = []
    for part in parts if lazy is None else lazy.parts():
        wanted = rows[(rows >= part.start) & (rows < part.stop)]
        if len(wanted):
            values, start = (crops, 0) if lazy is None else (lazy[part], part.start)
            pixels = values[(wanted - start)[:, None, None], at[:, None], at]
            terms.append(color_terms(pixels.reshape(len(wanted), -1, 3)))
    return np.concatenate(terms)


@one_thread()
def _leading(features: np.ndarray) -> np.ndarray:
    """Reduce features (n, n_features) to their principal components (n, 8 or fewer)."""
    spread = features.std(axis=0, dtype=np.float64)
    varied = spread > _FLAT * max(1e-12, float(spread.max(initial=0)))
    if not varied.any():
        return np.zeros((len(features), 1))
    with python_random_state_kept():
        from sklearn.decomposition import PCA

    scaled = ((features[:, varied] - features[:, varied].mean(axis=0, dtype=np.float64)) / spread[varied]).astype(
        np.float32
    )
    return np.asarray(PCA(min(_COMPONENTS, *scaled.shape), random_state=0).fit_transform(scaled), dtype=np.float64)
