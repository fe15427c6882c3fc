"""The structure of the package in numbers: how crowded it is, and where a fact is asked for or spelt more than once.

    python benchmarks/house.py
    git worktree add /tmp/before a2293a5 && python benchmarks/house.py /tmp/before

The argument is a checkout, of this version or of an earlier one. Printed are the Python files of each folder; the
longest functions, without their docstrings; each place that asks which method, kind of model or kind of input it has
at hand, by `isinstance`, by a name, or by `getattr` on a recipe; each place that spells three or more arguments of the
joint model; and to how many functions `tl.fit` hands the AnnData, how often checks get it, and how often its values are
read.
"""

import argparse
import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

METHODS = {"bleep", "stnet", "histogene", "regressor", "ridge", "knn", "coordinates", "counts", "mean"}
KINDS = {"hybrid", "features", "network", "color", "custom", "place", "nothing", "images", "crops", "places"}
"""Names of kinds of model and of input."""
CLASSES = {"Hybrid", "Bleep", "Regressor", "HisToGene", "FeatureSpace", "Predictor"}
ASKED_OF = {"method", "kind", "reads", "predicts", "encoder", "stored", "config", "facts", "given", "self", "model"}
RECIPES = {"recipe", "recipe_of", "chosen", "spec", "NETWORK"}
HYBRID = {"members", "dim", "hidden", "dropout", "temperature", "n_components", "n_landmarks", "n_image_features"}

FIT = """
import sys
from anndata import AnnData
import bleep_sc as bl

ref = bl.datasets.toy(n_spots=40, n_genes=20, progress_bar=False)
bl.settings.verbosity, bl.settings.progress_bar = "error", False
bl.tl.fit(ref.copy(), max_epochs=1)  # imports are over by now
CHECKS = ("bleep_sc._validate", "bleep_sc._checks", "bleep_sc._adata")
handed = visits = reads = 0

def watch(frame, event, _):
    global handed, visits, reads
    name, code = frame.f_globals.get("__name__", ""), frame.f_code
    if event != "call" or not name.startswith("bleep_sc"):
        return
    reads += code.co_name == "expression_values"
    given = [frame.f_locals.get(v) for v in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]]
    given = any(isinstance(value, AnnData) for value in given)
    caller = frame.f_back.f_globals.get("__name__")
    visits += name in CHECKS and caller not in CHECKS and given
    handed += caller == "bleep_sc.tl._fit" and frame.f_back.f_code.co_name == "fit" and given

sys.setprofile(watch)
bl.tl.fit(ref, max_epochs=1)
sys.setprofile(None)
print(handed, visits, reads)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", nargs="?", type=Path, default=Path(__file__).parents[1])
    source = parser.parse_args().checkout / "src" / "bleep_sc"
    trees = {path.relative_to(source): ast.parse(path.read_text()) for path in sorted(source.rglob("*.py"))}

    print("Python files of a folder")
    for folder, n in Counter(str(path.parent) for path in trees).most_common():
        print(f"  {n:3} {folder}")
    print("Longest functions, without docstrings")
    for lines, where in sorted(function_lengths(trees), reverse=True)[:5]:
        print(f"  {lines:3} {where}")
    asked = [found for path, tree in trees.items() for found in questions(path, tree)]
    print(f"Places that ask which method, model or input it is: {len(asked)}")
    print(*(f"  {found}" for found in asked), sep="\n")
    spelt = [found for path, tree in trees.items() for found in spellings(path, tree)]
    print(f"Places that spell arguments of the joint model: {len(spelt)}")
    print(*(f"  {found}" for found in spelt), sep="\n")
    run = subprocess.run(  # noqa: S603 - this Python, with a script of ours
        [sys.executable, "-c", FIT],
        env={"PYTHONPATH": str(source.parent), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    handed, visits, reads = run.stdout.split()
    print(
        f"`tl.fit` hands the AnnData to {handed} functions, checks get it {visits} times, values are read {reads} times"
    )


def function_lengths(trees: dict[Path, ast.Module]) -> Iterator[tuple[int, str]]:
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                body = node.body[ast.get_docstring(node) is not None :]
                yield (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0, f"{path}: {node.name}"


def questions(path: Path, tree: ast.Module) -> Iterator[str]:
    """Where something other than a method's own file asks which one it is."""
    if path.parts[0] in ("datasets", "pp", "pl", "metrics") or path.parts[:2] == ("methods", "hybrid"):
        return
    for node in ast.walk(tree):
        asks = False
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            words = {word.id for word in ast.walk(node) if isinstance(word, ast.Name)}
            if node.func.id == "isinstance":
                asks = bool(words & CLASSES) or any(word.endswith("Recipe") for word in words)
            elif node.func.id in ("getattr", "hasattr"):
                asks = bool(words & RECIPES) and isinstance(node.args[1], ast.Constant | ast.Subscript)
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            words = [word for side in sides if not isinstance(side, ast.Call) for word in constants(side)]
            names = {word for word in words if isinstance(word, str)}
            names |= {side.id.lower() for side in sides if isinstance(side, ast.Name) and side.id.isupper()}
            of = {word.id for side in sides for word in ast.walk(side) if isinstance(word, ast.Name)}
            of |= {word.attr for side in sides for word in ast.walk(side) if isinstance(word, ast.Attribute)}
            asks = bool(names & (METHODS | KINDS)) and bool(of & ASKED_OF)
        elif isinstance(node, ast.match_case) and isinstance(node.pattern, ast.MatchValue):
            asks = ast.literal_eval(node.pattern.value) in METHODS | KINDS
        if asks:
            line = node.pattern.lineno if isinstance(node, ast.match_case) else node.lineno
            yield f"{path}:{line} {ast.unparse(node).splitlines()[0][:100]}"


def constants(side: ast.expr) -> Iterator[object]:
    """The constant that one side of a comparison is, or the constants that it lists."""
    for part in getattr(side, "elts", [side]):
        if isinstance(part, ast.Constant):
            yield part.value


def spellings(path: Path, tree: ast.Module) -> Iterator[str]:
    """Where three or more of the joint model's arguments stand side by side."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.ClassDef):
            names = [part.target.id for part in node.body if isinstance(part, ast.AnnAssign) and _is_name(part.target)]
        elif isinstance(node, ast.Dict):
            names = [key.value for key in node.keys if isinstance(key, ast.Constant)]
        elif isinstance(node, ast.Tuple | ast.List):
            names = [part.value for part in node.elts if isinstance(part, ast.Constant)]
        elif isinstance(node, ast.Call):
            names = [keyword.arg for keyword in node.keywords if keyword.arg]
        elif isinstance(node, ast.FunctionDef):
            names = [argument.arg for argument in [*node.args.args, *node.args.kwonlyargs]]
        if len(HYBRID & set(names)) >= 3:
            yield f"{path}:{node.lineno} {type(node).__name__}"


def _is_name(target: ast.expr) -> bool:
    return isinstance(target, ast.Name)


if __name__ == "__main__":
    main()
