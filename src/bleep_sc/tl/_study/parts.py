"""Keeps each finished part of a study in a folder, so that the same call goes on from there after an interruption."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from bleep_sc._adata import known_places
from bleep_sc._blocks import is_lazy
from bleep_sc._files import read_plain, write_whole
from bleep_sc._logging import logger, warn
from bleep_sc.tl._cv.plan import Plan, readable
from bleep_sc.tl._fingerprint import changes, digest, path_of_folder

_CALL = "call.json"
_MOST_BYTES = 2**28


class Parts:
    """The folder of one call; without a folder nothing is kept."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    @classmethod
    def of(cls, path: str | Path | None, study: str, settings: Mapping[str, Any], data: Mapping[str, str]) -> Self:
        """Open or make the folder of a call, which is told by its settings and the checksums of what it reads.

        Raises
        ------
        ValueError
            The folder belongs to another call, or holds something else, or is a file.
        """
        if path is None:
            return cls()
        folder = path_of_folder(path)
        told = {"study": study, "version of bleep-sc": version("bleep-sc"), **settings}
        call = json.loads(json.dumps({"settings": told, "data": dict(data)}, default=_plain))
        if (folder / _CALL).exists():
            if changed := changes(_earlier_call(folder), call):
                msg = (
                    f"`checkpoint_dir={str(folder)!r}` has results of another call: {'; '.join(changed)}. Pass what "
                    "was passed then to go on, or name another folder, or delete this one."
                )
                raise ValueError(msg)
            logger.info("Going on from the results in %r.", str(folder))
            return cls(folder)
        if folder.exists() and any(folder.iterdir()):
            msg = f"`checkpoint_dir={str(path)!r}` holds other files: name a new folder, or an empty one."
            raise ValueError(msg)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / _CALL, json.dumps(call, indent=1).encode())
        return cls(folder)

    def read(self, name: str) -> Any:
        """Return what a part gave; None where it is not done, or where its file is damaged."""
        if self._folder is None or not (path := self._path(self._folder, name)).exists():
            return None
        try:
            held = json.loads(read_plain(path, most=_MOST_BYTES))
            if held["part"] == name and held["sha256"] == _checksum(held["result"]):
                return held["result"]
        except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError):
            pass
        warn(f"{str(path)!r} is damaged: {name} is done again.")
        return None

    def keep(self, name: str, result: Any) -> Any:
        """Keep what a part gave (numbers, texts, lists and mappings), and return it as `read` will."""
        result = json.loads(json.dumps(result, default=_plain))
        if self._folder is not None:
            content = {"part": name, "sha256": _checksum(result), "result": result}
            write_whole(self._path(self._folder, name), json.dumps(content).encode())
        return result

    @staticmethod
    def _path(folder: Path, name: str) -> Path:
        return folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"


def _earlier_call(folder: Path) -> dict[str, Any]:
    try:
        earlier = json.loads(read_plain(folder / _CALL, most=_MOST_BYTES))
        return {name: dict(earlier[name]) for name in ("settings", "data")}
    except (KeyError, TypeError, ValueError) as err:
        msg = f"`checkpoint_dir={str(folder)!r}`: {_CALL!r} is damaged. Delete the folder, or name another."
        raise ValueError(msg) from err


def data_of(plan: Plan, **others: Iterable[Any]) -> dict[str, str]:
    """Compute the checksums of all that a study reads, and of arrays besides, by what an error calls them."""
    adata = plan.adata
    obs: pd.DataFrame = adata.obs
    columns = {"the sections": plan.library_key, "the groups": plan.group_key, "the patients": plan.patient_key}
    data = {
        "the spots": digest([adata.obs_names.to_numpy()]),
        "the genes": digest([adata.var_names.to_numpy()]),
        "their expression": digest([plan.values]),
        "the places of the spots": digest([known_places(adata)]),
    }
    for name, column in columns.items():
        data[name] = digest([None if column is None else obs[column].to_numpy(dtype=str)])
    for key in plan.image_keys:
        if key in adata.obsm:
            held, record = adata.obsm[key], json.dumps(adata.uns.get(key), sort_keys=True, default=_plain)
            images = held if is_lazy(held) else np.asarray(held)
            data[f"`obsm[{key!r}]`"] = digest([images, np.array([record])], of_lazy=record)
    return data | {name.replace("_", " "): digest(arrays) for name, arrays in others.items()}


def _checksum(result: Any) -> str:
    return hashlib.sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Turn values that JSON does not know into plain ones: NumPy's, tables, and encoders of the user's own."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return value.to_dict("list") if isinstance(value, pd.DataFrame) else readable(value)
