"""The conventions of the public API, policed."""

import ast
import inspect
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import bleep_sc as bl

ROOT = Path(__file__).parents[1]
MODULES = (bl.pp, bl.tl, bl.pl, bl.datasets, bl.io)
PUBLIC = [*((module, name) for module in MODULES for name in module.__all__), (bl, "report")]
IDS = [f"{module.__name__.removeprefix('bleep_sc.')}.{name}" for module, name in PUBLIC]
HEAVY = (
    *("torch", "torchvision", "lightning", "scanpy", "squidpy", "sklearn", "skimage", "dask.array", "harmonypy"),
    *("pynndescent", "matplotlib.pyplot", "safetensors.torch", "timm", "PIL.Image", "jinja2"),
)


@pytest.mark.slow
def test_naming_every_function_imports_nothing_heavy() -> None:
    script = (
        "import sys, anndata\nbefore = set(sys.modules)\nimport bleep_sc as bl\n"
        "for module in (bl.pp, bl.tl, bl.pl, bl.datasets, bl.io):\n"
        "    for name in module.__all__: getattr(module, name)\n"
        "bl.report, bl.settings, bl.__version__\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules and name not in before])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_import_costs_little_beyond_anndata() -> None:
    # of the processor: others may keep it busy
    script = "import time, anndata\nstart = time.process_time()\nimport bleep_sc\nprint(time.process_time() - start)\n"

    def seconds() -> float:
        return float(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)

    # 0.2 s is the goal; twice that keeps a busy machine from failing what an import of torch (seconds) would
    assert any(seconds() < 0.4 for _ in range(3))


@pytest.mark.parametrize("module", [bl, *MODULES], ids=lambda m: m.__name__)
def test_all_is_sorted_and_complete(module: ModuleType) -> None:
    assert list(module.__all__) == sorted(module.__all__)
    for name in module.__all__:
        assert hasattr(module, name)


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=IDS)
def test_signature(module: ModuleType, name: str) -> None:
    signature = inspect.signature(getattr(module, name))
    parameters = list(signature.parameters.values())
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert len(positional) <= 2
    assert not any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)
    assert all(p.annotation is not p.empty for p in parameters)
    assert signature.return_annotation is not signature.empty
    # these return what they make
    returning = (
        *("blank", "cross_validate", "gene_strata", "grid", "intervals", "learning_curve", "plan", "pool"),
        *("predictability", "sweep", "transfer_matrix"),
    )
    if module in (bl.pp, bl.tl) and name not in returning:
        assert positional[0].name in ("adata", "query", "ref")
        assert signature.parameters["copy"].default is False
        assert signature.parameters["copy"].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=IDS)
def test_docstring(module: ModuleType, name: str) -> None:
    function = getattr(module, name)
    text = inspect.getdoc(function) or ""
    sections = dict(
        re.findall(r"^(Parameters|Returns|Raises|Examples)\n-+\n(.*?)(?=^\w[\w ]*\n-+$|\Z)", text, re.M | re.S)
    )
    assert not re.search(r"^\w[\w ]* -{3,} ", text, re.M), "the heading of a section has a line of its own"
    code = inspect.unwrap(function).__code__
    if code.co_argcount + code.co_kwonlyargcount:
        described = re.findall(r"^(\w+(?:, \w+)*)$", sections["Parameters"], re.M)
        named = {word for line in described for word in line.split(", ")}
        assert named == set(inspect.signature(function).parameters), "parameters and their description differ"
    if "copy" in inspect.signature(function).parameters:
        assert "Sets the following fields" in sections["Returns"]


def test_nothing_is_unpickled_or_evaluated() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        text = path.read_text()
        assert not re.search(r"pickle\.loads?\(|(?<![.\w])(?:eval|exec)\(|joblib\.load|allow_pickle=True", text), path
        for call in re.findall(r"torch\.load\([^)]*\)", text):
            assert "weights_only=True" in call, path


def test_version_is_that_of_the_project() -> None:
    assert bl.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_ci_runs_the_readmes_test_command() -> None:
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    commands = re.findall(r"```bash\n(.*?)\n```", readme, re.S)
    assert commands[0].startswith("pip install")
    assert "bleep_sc.demo" in commands[0]
    assert "pytest" in commands[1]
    assert commands[1] in ci


@pytest.mark.odd
def test_settings_refuse_what_they_do_not_know() -> None:
    for name, value in (("precision", "8"), ("progress_bar", 1), ("verbosity", "loud"), ("device", "")):
        before = getattr(bl.settings, name)
        with pytest.raises(ValueError, match=name):
            setattr(bl.settings, name, value)
        assert getattr(bl.settings, name) == before
    with pytest.raises(ValueError, match=r"settings\.override"), bl.settings.override(devize="cpu"):
        pass
    assert "device=" in repr(bl.settings)


DRAW_WHEN_IMPORTED = ("lightning", "pynndescent", "sklearn", "spatialdata", "squidpy", "umap")


@pytest.mark.slow
def test_imports_that_draw_random_numbers_put_them_back() -> None:
    """Of Python's global random state; each may be a process's first."""
    kept, found = set(), 0
    for path in sorted((ROOT / "src").rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            guarded = isinstance(node, ast.With) and "python_random_state_kept()" in map(
                ast.unparse, (item.context_expr for item in node.items)
            )
            if guarded or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
                kept |= set(node.body)
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.partition(".")[0] in DRAW_WHEN_IMPORTED for name in names):
                found += 1
                assert node in kept, f"{path.name}, line {node.lineno}"
    assert found > 10


FIRST_CALLS = {
    "main job": """
tissue, images = bl.datasets.toy(n_spots=30, n_genes=20, return_images=True)
bl.pp.crops(tissue, images, size=32, library_key="section")
held_out = (tissue.obs["patient"] == "P3").to_numpy()
ref, query = tissue[~held_out].copy(), tissue[held_out].copy()
bl.pp.harmonize(ref, batch_key="section")
bl.tl.fit(ref, preset="paper", encoder="resnet18", weights=None, max_epochs=1)
bl.tl.impute(query, ref, k=5)
bl.tl.evaluate(query)
""",
    # numba compiles for half a minute; told not to, pynndescent is imported and then fails
    "pynndescent": """
with suppress(NotImplementedError):
    nearest_approximately(points, points, 5)
assert "pynndescent" in sys.modules
""",
    "umap": """
_lay_out(points, "umap", 0)
assert "umap" in sys.modules
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("calls", FIRST_CALLS.values(), ids=FIRST_CALLS)
def test_first_calls_of_a_process_leave_the_global_random_state(calls: str, tmp_path: Path) -> None:
    """Imports of other packages draw from it; in this process they are over by now."""
    script = f"""
import random, sys, warnings
from contextlib import suppress
import numpy as np
import bleep_sc as bl
from bleep_sc.models.search.nearest import nearest_approximately
from bleep_sc.tl._alignment import _lay_out

warnings.simplefilter("ignore")
points = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
before = random.getstate(), np.random.get_state()[1].tobytes(), np.random.get_state()[2]
{calls}
assert before == (random.getstate(), np.random.get_state()[1].tobytes(), np.random.get_state()[2])
"""
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True)
