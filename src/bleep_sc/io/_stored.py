"""A fitted model as plain data, as it is stored in `uns` and in a model folder."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bleep_sc._checks import MissingKeyError, odd_characters
from bleep_sc._untrusted import REMEDY, parse_json, tensors_in
from bleep_sc.io._config import Config
from bleep_sc.io.upgrade import FORMAT_VERSION, upgrade

MAX_CONFIG = 2**24
"""The largest number of characters in a config: a hundred times what most configs have."""
_MAX_NAMES = 2**20
_MAX_NAME = 1_000
_MAX_TABLE = 2**26
"""The largest number of characters in a table of names, in which each name takes as many as the longest."""
_LINE = 40
"""The number of characters that a number takes in a config, with its indent."""
_MAX_HISTORY = 2**20
_MAX_LISTS = 1_000


@dataclass(frozen=True)
class StoredModel:
    """A model's weights with all that is needed to use them."""

    weights: bytes
    """The weights as the bytes of a safetensors file."""
    genes: np.ndarray
    """Names of the genes in the expression input, in order (n_genes,)."""
    config: Config
    history: dict[str, np.ndarray]
    panels: dict[str, np.ndarray]
    """Genes of each panel that scores are given for, chosen on the reference."""

    @cached_property
    def sha256(self) -> str:
        """The checksum of the weights, which a prediction names as its origin."""
        return hashlib.sha256(self.weights).hexdigest()

    def config_json(self) -> dict[str, Any]:
        """Make the config as it is written, with the version of its format and the checksum of its weights."""
        return {"format_version": FORMAT_VERSION, **self.config.to_json(), "sha256": self.sha256}

    def to_uns(self) -> dict[str, Any]:
        """Turn the model into what AnnData can write: arrays, one string, and dicts of arrays."""
        return {
            "model": np.frombuffer(self.weights, dtype=np.uint8).copy(),
            "genes": self.genes.astype(object),
            "config": json.dumps(self.config_json(), indent=1),
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
        The entry at `uns[key]` is no model, or a model of another format, or damaged.
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
    if missing := {"genes", "config"} - set(entry):
        msg = f"`{path}` is not a model of bleep_sc: it lacks {sorted(missing)}. {REMEDY}"
        raise ValueError(msg)
    # a list of lists would make NumPy raise
    weights = np.empty((0, 0)) if isinstance(entry["model"], list) else np.asarray(entry["model"])
    if weights.dtype != np.uint8 or weights.ndim != 1:
        msg = (
            f"`{path}['model']` must be safetensors bytes, a one-dimensional uint8 array; found "
            f"{type(entry['model']).__name__} of {weights.dtype}. {REMEDY}"
        )
        raise ValueError(msg)
    text = entry["config"]
    config = parse_config(text if isinstance(text, str) else str(np.asarray(text)), where=f"`{path}`")
    tables = {
        field: mapping_from(entry.get(field, {}), where=f"`{path}[{field!r}]`") for field in ("history", "panels")
    }
    return checked(
        weights=weights.tobytes(),
        genes=names_from(entry["genes"], where=f"`{path}['genes']`"),
        config=config,
        history={n: numbers_from(v, where=f"`{path}['history'][{n!r}]`") for n, v in tables["history"].items()},
        panels={n: names_from(v, where=f"`{path}['panels'][{n!r}]`") for n, v in tables["panels"].items()},
        where=f"`{path}`",
        weights_at=f"`{path}`",
    )


def checked(
    *,
    weights: bytes,
    genes: np.ndarray,
    config: dict[str, Any],
    history: dict[str, np.ndarray],
    panels: dict[str, np.ndarray],
    where: str,
    weights_at: str,
) -> StoredModel:
    """Put the parts of a model together, if they belong together; the config's checksum is then dropped."""
    if not len(genes) or len(np.unique(genes)) < len(genes):
        msg = f"{where}: the names of the genes must be there and must not occur twice. {REMEDY}"
        raise ValueError(msg)
    n_genes = config["model"].get("n_genes", len(genes))
    if n_genes != len(genes):
        msg = (
            f"{where}: the config's model reads {n_genes} genes, another number of genes than the {len(genes)} named. "
            f"{REMEDY}"
        )
        raise ValueError(msg)
    checksum = config.pop("sha256", None)
    stored = StoredModel(weights, genes, Config.from_json(config), history, panels)
    if checksum not in (None, stored.sha256):
        msg = (
            f"{weights_at}: the weights are damaged, or not those that the config describes: their checksums differ. "
            f"{REMEDY}"
        )
        raise ValueError(msg)
    tensors_in(weights, where=weights_at)
    return stored


def parse_config(text: str, *, where: str) -> dict[str, Any]:
    """Read a config's JSON; refuse one that is damaged, or that another program or a later version wrote."""
    try:
        config = parse_json(text, most=MAX_CONFIG)
    except ValueError as err:
        msg = f"{where}: the config {err}. {REMEDY}"
        raise ValueError(msg) from err
    if not isinstance(config, dict) or "format_version" not in config or "method" not in config:
        msg = (
            f"{where} does not describe a model of bleep_sc: `format_version` and `method` must be in its config. "
            f"{REMEDY}"
        )
        raise ValueError(msg)
    version = config.pop("format_version")
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        msg = (
            f"{where} has format version {str(version)[:20]}; this version of bleep_sc reads {FORMAT_VERSION}. Update "
            "bleep_sc, or train the model again."
        )
        raise ValueError(msg)
    from bleep_sc.io._schema import check_config  # which knows every method and model, so that it imports torch

    config = upgrade(config, version)
    check_config(config, where=where)
    return config


def check_gene_names(names: Iterable[Any], *, path: str) -> None:
    """Refuse names, before a model is trained, with which it could be stored but not read back.

    Raises
    ------
    ValueError
        A name is refused. The message gives the first of them and how to mend it.
    """
    texts = [str(name) for name in names]
    if not _all_can_be_kept(texts):
        position = next(place for place, text in enumerate(texts) if fault_of_name(text))
        text = texts[position]
        msg = (
            f"`{path}[{position}]` is {text[:50]!r}, {fault_of_name(text)}: a model with such a gene could not be read "
            "back. Give the gene another name, or leave it out."
        )
        raise ValueError(msg)
    if len(set(texts)) < len(texts):
        msg = f"`{path}` are not unique, and a model knows its genes by name. Give each another one."
        raise ValueError(msg)


def check_gene_table(names: np.ndarray, *, path: str) -> None:
    """Refuse more genes, or longer names, than could be read back, before a model of them is trained."""
    widest = max(names, key=len)
    if len(names) > _MAX_NAMES or len(names) * len(widest) > _MAX_TABLE:
        msg = (
            f"`{path}`: a model of {len(names)} genes with names of up to {len(widest)} letters, such as "
            f"{widest[:50]!r}, could not be read back. Possible are {_MAX_NAMES} genes, and {_MAX_TABLE} letters if "
            "all names were as long as the longest. Shorten that, or leave genes out."
        )
        raise ValueError(msg)


def check_sections_fit(sections: Iterable[str], *, n_components: int, path: str) -> None:
    """Refuse sections whose names, or centres of so many components, would not be read back from a config."""
    names = list(sections)
    for name in names:
        if fault := odd_characters(name):
            msg = (
                f"`{path}` names the section {name[:50]!r}, {fault}: a model of it could not be read back. Give the "
                "section another name."
            )
            raise ValueError(msg)
    size = sum(6 * len(name) + _LINE * (n_components + 2) for name in names)
    if size > MAX_CONFIG // 2:
        msg = (
            f"`{path}` tells {len(names)} sections apart, such as {names[0]!r}: too many for a model that keeps "
            f"{n_components} numbers of each. Name a column with the whole sections by `library_key`."
        )
        raise ValueError(msg)


def fault_of_name(name: str) -> str:
    """Say why a name could not be read back; empty if it could."""
    if not name:
        return "an empty name"
    if len(name) > _MAX_NAME:
        return f"{len(name)} letters long, more than {_MAX_NAME}"
    return odd_characters(name)


def _all_can_be_kept(names: Sequence[str]) -> bool:
    """Tell whether no name has a fault, of all at once: to look at each took a quarter of a cross-validation."""
    return all(names) and max(map(len, names), default=0) <= _MAX_NAME and not odd_characters("".join(names))


def names_from(values: Any, *, where: str) -> np.ndarray:
    """Turn names into fixed-width strings, from a list or from any array type that a reader makes of one."""
    # what zarr reads, NumPy's variable-width strings, cannot be cast to fixed width directly
    names = _list(values, where, "gene names").astype(object)
    listed = names.tolist()
    if not all(issubclass(kind, str) for kind in set(map(type, listed))) or not _all_can_be_kept(listed):
        name = next(name for name in listed if not isinstance(name, str) or fault_of_name(name))
        msg = f"{where} must be a list of gene names; found {str(name)[:50]!r}, {type(name).__name__}. {REMEDY}"
        raise ValueError(msg)
    widest = max(map(len, listed), default=0)
    if len(names) > _MAX_NAMES or len(names) * widest > _MAX_TABLE:
        msg = f"{where} must be a list of gene names; {len(names)} of up to {widest} letters are too many. {REMEDY}"
        raise ValueError(msg)
    return names.astype(str)


def numbers_from(values: Any, *, where: str) -> np.ndarray:
    """Turn a training curve into numbers; null stands for NaN, which JSON does not have."""
    numbers = np.atleast_1d(_list(values, where, "numbers", scalar=True))
    plain = numbers.dtype.kind in "fiu" or all(v is None or type(v) in (int, float) for v in numbers)
    if not plain or len(numbers) > _MAX_HISTORY:
        msg = f"{where} must be a list of numbers; found {len(numbers)} values of type {numbers.dtype}. {REMEDY}"
        raise ValueError(msg)
    return numbers.astype(np.float64)


def _list(values: Any, where: str, of: str, *, scalar: bool = False) -> np.ndarray:
    # of a list NumPy would make one type, numbers into text
    array = np.array(values, dtype=object) if isinstance(values, list) else np.asarray(values)
    if array.ndim != 1 and not (scalar and array.ndim == 0):
        msg = f"{where} must be a list of {of}, found {type(values).__name__}. {REMEDY}"
        raise ValueError(msg)
    return array


def mapping_from(values: Any, *, where: str) -> Mapping[str, Any]:
    """Return a mapping of arrays by name, and refuse anything else."""
    if not isinstance(values, Mapping) or len(values) > _MAX_LISTS:
        msg = f"{where} must be a mapping from names to arrays, found {type(values).__name__}. {REMEDY}"
        raise ValueError(msg)
    for name in values:
        if not isinstance(name, str) or not name or len(name) > _MAX_NAME or "/" in name:
            msg = f"{where} must go by names without '/', found {str(name)[:50]!r}. {REMEDY}"
            raise ValueError(msg)
    return values
