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
            "config": json.dumps({"format_version": FORMAT_VERSION, **self.config, "sha256": self.sha256}, indent=1),
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
            + ", or read one with `bleep_sc.io.read_model`. `anndata.concat` drops it unless told `uns_merge='first'`."
        )
        raise MissingKeyError(msg)
    path = f"{name}.uns[{key!r}]"
    missing = {"genes", "config"} - set(entry)
    if missing:
        msg = f"`{path}` is not a model of bleep_sc: it lacks {sorted(missing)}."
        raise ValueError(msg)
    _check_parts(entry, path)
    config = parse_config(entry["config"], where=f"`{path}['config']`")
    checksum = config.pop("sha256", None)
    stored = StoredModel(
        weights=np.asarray(entry["model"]).tobytes(),
        genes=_names(entry["genes"]),
        config=config,
        history={n: np.asarray(values) for n, values in dict(entry.get("history", {})).items()},
        panels={n: _names(genes) for n, genes in dict(entry.get("panels", {})).items()},
    )
    if checksum not in (None, stored.sha256):
        msg = (
            f"`{path}`: the weights are damaged, or not those that the config describes: their checksum differs. Take "
            "an undamaged copy, or train anew."
        )
        raise ValueError(msg)
    return stored


def _names(values: Any) -> np.ndarray:
    """As fixed-width strings; what zarr reads, NumPy's variable-width ones, cannot be cast to them directly."""
    return np.asarray(np.asarray(values), dtype=object).astype(str)


def _check_parts(entry: Mapping[str, Any], path: str) -> None:
    """Weights are bytes, names of genes are lists, and what comes by name is a mapping."""
    weights = np.asarray(entry["model"])
    if weights.dtype != np.uint8 or weights.ndim != 1:
        msg = f"`{path}['model']` must be safetensors bytes, a one-dimensional uint8 array; found {weights.dtype}."
        raise ValueError(msg)
    for part in ("history", "panels"):
        found = entry.get(part, {})
        if not isinstance(found, Mapping):
            msg = f"`{path}[{part!r}]` must be a mapping from names to arrays, found {type(found).__name__}."
            raise ValueError(msg)
    lists = {"['genes']": entry["genes"]}
    lists |= {f"['panels'][{panel!r}]": genes for panel, genes in entry.get("panels", {}).items()}
    for name, genes in lists.items():
        if np.ndim(genes) != 1:
            msg = f"`{path}{name}` must be a list of gene names, found {type(genes).__name__}."
            raise ValueError(msg)


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
