"""What a command says: all on stderr, a line each; stdout is for the path of the result."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from bleep_sc._cli.refused import in_options
from bleep_sc._logging import logger
from bleep_sc._settings import settings

_OF_OTHERS = (DeprecationWarning, FutureWarning, PendingDeprecationWarning, ResourceWarning, SyntaxWarning)
"""Warnings for those who write programs."""


def one_line(text: str) -> str:
    """Bring a text onto one line; what a terminal would obey, as in the name of a file, is spelt out."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode()
        for letter in " ".join(text.split())
    )


def say(kind: str, text: str) -> None:
    """Say a line that must be seen, also with `--quiet`."""
    logger.error("bleep-sc: %s: %s", kind, one_line(text))


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    say("warning", in_options(str(message)))


@contextmanager
def on_stderr(*, quiet: bool, debug: bool) -> Iterator[None]:
    """A ``with`` block in which log, bars, warnings and what libraries print go to stderr."""
    verbosity = "warning" if quiet else settings.verbosity
    bars = settings.progress_bar and not quiet and sys.stderr.isatty()  # in a file a bar is a thousand lines
    with (
        warnings.catch_warnings(),
        redirect_stdout(sys.stderr),
        settings.override(verbosity=verbosity, progress_bar=bars),
    ):
        warnings.simplefilter("default")
        for category in () if debug else _OF_OTHERS:
            warnings.simplefilter("ignore", category)
        warnings.showwarning = _show_warning
        yield


def print_path(path: Path) -> None:
    """Print the path of the result, also one that is no text in this locale."""
    try:
        print(path)
    except UnicodeEncodeError:
        sys.stdout.flush()
        sys.stdout.buffer.write(os.fsencode(path) + os.fsencode(os.linesep))
    sys.stdout.flush()
