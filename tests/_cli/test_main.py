"""How the command line ends and what it says, whichever command it is."""

import os
import subprocess
import sys
import tomllib
import warnings
from importlib.metadata import version
from pathlib import Path

import pytest

import bleep_sc as bl
from bleep_sc._cli import main as main_module
from bleep_sc._cli import option
from bleep_sc._cli.refused import COMMANDS, in_options, is_said, spelt
from bleep_sc._logging import warn

from .conftest import Run

ROOT = Path(__file__).parents[2]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False)


@pytest.mark.slow
def test_the_module_is_the_script() -> None:
    ended = python("-m", "bleep_sc", "--version")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"bleep-sc {version('bleep-sc')}\n", "")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"bleep-sc": "bleep_sc._cli.main:main"}


@pytest.mark.slow
def test_help_imports_nothing_heavy() -> None:
    heavy = ("torch", "scanpy", "squidpy", "sklearn", "skimage", "numba", "matplotlib.pyplot", "jinja2")
    script = (
        "import sys, anndata\nbefore = set(sys.modules)\nfrom bleep_sc._cli.main import main\n"
        "codes = [main([*words, '--help']) for words in ([], ['fit'], ['impute'], ['report'])]\n"
        f"print(codes, [name for name in {heavy!r} if name in sys.modules and name not in before])"
    )
    ended = python("-c", script)
    assert ended.stdout.splitlines()[-1] == "[0, 0, 0, 0] []", ended.stderr


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["COMMAND", "bleep-sc --help"]),
        (["guess"], ["guess", "fit"]),
        (["fit", "a.h5ad"], ["--out", "bleep-sc fit --help"]),
        (["fit", "a.h5ad", "--out", "b.h5ad", "--um", "wide"], ["--um", "must be a number such as 100", "'wide'"]),
        (["fit", "a.h5ad", "--out", "b.h5ad", "--seed", "1.5"], ["--seed", "must be a whole number", "'1.5'"]),
        (["fit", "a.h5ad", "--out", "b.h5ad", "--method", "magic"], ["--method", "magic", "bleep"]),
        (["fit", "a.h5ad", "--out", "b.h5ad", "--meth", "bleep"], ["--meth"]),  # no abbreviations: new options come
        (["impute", "a.svs", "--out", "b.h5ad"], ["--ref", "--model"]),
        (["impute", "a.svs", "--ref", "r.h5ad", "--model", "m", "--out", "b.h5ad"], ["--ref", "--model"]),
    ],
)
def test_wrong_usage(run: Run, words: list[str], parts: list[str]) -> None:
    run(*words).refused(*parts)


def test_an_unexpected_fault_shows_where_and_asks_for_a_report(
    run: Run, ref_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bleep_sc.tl.fit", lambda *_, **__: 1 / 0)
    ended = run("fit", ref_file, "--out", tmp_path / "new.h5ad")
    assert (ended.code, ended.out) == (1, "")
    assert "Traceback" in ended.err
    assert ended.err.splitlines()[-1].startswith("bleep-sc: fault: ZeroDivisionError: division by zero.")
    assert not (tmp_path / "new.h5ad").exists()


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (OSError(28, "No space left on device", "x.h5ad"), 1, "error: [Errno 28] No space left on device: 'x.h5ad'"),
        (KeyboardInterrupt(), 130, "stopped: by Ctrl-C"),
    ],
)
def test_other_ends(
    run: Run,
    ref_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    raised: BaseException,
    code: int,
    said: str,
) -> None:
    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr("bleep_sc._cli.fit.write", fail)
    monkeypatch.setattr("bleep_sc.tl.fit", lambda *_, **__: None)
    ended = run("fit", ref_file, "--out", tmp_path / "new.h5ad")
    assert (ended.code, ended.out) == (code, "")
    assert said in ended.err
    assert "Traceback" not in ended.err


def test_debug_shows_where(run: Run, ref_file: Path, tmp_path: Path) -> None:
    words = ("fit", ref_file, "--layer", "no", "--out", tmp_path / "new.h5ad")
    run(*words).refused("--layer no", "layers['no']", "counts")
    ended = run(*words, "--debug")
    assert ended.code == 2
    assert "Traceback" in ended.err


def test_what_is_said_goes_to_stderr_on_lines_of_its_own(
    run: Run, ref_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(adata: object, **_: object) -> None:
        print("a library prints")
        bl._settings.logger.info("a line of the log")
        warn("this is odd:\n  `encoder='color'` of `adata.X`")
        warnings.warn("of a library's own", FutureWarning, stacklevel=1)

    monkeypatch.setattr("bleep_sc.tl.fit", fit)
    out = tmp_path / "new.h5ad"
    ended = run("fit", ref_file, "--out", out)
    assert (ended.code, ended.out) == (0, f"{out}\n")
    warned = f"bleep-sc: warning: this is odd: --encoder color of `adata.X` (`adata` is {ref_file})"
    assert ended.err.splitlines() == [f"Reading {ref_file} ...", "a library prints", "a line of the log", warned]
    quiet = run("fit", ref_file, "--out", out, "--overwrite", "--quiet")
    assert quiet.out == f"{out}\n"
    assert quiet.err.splitlines() == ["a library prints", warned]


def test_settings_and_warnings_are_as_before(run: Run, ref_file: Path, tmp_path: Path) -> None:
    before = repr(bl.settings), warnings.showwarning, list(warnings.filters)
    run("fit", ref_file, "--quiet", "--out", tmp_path / "no" / "new.h5ad").refused()
    assert (repr(bl.settings), warnings.showwarning, list(warnings.filters)) == before


def test_messages_are_spelt_with_options() -> None:
    with spelt({"um": "--pitch", "check": "--check-images"}, ref="ref.h5ad"):
        message = in_options("`um` is needed: pass `um=100`, `check='off'` or `other=1`; see `ref.obs` and `um = 3`.")
    assert message == (
        "--pitch is needed: pass --pitch 100, --check-images off or `other=1`; see `ref.obs` and `um = 3`. "
        "(`ref` is ref.h5ad)"
    )
    assert in_options("`um=1` of `ref`") == "`um=1` of `ref`"


@pytest.mark.parametrize(
    ("python", "command"),
    [
        ("`bleep_sc.tl.impute(query, ref)` makes it", "`bleep-sc impute` makes it"),
        ("`bl.report` and `bleep_sc.tl.intervals`", "`bleep-sc report` and `bleep-sc impute --intervals`"),
        ("`bleep_sc.tl.calibrate(ref, cross_fit=True)`", "`bleep-sc fit --calibrate --cross-fit`"),
        ("`bleep_sc.tl.fit(ref, key_added='new')`", "`bleep-sc fit --key new`"),
        ("by `bleep_sc.pp.crops(query, ..., size=16, um=100, mpp=...)`", "by --size 16 --um 100 --mpp ..."),
        ("cut them by `bleep_sc.pp.crops(query, image)`", "cut them by --image"),
        ("`um`, `mpp` and `image` of `bleep_sc.pp.crops`, and", "--um, `mpp` and `image`, and"),
        ("is no argument of `bleep_sc.tl.fit`", "is no argument of `bleep-sc fit`"),
    ],
)
def test_calls_are_spelt_as_commands(python: str, command: str) -> None:
    with spelt({"um": "--um"}):
        assert in_options(python) == command
        for same in ("`bleep_sc.tl.embed(ref)`", "`bleep_sc.tl.calibrate(ref, predict='retrieval')`", "`bl.pp.pool`"):
            assert in_options(same) == same


def test_commands_that_messages_name_are_there(run: Run) -> None:
    for command, options in COMMANDS.values():
        name, *flags = command.removeprefix("bleep-sc ").split()
        text = run("impute" if name == "--image" else name, "--help").out
        assert all(f"\n  {flag}" in text for flag in [*flags, *options.values()])


def test_only_what_the_package_raises_is_for_the_user() -> None:
    def raised_by(function: object, *arguments: object) -> Exception:
        try:
            function(*arguments)  # type: ignore[operator]
        except (TypeError, ValueError, AttributeError) as err:
            return err
        pytest.fail("nothing was raised")

    assert is_said(raised_by(bl.pp.crops, None))
    assert not is_said(raised_by(option.number_or_name, None))  # a slip of ours, within a line of the package
    assert not is_said(raised_by(int, "x"))
    assert not is_said(ValueError("never raised"))


def test_every_command_has_its_record_and_teaches(run: Run) -> None:
    assert [command.name for command in main_module.COMMANDS] == ["fit", "impute", "report"]
    for command in main_module.COMMANDS:
        text = run(command.name, "--help").out
        assert len(command.examples) == 2
        for part in ("examples:", "what is written:", "exit codes:", *(purpose for purpose, _ in command.examples)):
            assert part in text
        for code in ("0 ", "1 ", "2 ", "130 "):
            assert f"\n  {code}" in text
        for step in command.steps:
            for each in step.options:
                assert f"  {each.flag}" in text
        assert max(map(len, text.splitlines())) <= 82
