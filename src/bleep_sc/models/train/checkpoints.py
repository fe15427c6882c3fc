"""Keep the state of a training after each epoch, in files that are there whole or not at all; nothing is pickled."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bleep_sc._logging import warn

KEPT = 2
"""Number of newest checkpoints of a training that stay. If the last is damaged, the one before is whole."""
_FORMAT = "1"
_FILE = re.compile(r"(.+)-(\d{5,})\.safetensors")


class Checkpoint(NamedTuple):
    """Content of a checkpoint file."""

    path: Path
    tensors: dict[str, Tensor]
    facts: dict[str, Any]


class Damaged(ValueError):
    """A checkpoint was not written to its end, or has changed since."""


@dataclass(frozen=True)
class CheckpointFolder:
    """The checkpoints of one call of `fit`, which may train several networks one after another."""

    path: Path
    run: Mapping[str, Any]
    """Arguments of the call, as JSON can hold them. Each file states them, so that no other call goes on from it."""

    def of(self, training: str) -> "Checkpoints":
        """Return the checkpoints of one training of the call."""
        return Checkpoints(self, training)

    def readable(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yield the path of each file that can be read, with the arguments of the call that wrote it."""
        for path in sorted(self.path.glob("*.safetensors")):
            if _FILE.fullmatch(path.name):
                with suppress(Damaged), _opened(path) as file:
                    yield path, json.loads(_metadata(file, path)["run"])


class Checkpoints:
    """The newest states of one training. Each is a file of its tensors and of facts about them."""

    def __init__(self, folder: CheckpointFolder, training: str) -> None:
        self._folder = folder
        self._training = training

    @property
    def path(self) -> Path:
        """The folder of the checkpoints."""
        return self._folder.path

    def write(self, epochs: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write the state after so many epochs, and then drop all but the newest ones.

        Raises
        ------
        OSError
            The checkpoint could not be written; the earlier ones are as they were.
        """
        path = self.path / f"{self._training}-{epochs:05d}.safetensors"
        tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        metadata = {"format": _FORMAT, "run": json.dumps(dict(self._folder.run)), "facts": json.dumps(dict(facts))}
        try:
            _write_whole(path, save(tensors, metadata | {"sha256": _digest(tensors, metadata)}))
        except OSError as err:
            msg = (
                f"the checkpoint after epoch {epochs} could not be written to {str(self.path)!r}: {err.strerror}. "
                "Training stopped; the checkpoints before are whole. Make room there, and the same call goes on."
            )
            raise OSError(err.errno, msg) from err
        for old_epochs, old in self._files():
            if not epochs - KEPT < old_epochs <= epochs:
                old.unlink(missing_ok=True)

    def newest(self) -> Checkpoint | None:
        """Read the newest checkpoint that is whole; None where there is no checkpoint yet.

        Raises
        ------
        ValueError
            All checkpoints are damaged.
        """
        damaged: list[Damaged] = []
        for _, path in self._files():
            try:
                checkpoint = _read(path)
            except Damaged as err:
                damaged.append(err)
                continue
            if damaged:
                warn(f"{damaged[0]} Training goes on from the one before, {path.name!r}.")
            return checkpoint
        if damaged:
            msg = (
                f"`checkpoint_dir={str(self.path)!r}`: no checkpoint in it is whole. {damaged[0]} Delete the folder to "
                "begin again, or pass another."
            )
            raise ValueError(msg)
        return None

    def _files(self) -> list[tuple[int, Path]]:
        """List the number of epochs and the path of each checkpoint, newest first."""
        matches = ((_FILE.fullmatch(path.name), path) for path in self.path.glob("*.safetensors"))
        return sorted(
            ((int(match[2]), path) for match, path in matches if match and match[1] == self._training), reverse=True
        )


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file beside the target and move it there.

    A killed process can leave the file beside the target; it is written over next time.
    """
    beside = path.with_suffix(".part")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # the move itself, where a system can be told to keep it
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _read(path: Path) -> Checkpoint:
    with _opened(path) as file:
        metadata = _metadata(file, path)
        # copies: the file itself may be dropped while they are in use
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - it is no dict
    digest = metadata.pop("sha256", None)
    if digest != _digest(tensors, metadata):
        msg = f"{str(path)!r} is damaged: its content does not have the checksum it was written with."
        raise Damaged(msg)
    return Checkpoint(path, tensors, json.loads(metadata["facts"]))


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, "pt")
    except SafetensorError as err:
        msg = f"{str(path)!r} is damaged ({err})."
        raise Damaged(msg) from err


def _metadata(file: Any, path: Path) -> dict[str, str]:
    metadata: dict[str, str] = file.metadata() or {}
    if metadata.get("format") != _FORMAT:
        msg = (
            f"{str(path)!r} is no checkpoint that this version of bleep_sc can read: its format is "
            f"{metadata.get('format')!r}, not {_FORMAT!r}. Pass another `checkpoint_dir`, or delete this one."
        )
        raise ValueError(msg)
    return metadata


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Compute the checksum of tensors and metadata. safetensors sees whether a file is complete, not what changed."""
    checksum = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name, values in sorted(tensors.items()):
        checksum.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        checksum.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return checksum.hexdigest()
