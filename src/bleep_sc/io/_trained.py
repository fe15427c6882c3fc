"""Rebuilds the model that stands in `uns`, ready to predict."""

from typing import get_args

from anndata import AnnData

from bleep_sc._untrusted import REMEDY
from bleep_sc.io._stored import StoredModel, from_uns
from bleep_sc.methods.names import MethodName
from bleep_sc.methods.registry import method_of_stored
from bleep_sc.methods.task import Trained
from bleep_sc.models.nets.serialize import model_from_bytes


def load_model(ref: AnnData, key: str, *, name: str = "ref") -> tuple[StoredModel, Trained]:
    """Read the model of a reference, and make it ready to predict."""
    stored = from_uns(ref.uns, key, name=name)
    return stored, rebuilt(stored, where=f"`{name}.uns[{key!r}]`")


def rebuilt(stored: StoredModel, *, where: str) -> Trained:
    """Rebuild a stored model, and refuse one whose parts do not belong together."""
    config = stored.config
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
    return trained
