import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._logging import logger
from bleep_sc._validate import check_adata, check_readable
from bleep_sc.io._stored import FORMAT_VERSION, StoredModel, from_uns, parse_config

_WEIGHTS = "model.safetensors"
_CONFIG = "config.json"


def write_model(adata: AnnData, path: str | Path, *, key: str = _keys.MODEL) -> None:
    """Write the model of a reference to a folder, without the reference's data.

    The folder gets ``model.safetensors`` (the weights) and ``config.json`` (how they were trained, the genes, the
    panels and the training history). Each file appears whole or not at all.

    Parameters
    ----------
    adata
        The reference: :func:`~bleep_sc.tl.fit` has been run on it.
    path
        Folder to write to; made if it is not there. Files of these two names in it are replaced.
    key
        The model's name: its `key_added` in :func:`~bleep_sc.tl.fit`.

    Raises
    ------
    KeyError
        `adata.uns[key]` holds no model.
    NotADirectoryError
        `path` is a file.

    See Also
    --------
    read_model : The way back.
    """
    check_readable(adata)
    stored = from_uns(adata.uns, key, name="adata")
    config = {
        "format_version": FORMAT_VERSION,
        **stored.config,
        "sha256": stored.sha256,
        "genes": stored.genes.tolist(),
        "panels": {name: genes.tolist() for name, genes in stored.panels.items()},
        "history": {name: np.atleast_1d(values).tolist() for name, values in stored.history.items()},
    }
    folder = Path(path).expanduser()
    if folder.exists() and not folder.is_dir():
        msg = f"{str(path)!r} is a file; the model is written to a folder of two files."
        raise NotADirectoryError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    _write_whole(folder / _WEIGHTS, stored.weights)
    _write_whole(folder / _CONFIG, json.dumps(config, indent=1).encode())


def read_model(adata: AnnData, path: str | Path, *, key_added: str = _keys.MODEL) -> None:
    """Read a model from a folder into an AnnData, so that it can serve as the reference.

    The model brings no reference spots: `adata` needs crops and expression of its own, and
    :func:`~bleep_sc.tl.embed` then places its spots into the model's space.

    Parameters
    ----------
    adata
        Receives the model.
    path
        Folder that :func:`write_model` wrote.
    key_added
        Name to store the model under.

    Returns
    -------
    None. Sets the following fields:

    `adata.uns[key_added]` : `dict`
        The model, as :func:`~bleep_sc.tl.fit` stores it.

    Embeddings in `adata.obsm` that another model of this name left are removed: they lie in another space.

    Raises
    ------
    FileNotFoundError
        The folder, or one of its two files, is not there.
    ValueError
        The files are not a model of bleep_sc, or do not belong together.
    """
    check_adata(adata)
    if not isinstance(key_added, str) or not key_added or "/" in key_added:
        msg = f"`key_added` must be a name without '/', found {key_added!r}."
        raise ValueError(msg)
    stored = _read_folder(Path(path).expanduser())
    if not _holds(adata, key_added, stored):
        for obsm_key in (
            _keys.image_embedding(key_added),
            _keys.expression_embedding(key_added),
            _keys.components(key_added),
        ):
            if obsm_key in adata.obsm:
                del adata.obsm[obsm_key]
                logger.info("Removed `adata.obsm[%r]`, of another model: run `bleep_sc.tl.embed(adata)`.", obsm_key)
    adata.uns[key_added] = stored.to_uns()


def _holds(adata: AnnData, key: str, stored: StoredModel) -> bool:
    entry = adata.uns.get(key)
    return isinstance(entry, Mapping) and "model" in entry and np.asarray(entry["model"]).tobytes() == stored.weights


def _read_folder(folder: Path) -> StoredModel:
    for name in (_WEIGHTS, _CONFIG):
        if not (folder / name).is_file():
            msg = f"{str(folder)!r} is not a model folder: there is no {name!r} in it. `write_model` makes one."
            raise FileNotFoundError(msg)
    where = f"{str(folder / _CONFIG)!r}"
    config = parse_config((folder / _CONFIG).read_text(encoding="utf-8", errors="replace"), where=where)
    parts = {name: config.pop(name, None) for name in ("sha256", "genes", "panels", "history")}
    for name, kind in (("sha256", str), ("genes", list), ("panels", dict), ("history", dict)):
        if not isinstance(parts[name], kind):
            msg = f"{where}: `{name}` must be a {kind.__name__}, found {type(parts[name]).__name__}."
            raise ValueError(msg)
    lists = {"genes": [parts["genes"]], "panels": parts["panels"].values(), "history": parts["history"].values()}
    for name, found in lists.items():
        of = (int, float) if name == "history" else (str,)
        if not all(isinstance(values, list) and all(isinstance(v, of) for v in values) for values in found):
            msg = f"{where}: `{name}` must hold lists of {'numbers' if name == 'history' else 'gene names'}."
            raise ValueError(msg)
    stored = StoredModel(
        weights=(folder / _WEIGHTS).read_bytes(),
        genes=np.array(parts["genes"], dtype=str),
        config=config,
        history={name: np.array(values, dtype=np.float64) for name, values in parts["history"].items()},
        panels={name: np.array(genes, dtype=str) for name, genes in parts["panels"].items()},
    )
    if stored.sha256 != parts["sha256"]:
        msg = f"{str(folder / _WEIGHTS)!r} is not the file that {where} describes: their checksums differ."
        raise ValueError(msg)
    return stored


def _write_whole(path: Path, content: bytes) -> None:
    """Write beside the target and move it there, so that a killed write leaves the earlier file."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
