"""The script `bleep-sc`: reads the command line, runs one command, and says how it ended."""

import argparse
import re
import sys
import textwrap
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, NoReturn

from bleep_sc._cli import fit, impute, report
from bleep_sc._cli.command import Command
from bleep_sc._cli.refused import DONE, FAULT, STOPPED, WRONG, is_bad_input, is_said
from bleep_sc._cli.terminal import on_stderr, one_line, print_path, say

COMMANDS: tuple[Command, ...] = (fit.COMMAND, impute.COMMAND, report.COMMAND)
_WIDTH = 79
_CODES = (
    (DONE, "done"),
    (WRONG, "wrong usage or bad input: one line on stderr says which, and how to mend it"),
    (FAULT, "an unexpected fault"),
    (STOPPED, "stopped by Ctrl-C"),
)
_ENDS = "Progress, log and warnings go to stderr. The path of the result, and nothing else, goes to stdout."


class _Parser(argparse.ArgumentParser):
    """Says what is wrong on one line, without the usage of thirty options above it."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG, f"bleep-sc: error: {one_line(message)}. See {self.prog} --help.\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit code."""
    try:
        arguments = parser().parse_args(argv)
    except SystemExit as end:  # after --help, --version or a wrong option
        return end.code if isinstance(end.code, int) else WRONG
    with on_stderr(quiet=arguments.quiet, debug=arguments.debug):
        try:
            path = arguments.command.run(arguments)
        except KeyboardInterrupt:
            say("stopped", "by Ctrl-C. No half-written file is left.")
            return STOPPED
        except Exception as err:  # noqa: BLE001 - the last that could say how it ended
            return _failed(err, debug=arguments.debug)
    print_path(path)
    return DONE


def parser() -> argparse.ArgumentParser:
    """Make the parser of all commands."""
    whole = _Parser(
        prog="bleep-sc",
        description="Predict spatial gene expression from H&E images. Each command works on files.",
        epilog=f"{_code_lines()}\n\n{_wrap(_ENDS)}\nbleep-sc COMMAND --help says more, with examples.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    whole.add_argument("--version", action="version", version=f"bleep-sc {version('bleep-sc')}")
    commands = whole.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    for command in COMMANDS:
        _add(commands, command)
    return whole


def _add(commands: Any, command: Command) -> None:
    examples = "\n".join(f"  # {purpose}\n  {_wrapped_line(line)}" for purpose, line in command.examples)
    own = commands.add_parser(
        command.name,
        usage=f"bleep-sc {command.name} {command.usage} [options]",
        help=command.summary,
        description=_wrap(command.description),
        epilog=f"examples:\n{examples}\n\nwhat is written:\n{_wrap(command.writes, '  ')}\n\n{_code_lines()}\n\n"
        f"{_wrap(_ENDS)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    own.set_defaults(command=command)
    files = own.add_argument_group("files, and what is done")
    command.files(files)
    files.add_argument("--out", required=True, metavar="FILE", help=f"file to write, {' or '.join(command.endings)}")
    files.add_argument("--overwrite", action="store_true", help="replace files that are there")
    for step in command.steps:
        step.add_to(own)
    said = own.add_argument_group("what is said")
    said.add_argument("--quiet", action="store_true", help="no log and no progress bars; warnings are still shown")
    said.add_argument("--debug", action="store_true", help="show where in the code an error arose")


def _failed(err: Exception, *, debug: bool) -> int:
    """Say how a command failed, and return the exit code."""
    if debug or not (is_said(err) or isinstance(err, OSError)):
        traceback.print_exception(err, file=sys.stderr)
    if is_bad_input(err):
        say("error", str(err))
        return WRONG
    if is_said(err):  # such as weights that no network brings, or a training that diverged
        say("error", str(err))
        return FAULT
    if isinstance(err, OSError):  # of the system, such as a full disk
        say("error", f"{err} ({type(err).__name__}). --debug shows where.")
        return FAULT
    where = "https://github.com/bleep-sc/bleep-sc/issues"
    say("fault", f"{type(err).__name__}: {err}. This should not happen: please report the lines above at {where}.")
    return FAULT


def _wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(text, _WIDTH, initial_indent=indent, subsequent_indent=indent)


def _wrapped_line(line: str) -> str:
    """Break a long line before options, as a shell allows it."""
    lines = [""]
    for part in re.split(r" (?=--)", line):
        if lines[-1] and len(lines[-1]) + len(part) > _WIDTH - 8:
            lines.append("")
        lines[-1] += f" {part}" if lines[-1] else part
    return " \\\n      ".join(lines)


def _code_lines() -> str:
    return "\n".join(["exit codes:", *(f"  {code:<4} {meaning}" for code, meaning in _CODES)])
