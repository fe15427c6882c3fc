"""Who may import whom, read from the sources: also within functions, and also what that imports in turn."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "bleep_sc"
PACKAGE = SOURCE.name
ALLOWED: dict[str, set[str]] = {
    "": set(),
    "metrics": set(),
    "models": set(),
    "methods": {"models", "metrics"},
    # tissue that comes from elsewhere brings its image
    "io": {"methods", "models", "pp"},
    "pp": set(),
    # a cross-validation runs the whole flow again in each fold, preprocessing included
    "tl": {"methods", "models", "io", "metrics", "pp"},
    "pl": {"metrics"},
    "datasets": {"pp"},
    "_report": {"pl", "tl", "io", "pp"},
    "_cli": {"_report", "tl", "io", "pp", "methods", "models"},
}
"""The rooms that each room uses beside itself and the ground floor, whose room has no name."""


def imported(node: ast.AST, package: str) -> Iterator[str]:
    """Names that a piece of source imports wherever it does, but for what type checkers alone read."""
    if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        for part in node.orelse:
            yield from imported(part, package)
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = resolve_name("." * node.level + (node.module or ""), package)
        yield from (f"{base}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
        yield named(node.args[0])
    for part in ast.iter_child_nodes(node):
        if not isinstance(part, ast.expr_context | ast.operator | ast.Constant | ast.Name):  # half of a tree
            yield from imported(part, package)


def named(argument: ast.expr) -> str:
    """The module that is imported by name; what is worked out but for its beginning could be any that begins so."""
    if isinstance(argument, ast.JoinedStr) and isinstance(argument.values[0], ast.Constant):
        return f"{argument.values[0].value}*"
    return str(ast.literal_eval(argument))  # a name that is worked out from its beginning fails here


@cache
def imports(source: Path = SOURCE) -> dict[str, set[str]]:
    """Of every module of a package: its other modules, and packages of others, that it imports."""
    paths = {}
    for path in sorted(source.rglob("*.py")):
        parts = (source.name, *path.relative_to(source).with_suffix("").parts)
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path

    def known(name: str) -> set[str]:
        """The module that a name is, or lies in; of other packages the package."""
        if name.partition(".")[0] != source.name:
            return {name.partition(".")[0]}
        if name.endswith("*"):
            return {path for path in paths if path.startswith(name.removesuffix("*"))}
        while name not in paths:
            name = name.rpartition(".")[0]
        return {name}

    found = {}
    for module, path in paths.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        names = set(imported(ast.parse(path.read_text()), package))
        found[module] = set[str]().union(*map(known, names)) - {module}
    return found


def reached(start: str, graph: dict[str, set[str]]) -> dict[str, str]:
    """What a module imports in the end, each with how it gets there; a module's packages are imported before it."""
    ways, left = {start: start}, [start]
    while left:
        module = left.pop()
        parts = module.split(".")
        packages = {".".join(parts[:n]) for n in range(2, len(parts))}  # the whole package's own is left out
        for used in sorted(graph.get(module, set()) | packages & graph.keys()):
            if used not in ways:
                ways[used] = f"{ways[module]} > {used}"
                left.append(used)
    return ways


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 2 or (SOURCE / parts[-1]).is_dir() else ""


@cache
def modules() -> list[str]:
    """All but the three that stand above the rooms."""
    return [module for module in imports() if module not in (PACKAGE, f"{PACKAGE}.demo", f"{PACKAGE}.__main__")]


@pytest.mark.parametrize("room", ALLOWED)
def test_arrows_point_down(room: str) -> None:
    mine = [module for module in modules() if room_of(module) == room]
    assert mine
    wrong = [
        f"{module} > {used}"
        for module in mine
        for used in sorted(imports()[module])
        if used.partition(".")[0] == PACKAGE
        and (used not in modules() or room_of(used) not in {"", room, *ALLOWED[room]})
    ]
    assert not wrong, "\n".join(wrong)


def test_every_room_has_its_arrows() -> None:
    assert {room_of(module) for module in modules()} == set(ALLOWED)


@pytest.mark.parametrize(
    ("room", "banned"),
    [("models", "anndata"), ("metrics", "anndata"), ("methods", "anndata"), ("pp", "torch"), ("pl", "torch")],
)
def test_what_a_room_never_imports(room: str, banned: str) -> None:
    """Neither itself nor by what it uses."""
    ways = (reached(module, imports()) for module in modules() if room_of(module) == room)
    wrong = [way[banned] for way in ways if banned in way]
    assert not wrong, "\n".join(wrong)


def test_no_import_goes_round_in_a_circle() -> None:
    """Nor through a function; the error names the modules."""
    graph = {module: imports()[module] & set(modules()) for module in modules()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(modules())


def test_the_search_finds_them(tmp_path: Path) -> None:
    sources = {
        "__init__": "from p.a import everything",
        "a": "import os\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy\nelse:\n    import dask",
        "room.__init__": "",
        "room.b": "def f():\n    if 1:\n        from ..a import name\n        from . import c",
        "room.c": "from p import room\nfrom p.other.d import D\nimport importlib as i\ni.import_module('zarr.core')",
        "other.__init__": "import torch.nn as nn",
        "other.d": "",
        "other.f": "import importlib\nimportlib.import_module(f'p.room.{name}')",
        "other.e": "from importlib import import_module\nimport_module(a + b)",
    }
    for name, text in sources.items():
        path = tmp_path / "p" / Path(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with pytest.raises(ValueError, match="malformed"):
        imports(tmp_path / "p")
    path.unlink()
    graph = imports(tmp_path / "p")
    assert graph == {
        "p": {"p.a"},
        "p.a": {"os", "typing", "dask"},
        "p.room": set(),
        "p.room.b": {"p.a", "p.room.c"},
        "p.room.c": {"p.room", "p.other.d", "importlib", "zarr"},
        "p.other": {"torch"},
        "p.other.d": set(),
        "p.other.f": {"importlib", "p.room.b", "p.room.c"},
    }
    ways = reached("p.room.b", graph)
    assert ways["torch"] == "p.room.b > p.room.c > p.other.d > p.other > torch"
    assert not {"numpy", "p"} & ways.keys()


# sizes that a reader can keep in mind


def test_no_folder_has_more_files_than_can_be_overlooked() -> None:
    folders = {path.parent for path in SOURCE.rglob("*.py")}
    sizes = {str(folder.relative_to(SOURCE)): len(list(folder.glob("*.py"))) for folder in folders}
    assert not {name: size for name, size in sizes.items() if size > 18}


def test_no_function_is_longer_than_a_page() -> None:
    """90 lines of code; the docstring is not counted."""
    long = {}
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[ast.get_docstring(node) is not None :]
                lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
                if lines > 90:
                    long[f"{path.relative_to(SOURCE)}: {node.name}"] = lines
    assert not long
