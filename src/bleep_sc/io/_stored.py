"""A fitted model as plain data: what stands in `uns` and in a model folder."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bleep_sc._errors import MissingKeyError

FORMAT_VERSION = 1


@dataclass(frozen=True)
class StoredModel:
    """A model's weights with all that is needed to use them."""

    weights: bytes
    """A safetensors file."""
    genes: np.ndarray
    """Names of the expression input, in order (n_genes,)."""
    config: dict[str, Any]
    """Method, parameters, image scale, units, versions: JSON types only."""
    history: dict[str, np.ndarray]
    panels: dict[str, np.ndarray]
    """Names of the genes that scores are given for, chosen on the reference."""

    @property
    def sha256(self) -> str:
        """Checksum of the weights: what a prediction names as its origin."""
        return hashlib.sha256(self.weights).hexdigest()

    def to_uns(self) -> dict[str, Any]:
        """Turn into what AnnData can write: arrays, one string, and dicts of arrays."""
        return {
            "model": np.frombuffer(self.weights, dtype=np.uint8).copy(),
            "genes": self.genes.astype(object),
            "config": json.dumps({"format_version": FORMAT_VERSION, **self.config}, indent=1),
            "history": {name: np.asarray(values, dtype=np.float64) for name, values in self.history.items()},
            "panels": {name: genes.astype(object) for name, genes in self.panels.items()},
        }


def from_uns(uns: Mapping[str, Any], key: str, *, name: str = "ref") -> StoredModel:
    """Read a model from `uns[key]`, whatever array type a reader made of its parts.

    Raises
    ------
    MissingKeyError
        There is no model at `uns[key]`.
    ValueError
        What is there is no model, or one of another format.
    """
    entry = uns.get(key)
    if not isinstance(entry, Mapping) or "model" not in entry:
        msg = (
            f"`{name}.uns[{key!r}]` holds no model. Train one with `bleep_sc.tl.fit({name})`"
            + ("" if key == "bleep" else f", `key_added={key!r}`")
            + ", or read one with `bleep_sc.io.read_model`."
        )
        raise MissingKeyError(msg)
    where = f"`{name}.uns[{key!r}]`"
    missing = {"genes", "config"} - set(entry)
    if missing:
        msg = f"{where} is not a model of bleep_sc: it lacks {sorted(missing)}."
        raise ValueError(msg)
    weights = np.asarray(entry["model"])
    if weights.dtype != np.uint8 or weights.ndim != 1:
        msg = f"{where}['model'] must be safetensors bytes, a one-dimensional uint8 array; found {weights.dtype}."
        raise ValueError(msg)
    return StoredModel(
        weights=weights.tobytes(),
        genes=np.asarray(entry["genes"]).astype(str),
        config=parse_config(entry["config"], where=f"{where}['config']"),
        history={n: np.asarray(values) for n, values in dict(entry.get("history", {})).items()},
        panels={n: np.asarray(genes).astype(str) for n, genes in dict(entry.get("panels", {})).items()},
    )


def parse_config(text: Any, *, where: str) -> dict[str, Any]:
    """Read a config's JSON and refuse what another program, or a later version, wrote."""
    try:
        config = json.loads(str(text))
    except ValueError as err:
        msg = f"{where} is not JSON: {err}"
        raise ValueError(msg) from err
    if not isinstance(config, dict) or "format_version" not in config or "method" not in config:
        msg = f"{where} does not describe a model of bleep_sc: `format_version` and `method` must be there."
        raise ValueError(msg)
    version = config.pop("format_version")
    if version != FORMAT_VERSION:
        msg = f"{where} has format version {version!r}; this version of bleep_sc reads {FORMAT_VERSION}. Update one."
        raise ValueError(msg)
    return config
