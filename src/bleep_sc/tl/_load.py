from anndata import AnnData
from torch import nn

from bleep_sc.io._stored import StoredModel, from_uns
from bleep_sc.models.serialize import model_from_bytes
from bleep_sc.tl._methods import METHODS, MethodFacts


def load_model(ref: AnnData, key: str, *, name: str = "ref") -> tuple[StoredModel, nn.Module, MethodFacts]:
    """Read and rebuild the model of a reference."""
    stored = from_uns(ref.uns, key, name=name)
    where = f"`{name}.uns[{key!r}]`"
    method = stored.config["method"]
    if method not in METHODS:
        msg = f"{where} is of the method {method!r}, which this version of bleep_sc does not know."
        raise ValueError(msg)
    for part in ("model", "image", "expression"):
        if not isinstance(stored.config.get(part), dict):
            msg = f"{where}: the config lacks `{part}`, so it does not describe a model of bleep_sc."
            raise ValueError(msg)
    return stored, model_from_bytes(stored.config["model"], stored.weights, where=where), METHODS[method]
