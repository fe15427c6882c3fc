"""The tutorials are fit to be read as they are stored, and run from top to bottom."""

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from kernel_nursery import CAN_FORK, NAME, nursery
from nbclient import NotebookClient
from nbformat import NotebookNode

import bleep_sc as bl

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "tutorials").glob("*.ipynb"))
EVERY = pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)

LARGEST = 1_500_000
"""Bytes of a notebook: they stay in the history of the repository for good."""
DRAWS = re.compile(r"\b(?:bl|sc|sq)\.pl\.\w+\(|\bplt\.show\(")
SMALL = """
import sys

import bleep_sc as bl
from bleep_sc._logging import logger

_toy, _fit, _cross_validate = bl.datasets.toy, bl.tl.fit, bl.tl.cross_validate
_short = {"max_epochs": 20}
bl.datasets.toy = lambda **given: _toy(**{"n_spots": 40, "n_genes": 120, **given})
bl.tl.fit = lambda adata, **given: _fit(adata, **{**given, **(_short if "method" not in given else {})})
bl.tl.cross_validate = lambda adata, methods, **given: _cross_validate(
    adata, methods=methods, **{"method_kwargs": {m: _short for m in methods if m == "bleep"}, **given}
)
type(logger.handlers[0]).stream = property(lambda self, sys=sys: sys.stderr)
"""
"""The same tissue, little of it, and short trainings: run before the first cell.

What is logged depends on the data. It goes to stderr here, so that text on stdout is what the cells print themselves.
"""


def _read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def _code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _python(cell: NotebookNode) -> ast.Module:
    return ast.parse("\n".join(line for line in cell.source.splitlines() if not line.startswith("%")))


def _calls(node: ast.AST) -> Iterator[str]:
    """What is called in these lines, but for what stands in functions that they define."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield ast.unparse(child.func)
        if not isinstance(child, ast.FunctionDef | ast.Lambda):
            yield from _calls(child)


def _prints(notebook: NotebookNode) -> list[bool]:
    """Whether each cell prints, by itself or by a function of the notebook that prints."""
    cells = [_python(cell) for cell in _code(notebook)]
    defined = [node for cell in cells for node in cell.body if isinstance(node, ast.FunctionDef)]
    printing = {"print", *(function.name for function in defined if "print" in _calls(function))}
    return [not printing.isdisjoint(_calls(cell)) for cell in cells]


def _kinds(cell: NotebookNode) -> set[str]:
    """What a cell has put out: pictures, tables and values, text. In a notebook what is logged is text too."""
    kinds = set()
    for output in cell.outputs:
        if output.output_type == "stream":
            if output.name == "stdout":
                kinds.add("text")
        elif any(kind.startswith("image/") for kind in output.data):
            kinds.add("picture")
        else:
            kinds.add("value" if output.output_type == "execute_result" else "table")
    return kinds


def _stored_text(notebook: NotebookNode, *, stream: str | None = None) -> str:
    """All text that was put out, or only that of one stream."""
    parts = []
    for output in [output for cell in _code(notebook) for output in cell.outputs]:
        if output.output_type == "stream":
            parts += [output.text] if stream in (None, output.name) else []
        elif stream is None and "data" in output:
            parts += [text for kind, text in output.data.items() if kind.startswith("text/")]
    return "\n".join(parts)


def test_tutorials_are_numbered_in_the_order_of_reading() -> None:
    names = [path.stem for path in TUTORIALS]
    assert len(names) >= 4
    assert all(re.fullmatch(r"\d\d_[a-z_]+", name) for name in names)
    assert [int(name[:2]) for name in names] == list(range(1, len(names) + 1))


@EVERY
def test_a_tutorial_is_a_valid_notebook_of_any_python_3(path: Path) -> None:
    notebook = _read(path)
    nbformat.validate(notebook)
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    assert [cell.id for cell in notebook.cells] == [f"cell-{i:02d}" for i in range(1, len(notebook.cells) + 1)]
    assert notebook.cells[0].source.startswith("# "), "the title stands first"
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags"}
        assert not any(output.get("metadata") for output in cell.get("outputs", []))
    assert path.stat().st_size < LARGEST


@EVERY
def test_outputs_are_stored_as_of_one_run(path: Path) -> None:
    notebook = _read(path)
    code = _code(notebook)
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for cell, prints in zip(code, _prints(notebook), strict=True):
        assert not any(output.output_type == "error" for output in cell.outputs)
        if DRAWS.search(cell.source):
            assert "picture" in _kinds(cell), f"no figure is stored of\n{cell.source}"
        statements = _python(cell).body
        if prints:
            assert "text" in _kinds(cell), f"no text is stored of\n{cell.source}"
        if statements and isinstance(statements[-1], ast.Expr) and not isinstance(statements[-1].value, ast.Call):
            assert "value" in _kinds(cell), f"no value is stored of\n{cell.source}"


@EVERY
def test_nothing_that_is_stored_is_red(path: Path) -> None:
    """What a notebook shows of stderr is red: the package logs to stdout there, and its tables are tables."""
    notebook = _read(path)
    assert not _stored_text(notebook, stream="stderr")
    for cell in _code(notebook):
        if re.search(r"^bl\.tl\.(evaluate|cross_validate)\(", cell.source, re.M):
            assert "table" in _kinds(cell), f"no table is stored of\n{cell.source}"


@EVERY
def test_no_warning_and_no_place_of_a_machine_is_stored(path: Path) -> None:
    notebook = _read(path)
    logged = "".join(_stored_text(notebook, stream=stream) for stream in ("stdout", "stderr"))
    assert not re.search(r"warning|traceback|deprecat", logged, re.I)
    text = "\n".join([_stored_text(notebook), *(cell.source for cell in notebook.cells)])
    for place in (Path.home(), Path(sys.prefix), ROOT):
        assert str(place) == place.root or str(place) not in text
    assert not re.findall(r"(?<![\w.:/}])/(?:[\w.-]+/)+[\w.-]*|\b[A-Z]:\\\w+|site-packages", text)
    assert not re.search(r"\x1b|\bat 0x[0-9a-f]{6}", text), "neither colour codes nor addresses in memory"
    assert "her2st" not in text.lower(), "its licence is not known, so nothing of it is stored"


@EVERY
def test_code_that_is_shown_but_not_run_fits_the_package(path: Path) -> None:
    shown = "\n".join(cell.source for cell in _read(path).cells if cell.cell_type == "markdown")
    for room, name in re.findall(r"\bbl\.(\w+)\.(\w+)", shown):
        assert hasattr(getattr(bl, room), name), f"bl.{room}.{name} is not there"
    for block in re.findall(r"^```python\n(.*?)^```", shown, re.M | re.S):
        for call in [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)]:
            if name := re.fullmatch(r"bl\.(\w+)\.(\w+)", ast.unparse(call.func)):
                known = inspect.signature(getattr(getattr(bl, name[1]), name[2])).parameters
                assert {keyword.arg for keyword in call.keywords} <= set(known)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | None]:
    """A folder of kernels that have imported what all notebooks do."""
    if not CAN_FORK:
        yield None
        return
    with nursery(tmp_path_factory.mktemp("nursery")) as folder:
        yield folder


@pytest.mark.slow
@EVERY
def test_a_tutorial_runs_from_top_to_bottom(
    path: Path, kernels: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On painted tissue, little of it, and with the same kinds of output as are stored."""
    if kernels:
        monkeypatch.setenv("JUPYTER_PATH", str(kernels))
    monkeypatch.setenv("BLEEP_SC_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # a kernel draws into the notebook unless told otherwise
    notebook = _read(path)
    expected = [
        _kinds(cell) - {"text"} | ({"text"} if prints else set())
        for cell, prints in zip(_code(notebook), _prints(notebook), strict=True)
    ]
    notebook.cells.insert(0, nbformat.v4.new_code_cell(SMALL, id="small"))
    resources = {"metadata": {"path": str(tmp_path)}}
    kernel = NAME if kernels else "python3"
    NotebookClient(notebook, timeout=240, kernel_name=kernel, record_timing=False, resources=resources).execute()
    for stream in ("stdout", "stderr"):
        warned = re.search(r".*warning.*", _stored_text(notebook, stream=stream), re.I)
        assert not warned, warned
    for kinds, cell in zip(expected, _code(notebook)[1:], strict=True):
        assert _kinds(cell) == kinds, cell.source
