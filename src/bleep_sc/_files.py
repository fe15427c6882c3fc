"""Read files that a stranger may have put there, and write files that are there whole or not at all."""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

# Windows has neither, and no named pipes among its files
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


def read_plain(path: Path, *, most: int) -> bytes:
    """Read a plain file of at most `most` bytes; refuse a link, which could lead anywhere.

    Raises
    ------
    ValueError
        The path is no plain file, or the file is larger.
    PermissionError
        The file may not be read.
    """
    check_plain(path)
    try:
        handle = os.open(path, _READ)
    except PermissionError as err:
        msg = f"{str(path)!r} may not be read ({err.strerror}): ask its owner, or `chmod u+r` it."
        raise PermissionError(msg) from err
    with os.fdopen(handle, "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):  # swapped since it was looked at
            msg = f"{str(path)!r} is no plain file."
            raise ValueError(msg)
        if facts.st_size > most:
            msg = (
                f"{str(path)!r} is {facts.st_size} bytes long, more than the {most} that it may have: it is damaged, "
                "or no part of a model of bleep_sc. Ask for an undamaged copy."
            )
            raise ValueError(msg)
        return file.read(facts.st_size)


def check_plain(path: Path) -> None:
    """Refuse a path that is no plain file; a path at which nothing is raises FileNotFoundError."""
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        msg = f"{str(path)!r} is a link, which could lead to any file: put a copy of what it means in its place."
        raise ValueError(msg)
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe, a device or the like"
        msg = f"{str(path)!r} is {what}, where a model folder has a plain file. `bleep_sc.io.write_model` makes one."
        raise ValueError(msg)


def write_whole(path: Path, content: bytes) -> None:
    """Write beside the target and move it there, so that a killed write leaves the earlier file."""
    # as the user's umask says: a temporary file's own mode would lock colleagues out
    with written_whole(path) as temporary, os.fdopen(os.open(temporary, _WRITE, 0o666), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Lend a path beside the target, for a file or a folder, which takes the target's place when all has gone well."""
    temporary = beside(path)
    try:
        yield temporary
        if temporary.is_dir() and path.is_dir():
            _exchange(temporary, path)
        else:
            temporary.replace(path)
    except BaseException:
        _remove(temporary)
        raise


def beside(path: Path) -> Path:
    """Name a hidden path beside another, at which nothing is."""
    return path.with_name(f".{path.name}.{uuid4().hex[:8]}")


def _exchange(new: Path, path: Path) -> None:
    """Put a folder in the place of another one, which no system does at one go; the earlier one is put back if not."""
    old = beside(path)
    path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        old.rename(path)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """Make sure that moves within a folder reach the disk, where the system can do that."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
