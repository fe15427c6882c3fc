"""Sentences of pages and docstrings, and how many words they have."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

BREAK = "\n\n"
_FENCE = re.compile(r"^( *)(`{3,}|~{3,})(.*?)\n(.*?)^\1\2[ ]*$", re.M | re.S)
_PROSE_IN_FENCES = ("note", "tip", "warning", "important", "admonition", "dropdown", "details", "caution")
_ABBREVIATED = re.compile(r"\b(et al|e\.g|i\.e|vs|cf|ca|Fig|Nat)\.")
_END = re.compile(r"(?<=[.!?])[\"')\]*_”]*\s+(?=[\"'(\[*_“]*[^\s])")


def of_page(path: Path) -> Iterator[str]:
    """Yield the sentences of a page, with what it includes: Markdown, or the text of a notebook."""
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        text = BREAK.join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    else:
        text = path.read_text(encoding="utf-8")
    for included in re.findall(r"^```\{include\} (\S+)$", text, re.M):
        yield from of_page(path.parent / included)
    yield from of_markdown(text)


def of_markdown(text: str) -> Iterator[str]:
    """Yield the sentences of a page of Markdown; each cell of a table, item of a list and heading is one by itself."""
    text = re.sub(r"\A---\n.*?\n---\n|<!--.*?-->", BREAK, text, flags=re.S)
    text = _FENCE.sub(lambda found: BREAK + (found[4] if _is_prose(found[3]) else "") + BREAK, text)
    text = re.sub(r"\$\$.*?\$\$", BREAK, text, flags=re.S)  # a displayed formula
    text = re.sub(r"(?<![\\$])\$[^$\n]+\$", "x", text)  # one in the text is a word
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", BREAK, text)
    text = re.sub(r"\{[\w:]+\}`[^`]*`", "x", text)
    text = re.sub(r"(`+)[^`].*?\1", "x", text, flags=re.S)  # so is a piece of code
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", lambda link: link[1] or "x", text)
    text = re.sub(r"</?\w[^>]*>", BREAK, text)
    text = re.sub(r"^ *\(.*\)=$|^ *:{3,}.*$|^ *:[\w-]+:.*$|^\s*\|?[-:| ]+\|?$", BREAK, text, flags=re.M)
    text = re.sub(r"^(#+) (.*)$", BREAK + r"\2" + BREAK, text, flags=re.M)
    text = re.sub(r"^ *\|(.*)\|$", lambda row: BREAK + row[1].replace("|", BREAK) + BREAK, text, flags=re.M)
    yield from _sentences(text)


def _is_prose(info: str) -> bool:
    return any(info.strip().startswith("{" + name) for name in _PROSE_IN_FENCES)


def of_docstring(text: str) -> Iterator[str]:
    """Yield the sentences of a docstring in numpydoc style, all but its examples."""
    text = re.split(r"^Examples\n-+$", text, maxsplit=1, flags=re.M)[0]
    text = re.sub(r"^.+\n-{3,}$", BREAK, text, flags=re.M)  # the name of a section
    rule = r"^ *=+(?: +=+)+$"
    text = re.sub(rf"{rule}.*?{rule}.*?{rule}", BREAK, text, flags=re.M | re.S)  # a table
    text = re.sub(r":[\w:]+:`[^`]*`", "x", text)
    text = re.sub(r"``.+?``|`.+?`(?:_+)?", "x", text, flags=re.S)
    # what a section describes is a line of its own, with a deeper one below
    text = re.sub(r"^( *)(\S.*)\n(?=\1 +\S)", lambda head: _head(head[0]), text, flags=re.M)
    yield from _sentences(text)


def _head(line: str) -> str:
    """A name with its type is no sentence; the first line of a list's item is the beginning of one."""
    return line if re.match(r" *(?:[-*]|\d+\.) ", line) else BREAK


def _sentences(text: str) -> Iterator[str]:
    text = _ABBREVIATED.sub(r"\1", text)
    text = re.sub(r"^ *(?:[-*+]|\d+\.) ", BREAK, text, flags=re.M)
    for block in re.split(r"\n\s*\n", text):
        yield from (sentence for part in _END.split(block) if (sentence := " ".join(part.split())))


def n_words(sentence: str) -> int:
    """Count what has a letter or a digit; signs between words are none."""
    return sum(any(map(str.isalnum, word)) for word in sentence.split())


def longer_than(most: int, sentences: Iterable[str]) -> list[str]:
    """List the sentences of more than so many words, each with its number of words."""
    return [f"{n} words: {sentence}" for sentence in sentences if (n := n_words(sentence)) > most]
