"""Where log lines and tables go."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pandas as pd
import pytest

import bleep_sc as bl
from bleep_sc._logging import log_table, logger

TABLE = pd.DataFrame({"pearson": ["0.812"], "interval": ["-"]}, index=pd.Index(["HVG-50"], name="panel"))
ALIGNED = "Scores:\npanel       pearson  interval\nHVG-50        0.812         -\nOver spots.\n"
WIDTHS = (10, 9, 10)


def _with_shell(shell: object, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is displayed, where IPython has this shell."""
    displayed: list[Any] = []
    ipython = ModuleType("IPython")
    ipython.get_ipython = lambda: shell  # type: ignore[attr-defined]
    of_display = ModuleType("IPython.display")
    of_display.display = displayed.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", of_display)
    return displayed


NOTEBOOK = SimpleNamespace(kernel=object())
EVERY_SHELL = pytest.mark.parametrize(
    ("shell", "is_notebook"),
    [(NOTEBOOK, True), (SimpleNamespace(), False), (None, False)],
    ids=["notebook", "ipython in a terminal", "no ipython"],
)


@EVERY_SHELL
def test_a_notebook_has_the_log_on_stdout(
    *, shell: object, is_notebook: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _with_shell(shell, monkeypatch)
    logger.info("as many spots as genes")
    written = capsys.readouterr()
    here, there = (written.out, written.err) if is_notebook else (written.err, written.out)
    assert here == "as many spots as genes\n"
    assert not there


@EVERY_SHELL
def test_a_notebook_has_a_table_as_a_frame_and_others_as_text(
    *, shell: object, is_notebook: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    displayed = _with_shell(shell, monkeypatch)
    log_table("Scores:", TABLE, widths=WIDTHS, notes=["Over spots."])
    written = capsys.readouterr()
    assert (written.out, written.err) == (("Scores:\nOver spots.\n", "") if is_notebook else ("", ALIGNED))
    assert [id(each) for each in displayed] == ([id(TABLE)] if is_notebook else [])


def test_a_table_without_widths_is_aligned_by_pandas(capsys: pytest.CaptureFixture[str]) -> None:
    log_table("50 % of all:", TABLE)
    assert capsys.readouterr().err == f"50 % of all:\n{TABLE.to_string()}\n"


def test_a_table_is_silent_at_a_lower_verbosity(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    displayed = _with_shell(NOTEBOOK, monkeypatch)
    with bl.settings.override(verbosity="warning"):
        log_table("Scores:", TABLE, widths=WIDTHS)
    assert not displayed
    assert not "".join(capsys.readouterr())


def test_other_handlers_have_a_notebooks_table_as_text(
    monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    displayed = _with_shell(NOTEBOOK, monkeypatch)
    log_table("Scores:", TABLE, widths=WIDTHS, notes=["Over spots."])
    assert displayed
    assert log.messages == [ALIGNED.rstrip("\n")]
