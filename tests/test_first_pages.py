"""What people meet first: the messages that the page of troubleshooting quotes, the pictures, the gallery."""

import ast
import re
from pathlib import Path

import pytest
from gallery import PICTURES

import bleep_sc as bl

ROOT = Path(__file__).parents[1]
STATIC = ROOT / "docs" / "_static"
QUOTED = re.findall(r"```text\n(.*?)\n```", (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8"), re.S)


def _texts(path: Path) -> list[str]:
    """All texts of a file of Python, with … for what is filled in later; names of constant texts are filled in."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }

    def written(part: ast.expr) -> str:
        if isinstance(part, ast.Constant):
            return str(part.value)
        named = isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Name)
        return constants.get(part.value.id, "…") if named else "…"  # type: ignore[attr-defined]

    return ["".join(map(written, node.values)) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)] + [
        node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [text for path in (ROOT / "src").rglob("*.py") for text in _texts(path)]


def test_eleven_messages_are_quoted() -> None:
    assert len(QUOTED) == 11


@pytest.mark.parametrize("quoted", QUOTED)
def test_the_package_says_what_the_page_quotes(quoted: str, texts: list[str]) -> None:
    assert any(text.startswith(quoted.removesuffix(" …")) for text in texts), f"no message begins: {quoted}"


def test_the_gallery_shows_every_plot_by_its_line() -> None:
    assert set(PICTURES) == set(bl.pl.__all__)
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    for name, drawn in PICTURES.items():
        assert f"\n{drawn.line(name)}" in page, name
        assert f"_static/gallery/{name}.webp" in page
        assert (STATIC / "gallery" / f"{name}.webp").exists()


def test_the_pictures_are_small() -> None:
    gallery = [path.stat().st_size for path in (STATIC / "gallery").iterdir()]
    assert sum(gallery) < 2_000_000
    assert (STATIC / "front.webp").stat().st_size < 400_000


def test_readme_names_only_files_that_are_there() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"\]\(([^)#:]+)\)|src=\"([^\":]+)\"", text)
    assert len(named) >= 5
    for path in ("".join(pair) for pair in named):
        assert (ROOT / path).exists(), path
