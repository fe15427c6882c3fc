"""The options of a command of `bleep-sc` as tables, read from its parser: ``{command-options} fit``."""

import argparse
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.application import Sphinx

from bleep_sc._cli.main import parser

HIDDEN = ("--help", "-h")


def tables(command: str) -> list[str]:
    """Lines of Markdown: a table of options for each group of the help."""
    lines: list[str] = []
    for group in _parser_of(command)._action_groups:
        rows = [_row(action) for action in group._group_actions if not set(action.option_strings) & set(HIDDEN)]
        if rows:
            lines += ["", f"**{group.title}**", "", "| option | what it does |", "|---|---|", *rows]
    return lines


def _parser_of(command: str) -> argparse.ArgumentParser:
    (commands,) = [action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return commands.choices[command]


def _row(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else " " + _value(action)
    name = f"{action.option_strings[-1]}{value}" if action.option_strings else str(action.metavar)
    text = f"{action.help}".replace("|", "\\|").replace("[", "\\[").replace("--", "\\-\\-")
    return f"| `{name}` | {text} |"


def _value(action: argparse.Action) -> str:
    name = "\\|".join(action.choices) if action.choices else str(action.metavar or action.dest.upper())
    return f"{name} ..." if action.nargs == "+" else name


class CommandOptions(Directive):
    """Puts the tables of one command into the page."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Make the nodes."""
        node = nodes.container()
        self.state.nested_parse(StringList(tables(self.arguments[0]), source="command_line"), self.content_offset, node)
        return node.children


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this."""
    app.add_directive("command-options", CommandOptions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
