"""What the pages say is what the package does; what stands beside the code is well formed."""

import ast
import inspect
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import plain_words
import pytest
import yaml

import bleep_sc as bl
from bleep_sc import metrics

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ROOMS: dict[str, ModuleType] = {
    name: room
    for name, room in [*((name, getattr(bl, name)) for name in bl.__all__), ("metrics", metrics)]
    if inspect.ismodule(room)
}
PUBLIC = [(room, name) for room in ROOMS for name in ROOMS[room].__all__]
PAGES = sorted([*DOCS.glob("*.md"), *DOCS.glob("[!_]*/*.md"), ROOT / "CONTRIBUTING.md"])
FIELD = re.compile(r"(obs|var|obsm|layers|uns)\[(?:'([^']+)'|(\w+))")


def test_every_room_has_a_page_that_lists_what_is_public() -> None:
    index = (DOCS / "api" / "index.md").read_text(encoding="utf-8")
    listed = re.findall(r"^   bleep_sc\.(\w+)$", index, re.M)
    assert sorted(listed) == sorted(ROOMS)
    assert set(_conf()["autosummary_context"]["rooms"]) == {f"bleep_sc.{room}" for room in ROOMS}
    assert _conf()["autosummary_ignore_module_all"] is False
    settings = (DOCS / "api" / "settings.md").read_text(encoding="utf-8")
    for name in vars(type(bl.settings)):
        if not name.startswith("_"):
            assert f"bleep_sc.settings.{name}" in settings


def _writes(function: object) -> list[tuple[str, str]]:
    """The fields (slot, key) that a docstring says are set, with default names."""
    text = inspect.getdoc(function) or ""
    if "Sets the following fields" not in text:
        assert "Sets the following field" not in text, "the plural is looked for"
        return []
    block = text.split("Sets the following fields", 1)[1]
    block = re.split(r"^\w[\w ]*\n-+$", block, maxsplit=1, flags=re.M)[0]
    heads = [line for line in block.splitlines() if re.match(r"`(?:adata|query|ref)\.", line)]
    assert heads, "a field is named at the beginning of a line, as `adata.obsm['key']`"
    return [
        # a name that an argument gives stands for its default, the model's
        (slot, key or "bleep")
        for head in heads
        for slot, key, _ in FIELD.findall(head)
    ]


@pytest.mark.parametrize(("room", "name"), PUBLIC, ids=[f"{room}.{name}" for room, name in PUBLIC])
def test_every_written_field_is_on_the_page_of_fields(room: str, name: str) -> None:
    page = (DOCS / "fields.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in page.split("## Written", 1)[1].splitlines() if line.startswith("| `")]
    for slot, key in _writes(getattr(ROOMS[room], name)):
        key = re.sub(r"<(\w+)>", r"{\1}", key)
        found = [row for row in rows if f'{slot}["{key}"]' in row[1] and f"`bl.{room}.{name}`" in row[2]]
        assert found, f'docs/fields.md lacks a row for `{slot}["{key}"]` of `bl.{room}.{name}`'


def test_the_fields_of_the_main_job_are_understood() -> None:
    """The test above must see what it is meant to see."""
    assert ("obsm", "X_bleep_image") in _writes(bl.tl.impute)
    assert ("layers", "bleep") in _writes(bl.tl.impute)
    assert ("layers", "cv_<method>") in _writes(bl.tl.cross_validate)
    assert ("var", "{layer}_{metric}") in _writes(bl.tl.evaluate)
    assert ("var", "noise_ceiling") in _writes(bl.tl.evaluate)
    assert ("uns", "bleep") in _writes(bl.io.read_model)
    assert _writes(bl.pl.imputed) == []


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_code_on_the_pages_fits_the_package(page: Path) -> None:
    """Blocks of Python can be parsed, every function they call exists, and has the arguments that they give."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S):
        for call in [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)]:
            name = re.fullmatch(r"bl\.(\w+)\.(\w+)", ast.unparse(call.func))
            if name and name[1] in ROOMS:
                _check_call(page, call, name[1], name[2])
    for inline in re.findall(r"(?<!`)`(bl\.[^`\n]+)`(?!`)", text):
        for room, function in re.findall(r"bl\.(\w+)\.(\w+)", inline):
            where = ROOMS[room] if room in ROOMS else getattr(bl, room)
            assert hasattr(where, function), f"{page.name} names `bl.{room}.{function}`, which is not there"


def _check_call(page: Path, call: ast.Call, room: str, name: str) -> None:
    assert name in ROOMS[room].__all__, f"{page.name} calls bl.{room}.{name}, which is not public"
    known = set(inspect.signature(getattr(ROOMS[room], name)).parameters)
    given = {keyword.arg for keyword in call.keywords}
    assert given <= known, f"{page.name} gives bl.{room}.{name} {sorted(map(str, given - known))}, which it lacks"


MOST_WORDS = 30
"""The most words that a sentence may have for someone who reads it once."""


def _listed(page: Path, caption: str = "") -> list[Path]:
    """The pages that the lists of contents on a page name, and those that these name in turn."""
    found: list[Path] = []
    for options, names in re.findall(r"^```\{toctree\}\n((?::.*\n)*)\n([^`]*)^```", page.read_text("utf-8"), re.M):
        if f":caption: {caption}" in options or not caption:
            for name in names.split():
                found += sorted(page.parent.glob(f"{name}.md"))
                found += sorted((ROOT / "tutorials").glob("*.ipynb")) if name == "*" else []
    found = [path for path in found if path != page]
    return [*found, *(path for listed in found if listed.suffix == ".md" for path in _listed(listed))]


USE_IT = [ROOT / "README.md", *_listed(DOCS / "index.md", "Use it")]


def test_the_pages_to_use_it_are_all_found() -> None:
    names = {path.name for path in USE_IT}
    assert {"README.md", "concepts.md", "fields.md", "study_tissues.md", "00_quickstart.md"} <= names
    assert any(name.endswith(".ipynb") for name in names)


@pytest.mark.parametrize("page", USE_IT, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_sentence_on_the_pages_to_use_it_is_long(page: Path) -> None:
    sentences = list(plain_words.of_page(page))
    assert len(sentences) > 3
    assert plain_words.longer_than(MOST_WORDS, sentences) == []


@pytest.mark.parametrize(("room", "name"), PUBLIC, ids=[f"{room}.{name}" for room, name in PUBLIC])
def test_no_sentence_of_a_docstring_is_long(room: str, name: str) -> None:
    sentences = list(plain_words.of_docstring(inspect.getdoc(getattr(ROOMS[room], name)) or ""))
    assert sentences
    assert plain_words.longer_than(MOST_WORDS, sentences) == []


def test_a_heading_of_a_docstring_stands_on_its_own_line() -> None:
    """Filled up like a paragraph, ``Notes -----`` is no heading: the page shows the section under the one before."""
    heading = re.compile(r"^ *[A-Z][a-z]+(?: [A-Z][a-z]+)? -{3,}(?: |$)", re.M)
    assert heading.search("    Notes ----- A sentence.")
    assert not heading.search("    Notes\n    -----\n    A sentence.")
    sources = (ROOT / "src").rglob("*.py")
    assert [path.name for path in sources if heading.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("described", [bl.report, type(bl.settings)], ids=["report", "settings"])
def test_no_sentence_of_the_report_and_of_the_settings_is_long(described: object) -> None:
    assert plain_words.longer_than(MOST_WORDS, plain_words.of_docstring(inspect.getdoc(described) or "")) == []


def test_words_are_counted_as_a_reader_would() -> None:
    page = """# A heading

One two (three), `code = 4`; *five* – [six seven](page.md) $x + y$. Next of et al. 2020 here.

- an item
  of five words

| two words | a cell of five words |
|---|---|

```python
not_a = "sentence"
```
"""
    counted = [plain_words.n_words(sentence) for sentence in plain_words.of_markdown(page)]
    assert counted == [2, 8, 6, 5, 2, 5]
    docstring = """Summary of four words.

    Parameters
    ----------
    name
        One two :func:`three` ``four
        five``.
    other
        - One two
          three.
        - Four.

    Examples
    --------
    >>> not_a = "sentence"
    """
    counted = [plain_words.n_words(sentence) for sentence in plain_words.of_docstring(inspect.cleandoc(docstring))]
    assert counted == [4, 4, 3, 1]
    assert plain_words.longer_than(2, iter(["one two", "one two three"])) == ["3 words: one two three"]


def test_the_arguments_under_headings_are_those_of_the_signature() -> None:
    groups = runpy.run_path(str(DOCS / "_ext" / "argument_groups.py"))["GROUPS"]
    assert "bleep_sc.tl.fit" in groups
    for name, headings in groups.items():
        room, function = name.removeprefix("bleep_sc.").split(".")
        signature = inspect.signature(getattr(ROOMS[room], function))
        assert [argument for arguments in headings.values() for argument in arguments] == list(signature.parameters)


def _conf() -> dict[str, object]:
    path = list(sys.path)
    try:
        return runpy.run_path(str(DOCS / "conf.py"))
    finally:
        sys.path[:] = path


def test_no_warning_of_a_broken_link_to_our_own_names_is_silenced() -> None:
    conf = _conf()
    assert conf["nitpicky"] is True
    assert "nitpick_ignore" not in conf
    assert "suppress_warnings" not in conf
    ours = ["bleep_sc", *(f"bleep_sc.{room}" for room in ROOMS), *(f"bleep_sc.{room}.{name}" for room, name in PUBLIC)]
    ours += [f"bleep_sc.{room}._{name}.{name}" for room, name in PUBLIC] + [f"{room}.{name}" for room, name in PUBLIC]
    ours += [name for _, name in PUBLIC] + ["bleep_sc._settings.Settings", "bleep_sc.settings", "settings"]
    assert len(conf["nitpick_ignore_regex"]) > 0
    for kind, target in conf["nitpick_ignore_regex"]:
        for name in ours:
            for role in ("func", "class", "obj", "data", "mod", "attr"):
                assert not (re.fullmatch(kind, f"py:{role}") and re.fullmatch(target, name)), (target, name)


def test_other_packages_pages_are_asked_for_only_where_a_network_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("READTHEDOCS", "DOCS_ONLINE"):
        monkeypatch.delenv(name, raising=False)
    assert "sphinx.ext.intersphinx" not in _conf()["extensions"]
    for name, value in (("READTHEDOCS", "True"), ("DOCS_ONLINE", "1")):
        with monkeypatch.context() as declared:
            declared.setenv(name, value)
            assert "sphinx.ext.intersphinx" in _conf()["extensions"]


CONFIGURATION = sorted(
    path
    for pattern in (
        ".github/**/*.y*ml",
        ".pre-commit-config.yaml",
        ".readthedocs.yaml",
        "CITATION.cff",
        "docs/**/*.yaml",
    )
    for path in ROOT.glob(pattern)
    if "_build" not in path.parts
)


@pytest.mark.parametrize("path", CONFIGURATION, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_yaml_can_be_read(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


@pytest.mark.parametrize("path", sorted(ROOT.glob(".github/workflows/*.yaml")), ids=lambda path: path.name)
def test_workflows_pin_what_they_run_and_ask_for_little(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    used = re.findall(r"uses: (\S+)", text)
    assert used
    for action in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), f"{action} is not pinned by its commit"
    assert "permissions" in yaml.safe_load(text)


def test_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == PROJECT["authors"]


def test_entry_for_the_scverse_fits_the_project() -> None:
    entry = yaml.safe_load((DOCS / "scverse" / "meta.yaml").read_text(encoding="utf-8"))
    required = {"name", "description", "project_home", "documentation_home", "license", "tags", "primary_category"}
    assert required | {"language", "category", "install"} <= set(entry)
    assert entry["name"] == entry["install"]["pypi"] == PROJECT["name"]
    assert entry["license"] == PROJECT["license"]
    assert entry["project_home"] == PROJECT["urls"]["Source"]


def test_contributing_says_the_readmes_test_command() -> None:
    commands = re.findall(r"```bash\n(.*?)\n```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert f"```bash\n{commands[1]}\n```" in contributing


NOTEBOOK = """{"cells": [{"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["# A tutorial"]},
{"cell_type": "code", "id": "b", "execution_count": 1, "metadata": {}, "source": ["1 / 0"],
"outputs": [{"output_type": "stream", "name": "stdout", "text": ["stored\\n"]}]}],
"metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}, "language_info": {"name": "python"}},
"nbformat": 4, "nbformat_minor": 5}"""


@pytest.mark.slow
def test_the_pages_build_without_a_warning_and_hold_every_public_name(tmp_path: Path) -> None:
    pytest.importorskip("sphinx_book_theme", reason='the documentation needs `pip install ".[docs]"`')
    from sphinx.util.inventory import InventoryFile

    generated = shutil.ignore_patterns("_build", "generated", "__pycache__", "*.ipynb")
    shutil.copytree(DOCS, tmp_path / "docs", ignore=generated)
    for path in [*ROOT.glob("*.md"), ROOT / "pyproject.toml"]:
        shutil.copy(path, tmp_path)
    shutil.copytree(ROOT / "benchmarks" / "results", tmp_path / "benchmarks" / "results")
    (tmp_path / "tutorials").mkdir()
    linked_to = [path.name for path in (ROOT / "tutorials").glob("*.ipynb")]
    for name in ["01_a_tutorial.ipynb", *linked_to]:  # pages name real ones; what is in them does not matter here
        (tmp_path / "tutorials" / name).write_text(NOTEBOOK)

    html = tmp_path / "html"
    command = [sys.executable, "-m", "sphinx", "-W", "-n", "--keep-going", "-q", "-b", "html", "docs", str(html)]
    environment = {key: value for key, value in os.environ.items() if key not in ("READTHEDOCS", "DOCS_ONLINE")}
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert run.returncode == 0, run.stderr

    with (html / "objects.inv").open("rb") as file:
        inventory = InventoryFile.load(file, "", lambda base, uri: uri)
    for room, name in PUBLIC:
        found = inventory["py:function"][f"bleep_sc.{room}.{name}"]
        assert found.uri == f"api/generated/bleep_sc.{room}.{name}.html#bleep_sc.{room}.{name}"
    fit = (html / "api" / "generated" / "bleep_sc.tl.fit.html").read_text(encoding="utf-8")
    assert re.findall(r'class="argument-group rubric">([^<]*)<', fit)[:2] == ["What to train", "Data"]
    assert re.search(r"<li><p>Fewer than 16 spots in all\.</p></li>\s*<li><p>", fit), "reasons for an error are a list"
    fields = (html / "fields.html").read_text(encoding="utf-8")
    assert 'href="api/generated/bleep_sc.tl.impute.html#bleep_sc.tl.impute"' in fields
    tutorial = (html / "tutorials" / "01_a_tutorial.html").read_text(encoding="utf-8")
    assert "stored" in tutorial, "outputs are those of the notebook"
    assert "ZeroDivisionError" not in tutorial, "no notebook is run"
    assert "01_a_tutorial.html" in (html / "index.html").read_text(encoding="utf-8")
