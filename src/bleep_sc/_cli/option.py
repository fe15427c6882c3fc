"""Options of a command, each of which is an argument of a function of the package."""

import argparse
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Option:
    """An option, and the argument that it is in Python."""

    flag: str
    argument: str
    help: str
    how: Mapping[str, Any] = field(default_factory=dict)
    """What argparse is told beside this."""

    @property
    def dest(self) -> str:
        """Name under which argparse keeps the value."""
        return self.flag.removeprefix("--").replace("-", "_")


@dataclass(frozen=True)
class Step:
    """Options that are handed to one function.

    What the user leaves out is not handed over, so that the function's own defaults hold.
    """

    title: str
    function: Callable[..., Any]
    options: tuple[Option, ...]

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Add the options under the step's title; the help tells the function's default where there is one."""
        group = parser.add_argument_group(self.title)
        for option in self.options:
            default = self.default(option.argument)
            said = "" if default is None or isinstance(default, bool) else f" (default: {default})"
            group.add_argument(option.flag, default=argparse.SUPPRESS, help=option.help + said, **option.how)

    def given(self, arguments: argparse.Namespace) -> dict[str, Any]:
        """Return what the user gave, by the names of the function's arguments."""
        values = vars(arguments)
        return {option.argument: values[option.dest] for option in self.options if option.dest in values}

    def flags_given(self, arguments: argparse.Namespace) -> list[str]:
        """List the options that the user gave."""
        return [option.flag for option in self.options if option.dest in vars(arguments)]

    def default(self, argument: str) -> Any:
        """Look up the function's own default."""
        return inspect.signature(self.function).parameters[argument].default

    @property
    def spelling(self) -> dict[str, str]:
        """The option of each argument."""
        return {option.argument: option.flag for option in self.options}


def number(text: str) -> float:
    """Read a number."""
    try:
        return float(text)
    except ValueError:
        msg = f"must be a number such as 100 or 0.5, found {text!r}"
        raise argparse.ArgumentTypeError(msg) from None


def whole_number(text: str) -> int:
    """Read a whole number."""
    try:
        return int(text)
    except ValueError:
        msg = f"must be a whole number such as 10, found {text!r}"
        raise argparse.ArgumentTypeError(msg) from None


def number_or_name(text: str) -> int | str:
    """Read what is either the number of something or its name."""
    return int(text) if text.isascii() and text.isdigit() else text


def file_or_none(text: str) -> str | None:
    """Read a name, or the word for none."""
    return None if text == "none" else text
