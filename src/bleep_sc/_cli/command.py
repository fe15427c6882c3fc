"""The record of a command: all that `main` and the docs know of it."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bleep_sc._cli.option import Step


@dataclass(frozen=True)
class Command:
    """A command: its name, what it says of itself, its arguments and what it does."""

    name: str
    usage: str
    """The arguments that are always needed."""
    summary: str
    """One line, for the list of commands."""
    description: str
    examples: tuple[tuple[str, str], ...]
    """What each example is for, and the example."""
    writes: str
    """What is written, and where in it the result lies."""
    files: Callable[[argparse._ArgumentGroup], None]
    """Adds the arguments that are files; `--out` and `--overwrite` are every command's."""
    endings: tuple[str, ...]
    """Endings that `--out` may have."""
    steps: tuple[Step, ...]
    run: Callable[[argparse.Namespace], Path]
    """Does the work, and returns the path of what it wrote."""
