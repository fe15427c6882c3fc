"""Reads the model of a reference and rebuilds it."""

from typing import get_args

import numpy as np
from anndata import AnnData

from bleep_sc._adata import recorded_library_key, section_of_spots
from bleep_sc._untrusted import REMEDY
from bleep_sc.io._stored import StoredModel, from_uns
from bleep_sc.methods.names import MethodName
from bleep_sc.methods.registry import method_of_stored
from bleep_sc.methods.task import Trained
from bleep_sc.models.nets.serialize import model_from_bytes


def load_model(ref: AnnData, key: str, *, name: str = "ref") -> tuple[StoredModel, Trained]:
    """Read the model of a reference, and make it ready to predict."""
    stored = from_uns(ref.uns, key, name=name)
    config, where = stored.config, f"`{name}.uns[{key!r}]`"
    if config.method not in get_args(MethodName):
        unknown = config.method[:100]
        msg = f"{where} is of the method {unknown!r}, which this version of bleep_sc does not know. Update it."
        raise ValueError(msg)
    method = method_of_stored(config.method, config.model["kind"])
    if method is None or config.image.kind not in method.needs(config.method_config).source.kinds:
        msg = (
            f"{where}: the config describes a model of another kind, or of other inputs, than {config.method!r}. "
            f"{REMEDY}"
        )
        raise ValueError(msg)
    model = model_from_bytes(config.model, stored.weights, where=where)
    trained = Trained(method, model, stored.genes, config.method_config, config.units, method.networks(model))
    method.check_stored(trained, where)
    return stored, trained


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
