"""The fingerprint of a training: its settings and its data, in short. Only the same call may resume its checkpoints."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from bleep_sc._blocks import dense, is_lazy
from bleep_sc._checks import odd_characters
from bleep_sc._logging import warn
from bleep_sc.methods.recipe import values_of
from bleep_sc.methods.task import Task
from bleep_sc.models.train.checkpoints import CheckpointFolder

_BLOCK = 2**26
"""The number of bytes of an array that are read at a time."""


def checkpoint_folder(path: str | Path, task: Task[Any], *, method: str, image: Mapping[str, Any]) -> CheckpointFolder:
    """Make a folder for the checkpoints of a task, or open one that has some of the very same task.

    `image` is the record of the images, which stands for them where they are lazy.

    Raises
    ------
    ValueError
        It has checkpoints of another task, or is no folder.
    """
    folder = path_of_folder(path)
    run = json.loads(json.dumps(_fingerprint(task, method=method, image=image), default=_plain))
    checkpoints = CheckpointFolder(folder, run)
    told = False
    for file, earlier in checkpoints.readable():
        _check_same(folder, earlier, run)
        if earlier["versions"] != run["versions"] and not told:
            told = True
            warn(
                f"{str(file)!r} was written with {_listed(earlier['versions'])}; this is {_listed(run['versions'])}. "
                "The result may differ in its last digits from that of a training without interruption."
            )
    folder.mkdir(parents=True, exist_ok=True)
    return checkpoints


def path_of_folder(path: str | Path) -> Path:
    """Make the path of a folder absolute.

    Raises
    ------
    TypeError
        It is neither a text nor a path.
    ValueError
        It holds characters that no path has, or is a file.
    """
    if not isinstance(path, str | PathLike):
        msg = f"`checkpoint_dir` must be the path of a folder, found {path!r}."
        raise TypeError(msg)
    if odd_characters(str(path)):
        msg = f"`checkpoint_dir={str(path)!r}` is no path of a folder."
        raise ValueError(msg)
    folder = Path(path).expanduser().absolute()
    if folder.exists() and not folder.is_dir():
        msg = f"`checkpoint_dir={str(path)!r}` is a file: name a folder, which need not exist yet."
        raise ValueError(msg)
    return folder


def _fingerprint(task: Task[Any], *, method: str, image: Mapping[str, Any]) -> dict[str, Any]:
    recipe = values_of(task.recipe)
    del recipe["max_epochs"]  # says when to stop, not what an epoch does
    processes = task.compute.processes
    return {
        "settings": {
            "method": method,
            **recipe,
            "encoder": task.spots.encoder,
            "weights": None if task.weights is None else str(task.weights),
            "random_state": task.seed,
            "precision": task.compute.precision,
            "device": task.compute.device.type,
            "devices": processes.devices,
            "num_nodes": processes.num_nodes,
        },
        "data": {
            "the genes": digest([task.expression.genes]),
            "their expression": digest([task.expression.matrix]),
            "their total counts": digest([task.depth]),
            "the images": digest([task.spots.rows], of_lazy=json.dumps(image, sort_keys=True, default=_plain)),
            "the sections": digest([task.spots.sections]),
            "the places of the spots": digest([task.spots.xy, task.spots.grid]),
            "the validation spots": digest([task.held_out, *_flat(task.folds)]),
            "the file of first weights": _digest_of_file(task.weights),
        },
        "versions": {name: version(name) for name in ("bleep-sc", "torch")},
    }


def changes(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say in words how the settings and the data of two calls differ."""
    changed = [
        f"`{name}` was {earlier_value!r} and is {value!r}"
        for name in earlier["settings"] | now["settings"]
        if (earlier_value := earlier["settings"].get(name)) != (value := now["settings"].get(name))
    ]
    data = earlier["data"] | now["data"]
    return changed + [f"{name} changed" for name in data if earlier["data"].get(name) != now["data"].get(name)]


def _check_same(folder: Path, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if changed := changes(earlier, now):
        msg = (
            f"`checkpoint_dir={str(folder)!r}` has checkpoints of another training: {'; '.join(changed)}. Pass what "
            "was passed then to go on, or name another folder, or delete this one, to train again."
        )
        raise ValueError(msg)


def digest(arrays: Iterable[Any], *, of_lazy: str = "") -> str:
    """Compute a checksum of arrays, read part by part.

    A lazy array enters by its shape and a text, since to read all of it could take hours.
    """
    checksum = hashlib.sha256()
    for array in arrays:
        if array is None:
            continue
        checksum.update(f"{array.shape} {array.dtype}\n".encode())
        if is_lazy(array):
            checksum.update(of_lazy.encode())
            continue
        if array.dtype.kind in "OUT":
            checksum.update("\0".join(map(str, array.ravel())).encode())
            continue
        step = max(1, _BLOCK // max(1, dense(array[:1]).nbytes))
        for start in range(0, array.shape[0], step):
            # a sparse array has the checksum of the same values stored densely
            checksum.update(np.ascontiguousarray(dense(array[start : start + step])).data)
    return checksum.hexdigest()


def _digest_of_file(weights: str | Path | None) -> str | None:
    if weights is None or not Path(weights).is_file():
        return None
    with Path(weights).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flat(nested: Any) -> Iterable[np.ndarray]:
    """Yield the arrays within tuples and lists, in order."""
    if isinstance(nested, np.ndarray):
        yield nested
    elif nested is not None:
        for element in nested:
            yield from _flat(element)


def _plain(value: Any) -> Any:
    """Turn values that JSON does not know into plain ones: NumPy's numbers, and encoders of the user's own."""
    return value.item() if isinstance(value, np.generic) else str(value)


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())
