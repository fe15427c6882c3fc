"""Keeps each finished training of a learning curve in a file, so that the same call goes on after an interruption."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from bleep_sc._files import read_plain, write_whole
from bleep_sc.tl._fingerprint import _digest

_CALL = "learning_curve.json"
_MOST_BYTES = 100_000_000


class CurveCheckpoints:
    """The folder of one call; without a folder nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @classmethod
    def of(cls, path: str | Path | None, settings: Mapping[str, Any], data: Mapping[str, Iterable[Any]]) -> Self:
        """Open or make the folder of a call, told by its settings and the arrays that it reads.

        Raises
        ------
        ValueError
            The folder belongs to another call, or is a file.
        """
        if path is None:
            return cls(None)
        folder = Path(path).expanduser().absolute()
        if folder.exists() and not folder.is_dir():
            msg = f"`checkpoint_dir={str(path)!r}` is a file: name a folder, which need not exist yet."
            raise ValueError(msg)
        record = {"settings": dict(settings), "data": {name: _digest(arrays) for name, arrays in data.items()}}
        call = json.loads(json.dumps(record, default=_plain))
        earlier = _read(folder / _CALL)
        if earlier is not None and earlier != call:
            raise ValueError(_differs(folder, earlier, call))
        folder.mkdir(parents=True, exist_ok=True)
        if earlier is None:
            _write(folder / _CALL, call)
        return cls(folder)

    def read(self, number: int) -> dict[str, Any] | None:
        """Return what a training gave, if it was finished."""
        if self._folder is None:
            return None
        path = self._folder / f"training-{number:05d}.json"
        found = _read(path)
        if found is not None and not all(isinstance(found.get(name), list) for name in ("scores", "costs")):
            raise ValueError(_damaged(path, "it holds no scores"))
        return found

    def write(self, number: int, result: Mapping[str, Any]) -> None:
        """Keep what a training gave."""
        if self._folder is not None:
            _write(self._folder / f"training-{number:05d}.json", result)


def _read(path: Path) -> dict[str, Any] | None:
    """Read a file; None where there is none."""
    try:
        content = json.loads(read_plain(path, most=_MOST_BYTES))
    except FileNotFoundError:
        return None
    except (UnicodeDecodeError, json.JSONDecodeError) as err:
        raise ValueError(_damaged(path, str(err))) from err
    if not isinstance(content, dict):
        raise ValueError(_damaged(path, f"it holds a {type(content).__name__}"))
    return content


def _damaged(path: Path, why: str) -> str:
    return f"{str(path)!r} is damaged ({why}): delete it, and the same call does that part anew."


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_whole(path, json.dumps(content, default=_plain).encode())


def _differs(folder: Path, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    before: Mapping[str, Any] = earlier.get("settings", {})
    changed = [
        f"`{name}` was {before.get(name)!r} and is {value!r}"
        for name, value in now["settings"].items()
        if before.get(name) != value
    ]
    digests: Mapping[str, Any] = earlier.get("data", {})
    changed += [f"{name} changed" for name, digest in now["data"].items() if digests.get(name) != digest]
    return (
        f"`checkpoint_dir={str(folder)!r}` has results of another call: {'; '.join(changed)}. Pass what was passed "
        "then to go on, or name another folder, or delete this one."
    )


def _plain(value: Any) -> Any:
    """Turn values that JSON does not know into plain ones: NumPy's numbers, and encoders of the user's own."""
    return value.item() if isinstance(value, np.generic) else str(value)
