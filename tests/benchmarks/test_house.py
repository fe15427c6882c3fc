"""The structure stays as it was rebuilt, and the script that measures it sees what it looks for."""

import ast
from importlib import import_module
from pathlib import Path

import house
import pytest

SOURCE = Path(house.__file__).parents[1] / "src" / "bleep_sc"
BENCHMARKS = sorted(Path(house.__file__).parent.glob("*.py"))
TREES = {path.relative_to(SOURCE): ast.parse(path.read_text()) for path in SOURCE.rglob("*.py")}


def test_no_shell_asks_which_method_it_is() -> None:
    asked = [found for path, tree in TREES.items() for found in house.questions(path, tree)]
    assert len(asked) <= 4, "\n".join(asked)


@pytest.mark.parametrize(
    "code",
    [
        "isinstance(model, Hybrid)",
        "isinstance(values, BleepRecipe | StNetRecipe)",
        "stored.config['method'] == 'histogene'",
        "facts.reads in ('images', 'crops')",
        "encoder != COLOR",
        "getattr(recipe, 'context', 0)",
        "hasattr(chosen, 'max_epochs')",
        "match reads:\n    case 'places':\n        pass",
    ],
)
def test_a_question_is_found(code: str) -> None:
    assert len(list(house.questions(Path("tl/_fit.py"), ast.parse(code)))) == 1


@pytest.mark.parametrize("code", ["isinstance(values, Mapping)", "name == 'spatial'", "getattr(images, 'ndim', 2)"])
def test_other_comparisons_are_not(code: str) -> None:
    assert not list(house.questions(Path("tl/_fit.py"), ast.parse(code)))


def test_what_spells_arguments_is_found() -> None:
    spelt = "Space(members=1, dim=2, hidden=3)\n('members', 'dim', 'dropout')\nSpace(members=1, dim=2)"
    assert len(list(house.spellings(Path("tl/_fit.py"), ast.parse(spelt)))) == 2


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_a_benchmark_finds_what_it_takes_from_the_package(path: Path) -> None:
    """They run too seldom to notice that something was moved."""
    taken = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    for node in taken:
        if node.module and node.module.split(".")[0] == "bleep_sc":
            module = import_module(node.module)
            for name in (alias.name for alias in node.names):
                assert hasattr(module, name) or import_module(f"{node.module}.{name}"), f"{node.module}.{name}"
