import numpy as np
from anndata import AnnData
from torch import nn

from bleep_sc.io._stored import StoredModel, from_uns
from bleep_sc.models.serialize import model_from_bytes
from bleep_sc.tl._hybrid import check_record
from bleep_sc.tl._methods import METHODS, MethodFacts, facts_of_stored
from bleep_sc.tl._presets import LIMITS

_PARTS = {
    "model": {"kind"},
    "image": {"key", "kind", "encoder", "n_features", "scale"},
    "expression": {"layer", "use_rep"},
}
"""What must be in a config."""


def load_model(ref: AnnData, key: str, *, name: str = "ref") -> tuple[StoredModel, nn.Module, MethodFacts]:
    """Read and rebuild the model of a reference."""
    stored = from_uns(ref.uns, key, name=name)
    where = f"`{name}.uns[{key!r}]`"
    method = stored.config["method"]
    if not isinstance(method, str) or method not in METHODS:
        msg = f"{where} is of the method {method!r}, which this version of bleep_sc does not know."
        raise ValueError(msg)
    for part, needed in _PARTS.items():
        found = stored.config.get(part)
        if not isinstance(found, dict) or not needed <= set(found):
            msg = f"{where}: the config lacks `{part}` or a part of it, so it does not describe a model of bleep_sc."
            raise ValueError(msg)
    spec = stored.config["model"]
    facts = facts_of_stored(method, spec["kind"])
    if spec["kind"] != facts.kind or spec.get("n_genes", len(stored.genes)) != len(stored.genes):
        msg = f"{where}: the config describes another kind of model than {method!r}, or another number of genes."
        raise ValueError(msg)
    for part, most in LIMITS.items():
        if not isinstance(spec.get(part, 1), int) or spec.get(part, 1) > most:
            msg = f"{where}: the config asks for {part} {spec[part]!r}, more than {most}: it is damaged."
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
