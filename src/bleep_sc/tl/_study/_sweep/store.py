"""Keeps what each training of a sweep has scored, so that a call that was ended goes on from there."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from bleep_sc._adata import known_places
from bleep_sc._blocks import is_lazy
from bleep_sc._checks import odd_characters
from bleep_sc._files import read_plain, write_whole
from bleep_sc._logging import logger
from bleep_sc.tl._cv.plan import Plan

_CALL = "sweep.json"
_MOST_BYTES = 2**28


class Done:
    """What is done of a sweep: in a folder, or nowhere."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def read(self, name: str) -> list[dict[str, Any]] | None:
        """Read the rows of a training; None where it is not done, or its file is damaged."""
        path = self._path(name)
        if path is None or not path.exists():
            return None
        try:
            held = json.loads(read_plain(path, most=_MOST_BYTES))
            return list(held["rows"]) if held["name"] == name and held["sha256"] == _digest(held["rows"]) else None
        except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError):
            return None

    def write(self, name: str, rows: list[dict[str, Any]]) -> None:
        """Keep the rows of a training."""
        path = self._path(name)
        if path is not None:
            write_whole(path, json.dumps({"name": name, "sha256": _digest(rows), "rows": rows}).encode())

    def _path(self, name: str) -> Path | None:
        if self._folder is None:
            return None
        return self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"


def open_folder(path: str | Path | None, facts: dict[str, Any]) -> Done:
    """Make a folder for what is done, or open that of the very same call.

    Raises
    ------
    ValueError
        It is no folder, or holds another sweep, or something else.
    """
    if path is None:
        return Done()
    if odd_characters(str(path)):
        msg = f"`checkpoint_dir={str(path)!r}` is no path of a folder."
        raise ValueError(msg)
    folder = Path(path).expanduser().absolute()
    if folder.exists() and not folder.is_dir():
        msg = f"`checkpoint_dir={str(path)!r}` is a file: name a folder, which need not exist yet."
        raise ValueError(msg)
    facts = json.loads(json.dumps(facts))
    if (folder / _CALL).exists():
        _check_same(folder, facts)
        logger.info("Going on from what %r holds of this sweep.", str(folder))
    elif folder.exists() and any(folder.iterdir()):
        msg = f"`checkpoint_dir={str(path)!r}` holds something else than a sweep: name a new folder, or an empty one."
        raise ValueError(msg)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / _CALL, json.dumps(facts, indent=1).encode())
    return Done(folder)


def _check_same(folder: Path, facts: dict[str, Any]) -> None:
    try:
        earlier = json.loads(read_plain(folder / _CALL, most=_MOST_BYTES))
        different = [name for name in {**facts, **earlier} if facts.get(name) != earlier.get(name)]
    except (AttributeError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as err:
        msg = f"`checkpoint_dir={str(folder)!r}`: {_CALL!r} is damaged. Delete the folder, or name another."
        raise ValueError(msg) from err
    if different:
        msg = (
            f"`checkpoint_dir={str(folder)!r}` holds another sweep, which differs in "
            f"{', '.join(map(repr, different))}. Name another folder, or delete this one."
        )
        raise ValueError(msg)


def data_facts(plan: Plan, groups: np.ndarray, sections: np.ndarray) -> dict[str, Any]:
    """Describe what a sweep reads, in short: expression, sections and images; lazy images by shape and record."""
    values, places = plan.values, known_places(plan.adata)
    images: dict[str, Any] = {}
    for key in plan.image_keys:
        held = plan.adata.obsm.get(key)
        if held is not None:
            record = repr(plan.adata.uns.get(key))
            images[key] = [repr((held.shape, record))] if is_lazy(held) else [_hash(np.asarray(held)), _hash_of(record)]
    return {
        "expression": _hash(values.data, values.indices, values.indptr),
        "spots and genes": _hash_of(*plan.adata.obs_names, *plan.adata.var_names),
        "groups and sections": _hash_of(*groups, *sections),
        "places": _hash_of() if places is None else _hash(places),
        "images": images,
        "version": version("bleep-sc"),
    }


def _hash(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _hash_of(*words: Any) -> str:
    return hashlib.sha256("\n".join(map(str, words)).encode("utf-8", "surrogatepass")).hexdigest()


def _digest(rows: Any) -> str:
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()
