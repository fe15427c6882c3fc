"""The scores of a reference's spots on a model's components of expression."""

import numpy as np
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import as_numbers
from bleep_sc._checks import MissingKeyError
from bleep_sc.methods.task import Trained

PLACE_ALL = "Run `bleep_sc.tl.embed(ref, key={key!r})`, which places all spots of `ref`."


def read_components(ref: AnnData, key: str, trained: Trained) -> np.ndarray:
    """Read the scores of the reference's spots on the model's components (n_obs, n_components)."""
    obsm_key, width = _keys.components(key), len(trained.model.loadings)
    remedy = PLACE_ALL.format(key=key)
    if obsm_key not in ref.obsm:
        msg = f"`ref.obsm[{obsm_key!r}]` does not exist. {remedy}"
        raise MissingKeyError(msg)
    scores = as_numbers(ref.obsm[obsm_key], path=f"ref.obsm[{obsm_key!r}]", remedy=remedy)
    if scores.shape != (ref.n_obs, width) or not np.isfinite(scores).all():
        msg = f"`ref.obsm[{obsm_key!r}]` must be finite, of the shape ({ref.n_obs}, {width}). {remedy}"
        raise ValueError(msg)
    return scores
