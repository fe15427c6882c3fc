"""Options are arguments of the package: no default is spelt twice, and examples are what the parser takes."""

import inspect
import re
import shlex
from pathlib import Path

import pytest

from bleep_sc._cli.command import Command
from bleep_sc._cli.main import COMMANDS, parser

ROOT = Path(__file__).parents[2]
REQUIRED = {"fit": ["a.h5ad"], "impute": ["a.svs", "--ref", "r.h5ad"], "report": ["a.h5ad"]}
IDS = [command.name for command in COMMANDS]


@pytest.mark.parametrize("command", COMMANDS, ids=IDS)
def test_options_are_arguments_of_the_functions(command: Command) -> None:
    for step in command.steps:
        known = inspect.signature(step.function).parameters
        assert {option.argument for option in step.options} <= set(known)
        for option in step.options:
            choices = option.how.get("choices", ())
            default = known[option.argument].default
            assert not choices or default is None or default in choices


@pytest.mark.parametrize("command", COMMANDS, ids=IDS)
def test_what_is_left_out_is_not_handed_over(command: Command) -> None:
    arguments = parser().parse_args([command.name, *REQUIRED[command.name], "--out", "b.h5ad"])
    assert [step.given(arguments) for step in command.steps] == [{}] * len(command.steps)


def test_what_is_given_is_handed_over_by_pythons_name() -> None:
    words = "impute a.svs --ref r.h5ad --out b.zarr --um 100 --pitch 50 --k 7 --lazy --series 2 --predict regression"
    arguments = parser().parse_args(words.split())
    crops, grid, impute = (step.given(arguments) for step in arguments.command.steps)
    assert crops == {"um": 100.0, "lazy": True, "series": 2}
    assert grid == {"um": 50.0}
    assert impute == {"k": 7, "predict": "regression"}
    named = parser().parse_args([*words.replace("--series 2", "--series Baseline").split()])
    assert named.series == "Baseline"


def commands_on(page: Path) -> list[list[str]]:
    """The command lines of a page's blocks, as a shell splits them."""
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("bleep-sc ")]


def test_examples_are_taken_by_the_parser() -> None:
    examples = [shlex.split(line)[1:] for command in COMMANDS for _, line in command.examples]
    pages = [*commands_on(ROOT / "docs" / "command_line.md"), *commands_on(ROOT / "README.md")]
    assert len(examples) == 6
    assert len(pages) > 3
    for words in [*examples, *pages]:
        parser().parse_args(words)


def test_the_page_shows_the_options_of_every_command(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    assert re.findall(r"^```\{command-options\} (\w+)$", page, re.M) == IDS
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_ext"))
    from command_line import tables  # the extension that fills them in

    for command in COMMANDS:
        rows = "\n".join(tables(command.name))
        for step in command.steps:
            assert f"**{step.title}**" in rows
            for option in step.options:
                assert re.search(rf"^\| `{option.flag}[ `]", rows, re.M)
        for flag in ("--out", "--overwrite", "--quiet", "--debug"):
            assert f"| `{flag}" in rows


def test_the_snakefile_runs_commands_that_there_are() -> None:
    text = (ROOT / "docs" / "examples" / "Snakefile").read_text(encoding="utf-8")
    shells = re.findall(r"shell:\n((?:\s+\".*\"\n?)+)", text)
    assert len(shells) == 2
    for shell in shells:
        line = "".join(re.findall(r'"(.*)"', shell)).split(" > ")[0]
        line = re.sub(r"\{params\.(um|size|pitch|seed)\}", "1", line)
        parser().parse_args(shlex.split(line)[1:])
