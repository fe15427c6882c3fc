import numpy as np
from anndata import AnnData
from torch import nn

from bleep_sc._untrusted import REMEDY
from bleep_sc.io._stored import StoredModel, from_uns
from bleep_sc.methods.hybrid.stored import check_record
from bleep_sc.methods.registry import METHODS, MethodFacts, facts_of_stored
from bleep_sc.models.nets.serialize import model_from_bytes

_KINDS = {
    "images": ("network", "color", "custom", "features"),
    "crops": ("network",),
    "places": ("place",),
    "counts": ("counts",),
    "nothing": ("nothing",),
}
"""What a model may read, by what its method reads: a file must not make it read anything else, such as counts."""


def load_model(ref: AnnData, key: str, *, name: str = "ref") -> tuple[StoredModel, nn.Module, MethodFacts]:
    """Read and rebuild the model of a reference."""
    stored = from_uns(ref.uns, key, name=name)
    where = f"`{name}.uns[{key!r}]`"
    method, spec = stored.config["method"], stored.config["model"]
    if method not in METHODS:
        msg = f"{where} is of the method {method[:100]!r}, which this version of bleep_sc does not know. Update it."
        raise ValueError(msg)
    facts = facts_of_stored(method, spec["kind"])
    if spec["kind"] != facts.kind or stored.config["image"]["kind"] not in _KINDS[facts.reads]:
        msg = f"{where}: the config describes a model of another kind, or of other inputs, than {method!r}. {REMEDY}"
        raise ValueError(msg)
    model = model_from_bytes(spec, stored.weights, where=where)
    check_record(stored, model, where=where)
    return stored, model, facts


def has_model(adata: AnnData, key: str) -> bool:
    entry = adata.uns.get(key)
    return isinstance(entry, dict) and "model" in entry


def check_no_other_model(adata: AnnData, name: str, stored: StoredModel) -> None:
    """A query that holds a model of its own under the same name would lose its embeddings."""
    if has_model(adata, name) and np.asarray(adata.uns[name]["model"]).tobytes() != stored.weights:
        msg = (
            f"`uns[{name!r}]` of these spots holds another model than `ref`'s; its embeddings would be overwritten. "
            f"Choose another name for the result, such as `key_added='{name}_2'`."
        )
        raise ValueError(msg)
