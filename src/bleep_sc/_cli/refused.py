"""Errors of a command: which of them the user can mend, and how they are spelt on a command line."""

import dis
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType

DONE, FAULT, WRONG, STOPPED = 0, 1, 2, 130
"""Exit codes: done, an unexpected fault, wrong usage or bad input, stopped by Ctrl-C."""

_PACKAGE = str(Path(__file__).parents[1])
_BAD_INPUT = (ValueError, TypeError, LookupError)
_BAD_PATHS = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)
_RAISE = dis.opmap["RAISE_VARARGS"]
_QUOTED = re.compile(r"`(\w+)(?:=([^`]*))?`")
_OBJECT = re.compile(r"`(adata|ref|query)\b")

_PYTHON = re.compile(r"((?<=`) of )?`(?:bleep_sc|bl)\.((?:\w+\.)*\w+)(?:\(([^`]*)\))?`")
_KEYWORD = re.compile(r"(\w+)=([^,]+)")
COMMANDS: Mapping[str, tuple[str, Mapping[str, str]]] = MappingProxyType(
    {
        "tl.fit": ("bleep-sc fit", {"key_added": "--key", "patient_key": "--patient-key"}),
        "tl.calibrate": ("bleep-sc fit --calibrate", {"cross_fit": "--cross-fit", "key": "--key"}),
        "tl.impute": ("bleep-sc impute", {"key_added": "--key-added"}),
        "tl.intervals": ("bleep-sc impute --intervals", {}),
        "pp.select_genes": ("bleep-sc fit --select-genes", {}),
        "pp.crops": ("--image", {"size": "--size", "um": "--um", "mpp": "--mpp"}),
        "report": ("bleep-sc report", {}),
    }
)
"""What does on a command line what a function does, and the options of arguments that messages show in a call of it."""

_SPELLING: ContextVar[tuple[Mapping[str, str], Mapping[str, str]]] = ContextVar(
    "bleep_sc.cli", default=(MappingProxyType({}), MappingProxyType({}))
)
"""The option of each argument, and the file of each object, of the function that runs."""


class Refused(ValueError):
    """What the user gave cannot be: the message says what was found, what is expected, and how to mend it."""


@contextmanager
def spelt(options: Mapping[str, str], **objects: object) -> Iterator[None]:
    """A ``with`` block in which errors and warnings name options and files in place of arguments and objects."""
    token = _SPELLING.set((options, {name: str(path) for name, path in objects.items()}))
    try:
        yield
    except Exception as err:
        if is_bad_input(err):
            raise Refused(in_options(str(err))) from err
        raise
    finally:
        _SPELLING.reset(token)


def in_options(message: str) -> str:
    """Spell a message of the package for who sees options, not arguments."""
    options, objects = _SPELLING.get()

    def spell(found: re.Match[str]) -> str:
        argument, value = found.groups()
        if argument not in options:
            return found.group()
        return options[argument] if not value else f"{options[argument]} {value.strip(chr(39))}"

    message = _PYTHON.sub(_command_of, message)
    named = [name for name in dict.fromkeys(_OBJECT.findall(message)) if name in objects]
    files = ", ".join(f"`{name}` is {objects[name]}" for name in named)
    return _QUOTED.sub(spell, message) + (f" ({files})" if files else "")


def _command_of(call: re.Match[str]) -> str:
    """Spell a call of Python as a command; as it is where no command does the same."""
    of, function, arguments = call.groups()
    command, options = COMMANDS.get(function, ("", {}))
    given = _KEYWORD.findall(arguments or "")
    if not command or any(argument not in options for argument, _ in given):
        return call.group()
    if of and arguments is None:  # of options it is known
        return ""
    flags = [options[name] + ("" if value == "True" else f" {value.strip(chr(39))}") for name, value in given]
    if command.startswith("--"):  # an option, of which others say how it is done
        return (of or "") + (" ".join(flags) or command)
    return f"{of or ''}`{' '.join([command, *flags])}`"


def is_said(err: BaseException) -> bool:
    """Whether a line of this package raised the error, so that its message is for the user."""
    trace = err.__traceback__
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    # a library's own error, passing through a line of ours, was not raised by a `raise` of ours
    return code.co_filename.startswith(_PACKAGE) and code.co_code[trace.tb_lasti] == _RAISE


def is_bad_input(err: BaseException) -> bool:
    """Whether the package has refused what the user gave."""
    return isinstance(err, _BAD_INPUT + _BAD_PATHS) and is_said(err)
