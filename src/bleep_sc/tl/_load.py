"""Finds the sections that a stored model looks at, and the models that objects hold."""

import numpy as np
from anndata import AnnData

from bleep_sc._adata import recorded_library_key, section_of_spots
from bleep_sc.io._stored import StoredModel


def sections_like(adata: AnnData, stored: StoredModel, image_key: str | None, *, name: str) -> np.ndarray | None:
    """Read the section of each spot, by the column that the model was trained with where that exists.

    Another column may lump sections together.
    """
    library_key: str | None = stored.config.library_key
    if library_key not in adata.obs:
        crops_key = image_key or stored.config.image.key
        library_key = recorded_library_key(adata, crops_key) or recorded_library_key(adata)
    return section_of_spots(adata, library_key, name=name)


def has_model(adata: AnnData, key: str) -> bool:
    """Whether a model stands at a key of `uns`."""
    entry = adata.uns.get(key)
    return isinstance(entry, dict) and "model" in entry


def check_no_other_model(adata: AnnData, name: str, stored: StoredModel) -> None:
    """Refuse a query that holds another model under the same name: it would lose its embeddings."""
    if has_model(adata, name) and np.asarray(adata.uns[name]["model"]).tobytes() != stored.weights:
        msg = (
            f"`uns[{name!r}]` of these spots holds another model than `ref`'s; its embeddings would be overwritten. "
            f"Choose another name for the result, such as `key_added='{name}_2'`."
        )
        raise ValueError(msg)
