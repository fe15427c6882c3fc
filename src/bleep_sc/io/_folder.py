import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import check_adata, check_reference
from bleep_sc._all_or_nothing import all_or_nothing, set_or_delete
from bleep_sc._checks import check_key, check_key_added, odd_characters
from bleep_sc._files import check_plain, flush_folder, read_plain, write_whole
from bleep_sc._logging import logger
from bleep_sc._untrusted import REMEDY, parse_json
from bleep_sc.io._calibration import CALIBRATION, Calibration
from bleep_sc.io._gene_columns import GENE_COLUMNS
from bleep_sc.io._novelty import NOVELTY, novelties_from_uns
from bleep_sc.io._reference_record import ENTRIES
from bleep_sc.io._stored import (
    MAX_CONFIG,
    StoredModel,
    checked,
    from_uns,
    mapping_from,
    names_from,
    numbers_from,
    parse_config,
)

_WEIGHTS = "model.safetensors"
_CONFIG = "config.json"
_NEXT_CONFIG = ".config.json.next"
"""The name of a new config until its weights are in place.

So the move of one file, the weights, turns the earlier model into the new one.
"""

_MAX_WEIGHTS = 2**32
"""The largest file of weights, in bytes; :func:`write_model` writes none that is larger."""


def write_model(adata: AnnData, path: str | Path, *, key: str = _keys.MODEL, slim: bool = False) -> None:
    """Write the model of a reference to a folder, without the reference's data.

    The folder gets two files. ``model.safetensors`` holds the weights. ``config.json`` holds how they were trained, the
    genes, the panels, the training history, and how far to trust the model. An earlier model in the folder is replaced.
    It stays intact until the new one is complete, even if the process is killed.

    Parameters
    ----------
    adata
        The reference: :func:`~bleep_sc.tl.fit` has been run on it.
    path
        Folder to write to; it is made if it does not exist. The two files of an earlier model are replaced. Other files
        stay.
    key
        Name of the model: its `key_added` in :func:`~bleep_sc.tl.fit`.
    slim
        Write the slim form, which predicts without any spot of the reference. :func:`read_slim_model` reads it. It
        predicts by regression alone.

    Returns
    -------
    ``None``. The folder holds the two files.

    Raises
    ------
    KeyError
        `adata.uns[key]` holds no model, or `adata.obsm` lacks what the slim form is made of.
    NotADirectoryError
        `path` is a file.
    FileExistsError
        The folder holds files of these two names that are no model of bleep_sc.
    PermissionError
        You may not write to the folder.
    ValueError
        The model is damaged, or its weights are more than 4 GiB. Or `slim` is set, but the model can only average
        measured profiles of the reference. This holds for ``method="knn"`` and ``preset="paper"``.

    Notes
    -----
    **Both forms hold** the weights, the names of genes, panels and columns of `obs`, the training history, and the
    settings of :func:`~bleep_sc.tl.fit`. They also hold what says how far to trust the model. These are half-widths of
    intervals, and one number for each of up to 10,000 spots, sorted, that says how unusual the spot looks. They hold no
    measured profile, no crop and no name of a spot. :func:`read_model` reads the full form back, and
    :func:`read_slim_model` the slim one.

    **The full form** of BLEEP's default recipe also holds the image features of up to 2,000 spots, since its kernel
    regression is built on them. From these, a reader can work out what the model learned about each of these spots: its
    scores on up to 20 components of expression. The full form also holds the names of sections, with the mean scores of
    each. If the model was calibrated, it holds the names of patients too.

    **The slim form** holds none of that. The kernel regression is written again as a sum of bumps around random points.
    It differs a little from the full one, and the log says by how much. Patients and sections are numbered. All other
    weights are those of ``predict="regression"``, with what turns their scores into expression.

    The slim form holds the calibration only if that was made for the regression. So run ``bl.tl.calibrate(ref,
    predict="regression")`` first; a warning says if it is missing.

    Weights are functions of the data. Neither form gives a formal guarantee of privacy, such as differential privacy.

    Examples
    --------
    >>> bl.tl.calibrate(ref, predict="regression")  # doctest: +SKIP
    >>> bl.io.write_model(ref, "shared", slim=True)  # doctest: +SKIP
    """
    check_reference(adata, name="adata")
    check_key("key", key)
    folder = model_folder(path)
    stored = from_uns(adata.uns, key, name="adata")
    from bleep_sc.io._slim import log_what_travels, slim_form

    if slim or stored.config.slim:
        stored, trust = slim_form(adata, key, stored)
    else:
        trust = {name: np.asarray(adata.uns[key][name]) for name in _TRAVELS if name in adata.uns[key]}
    config = {
        **stored.config_json(),
        "genes": stored.genes.tolist(),
        "panels": {name: genes.tolist() for name, genes in stored.panels.items()},
        "history": {name: _finite(values) for name, values in stored.history.items()},
        "trust": {name: b64encode(values.tobytes()).decode() for name, values in trust.items()},
    }
    text = json.dumps(config, indent=1, allow_nan=False).encode()
    if len(text) > MAX_CONFIG or len(stored.weights) > _MAX_WEIGHTS:
        msg = (
            f"the model {key!r} is too large for a folder: {len(stored.weights)} bytes of weights (at most "
            f"{_MAX_WEIGHTS}) and {len(text)} of config (at most {MAX_CONFIG}). Share the reference itself."
        )
        raise ValueError(msg)
    with _said_clearly(folder, "written to"):
        _check_target(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # whenever this is cut short, one of the two configs is that of the weights
        write_whole(folder / _NEXT_CONFIG, text)
        before = _identity(folder / _WEIGHTS)
        try:
            write_whole(folder / _WEIGHTS, stored.weights)
            flush_folder(folder)
            (folder / _NEXT_CONFIG).replace(folder / _CONFIG)
        except BaseException:
            if _identity(folder / _WEIGHTS) == before:
                (folder / _NEXT_CONFIG).unlink(missing_ok=True)
            raise
        flush_folder(folder)
    log_what_travels(folder, stored, trust)


def read_model(adata: AnnData, path: str | Path, *, key_added: str = _keys.MODEL) -> None:
    """Read a model from a folder into an AnnData, so that it can serve as the reference.

    The model comes without reference spots. So `adata` needs crops and expression of its own, and
    :func:`~bleep_sc.tl.embed` then places its spots in the model's space.

    The folder may come from anywhere. Both files are checked for size and content before anything is stored, and
    nothing in them is ever run.

    Parameters
    ----------
    adata
        Spots to store the model with. This AnnData becomes the reference.
    path
        Folder that :func:`write_model` wrote.
    key_added
        Name to store the model under.

    Returns
    -------
    None. Sets the following fields:

    `adata.uns[key_added]` : `dict`
        The model, as :func:`~bleep_sc.tl.fit` stores it.

    If another model of this name left embeddings in `adata.obsm`, they are removed, since they belong to another space.

    Raises
    ------
    FileNotFoundError
        The folder, or one of its two files, does not exist.
    ValueError
        - The files are not a model of bleep_sc, or do not belong together.
        - The files are larger than any model.
        - The files are links, which could lead to any file.
    PermissionError
        You may not read a file.
    """
    check_adata(adata)
    check_key_added("key_added", key_added)
    folder = model_folder(path)
    stored, trust = read_folder(folder)
    if stored.config.slim:
        msg = (
            f"{str(folder)!r} holds a slim model, which predicts without reference spots: read it with "
            "`ref = bleep_sc.io.read_slim_model(folder)`."
        )
        raise ValueError(msg)
    kept: dict[str, Any] = {}
    with all_or_nothing(adata):
        if _holds(adata, key_added, stored):  # then its record of the reference is that of this model too
            kept = {name: adata.uns[key_added][name] for name in ENTRIES if name in adata.uns[key_added]}
        else:
            for obsm_key in (
                _keys.image_embedding(key_added),
                _keys.expression_embedding(key_added),
                _keys.components(key_added),
                _keys.out_of_fold(key_added),
                _keys.out_of_fold_regression(key_added),
            ):
                if obsm_key in adata.obsm:
                    del adata.obsm[obsm_key]
                    logger.info("Removed `adata.obsm[%r]`, of another model: run `bleep_sc.tl.embed(adata)`.", obsm_key)
            set_or_delete(adata.obs, {_keys.fold(key_added): None})
        adata.uns[key_added] = {**stored.to_uns(), **kept, **trust}


def model_folder(path: str | Path) -> Path:
    """Return the path of a folder; refuse what is none."""
    if not isinstance(path, str | PathLike) or not str(path) or odd_characters(str(path)):
        msg = f"`path` must be the path of a folder, found {path!r}."
        raise (ValueError if isinstance(path, str) else TypeError)(msg)
    return Path(path).expanduser()


def read_folder(folder: Path) -> tuple[StoredModel, dict[str, Any]]:
    """Read the model of a folder, which may come from a stranger, and the entries that say how far to trust it."""
    with _said_clearly(folder, "read"):
        return _read_folder(folder)


def _holds(adata: AnnData, key: str, stored: StoredModel) -> bool:
    entry = adata.uns.get(key)
    return isinstance(entry, Mapping) and "model" in entry and np.asarray(entry["model"]).tobytes() == stored.weights


def _read_folder(folder: Path) -> tuple[StoredModel, dict[str, Any]]:
    """Read the two files: the model, and the entries of `uns` that say how far to trust it.

    Where a killed write has left two configs, read the one that belongs to the weights.
    """
    config_names = [name for name in (_CONFIG, _NEXT_CONFIG) if _is_there(folder / name)]
    for name, exists in ((_WEIGHTS, _is_there(folder / _WEIGHTS)), (_CONFIG, bool(config_names))):
        if not exists:
            msg = f"{str(folder)!r} is not a model folder: there is no {name!r} in it. `write_model` makes one."
            raise FileNotFoundError(msg)
    check_plain(folder / _WEIGHTS)
    texts = {name: read_plain(folder / name, most=MAX_CONFIG) for name in config_names}
    weights = read_plain(folder / _WEIGHTS, most=_MAX_WEIGHTS)
    text, name = texts[config_names[0]], config_names[0]
    if len(config_names) > 1 and hashlib.sha256(weights).hexdigest() in texts[_NEXT_CONFIG].decode(errors="replace"):
        text, name = texts[_NEXT_CONFIG], _NEXT_CONFIG
    return _from_files(text, weights, where=f"{str(folder / name)!r}", weights_at=f"{str(folder / _WEIGHTS)!r}")


def _from_files(text: bytes, weights: bytes, *, where: str, weights_at: str) -> tuple[StoredModel, dict[str, Any]]:
    try:
        config = parse_config(text.decode(), where=where)
    except UnicodeDecodeError as err:
        msg = f"{where}: the config is not JSON: it is not UTF-8. {REMEDY}"
        raise ValueError(msg) from err
    tables = {name: config.pop(name, None) for name in ("genes", "panels", "history")}
    for name, kind in (("genes", list), ("panels", dict), ("history", dict)):
        if not isinstance(tables[name], kind):
            msg = f"{where}: `{name}` must be a {kind.__name__}, found {type(tables[name]).__name__}. {REMEDY}"
            raise ValueError(msg)
    if "sha256" not in config:
        msg = f"{where}: `sha256`, the checksum of the weights, must be there. {REMEDY}"
        raise ValueError(msg)
    panels, history = (mapping_from(tables[name], where=f"{where}: `{name}`") for name in ("panels", "history"))
    trust = _trust(config.pop("trust", {}), where=where)
    stored = checked(
        weights=weights,
        genes=names_from(tables["genes"], where=f"{where}: `genes`"),
        config=config,
        history={name: numbers_from(v, where=f"{where}: `history.{name}`") for name, v in history.items()},
        panels={name: names_from(v, where=f"{where}: `panels.{name}`") for name, v in panels.items()},
        where=where,
        weights_at=weights_at,
    )
    return stored, trust


def _novelty(stored: np.ndarray, where: str) -> dict[str, Any]:
    novelties_from_uns({NOVELTY: stored}, where=where.replace("`", ""))
    return {NOVELTY: stored.copy()}


_TRAVELS: Mapping[str, Callable[[np.ndarray, str], dict[str, Any]]] = {
    CALIBRATION: lambda stored, where: Calibration.from_bytes(stored, where=where).to_uns(),
    NOVELTY: _novelty,
    GENE_COLUMNS: lambda stored, _: {GENE_COLUMNS: stored.copy()},  # checked where the genes are known
}
"""Entries of `uns` that go with a model, and the function that checks the bytes of each and makes entries of them."""


def _trust(texts: Any, *, where: str) -> dict[str, Any]:
    """Read the entries that say how far to trust a model; those that a later release has added are left out."""
    entries: dict[str, Any] = {}
    for name, text in mapping_from(texts, where=f"{where}: `trust`").items():
        if name not in _TRAVELS:
            continue
        path = f"{where}: `trust.{name}`"
        try:
            stored = np.frombuffer(b64decode(text, validate=True), dtype=np.uint8)
        except (TypeError, ValueError) as err:
            msg = f"{path} must be bytes as base64 text ({err}). {REMEDY}"
            raise ValueError(msg) from err
        entries |= _TRAVELS[name](stored, path)
    return entries


def _check_target(folder: Path) -> None:
    """Refuse a folder in which other files than those of an earlier model would be lost."""
    if (folder.exists() or folder.is_symlink()) and not folder.is_dir():
        msg = f"{str(folder)!r} is a file; the model is written to a folder of two files."
        raise NotADirectoryError(msg)
    taken = [name for name in (_WEIGHTS, _CONFIG) if _is_there(folder / name)]
    if taken and not any(_is_ours(folder / name) for name in (_CONFIG, _NEXT_CONFIG)):
        msg = (
            f"{str(folder / taken[0])!r} is there already and is no part of a model of bleep_sc, so it is not "
            "overwritten. Name another folder, or move the file away."
        )
        raise FileExistsError(msg)
    for name in taken:
        check_plain(folder / name)


def _is_ours(path: Path) -> bool:
    """Tell whether a file is a config of bleep_sc, of any version, even if the weights beside it are damaged."""
    try:
        config = parse_json(read_plain(path, most=MAX_CONFIG).decode(), most=MAX_CONFIG)
    except (FileNotFoundError, ValueError):
        return False
    return isinstance(config, dict) and {"format_version", "method"} <= set(config)


def _is_there(path: Path) -> bool:
    """Tell whether there is a file at a path, even a link that leads nowhere."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _identity(path: Path) -> tuple[int, int] | None:
    """Read the number and time of a file, which tell it from a file that takes its place; None without a file."""
    return ((facts := path.stat()).st_ino, facts.st_mtime_ns) if path.exists() else None


def _finite(values: np.ndarray) -> list[float | None]:
    """Turn numbers into what JSON can hold: None in place of NaN and infinity."""
    return [float(value) if np.isfinite(value) else None for value in np.atleast_1d(values)]


@contextmanager
def _said_clearly(folder: Path, what: str) -> Iterator[None]:
    """Turn a permission that the system refuses into an error that says what to do."""
    try:
        yield
    except PermissionError as err:
        if err.errno is None:  # one of our own
            raise
        msg = f"{str(folder)!r} may not be {what} ({err.strerror}). Name another folder, or ask its owner."
        raise PermissionError(msg) from err
