"""The "Returns" and "Raises" sections of docstrings as they stand.

Napoleon takes the first line of "Returns" for a type. Here it is a sentence, and below it a list of the fields that are
set. Of an exception it makes a single line with breaks in it, so that a list of reasons would become one paragraph.
"""

from typing import Any

from sphinx.application import Sphinx
from sphinx.ext.napoleon import NumpyDocstring


def _as_it_stands(self: NumpyDocstring, section: str) -> list[str]:
    text = self._dedent(self._consume_to_next_section())
    if text and text[0] == ":":  # sphinx_autodoc_typehints puts it there, for Napoleon's own reading
        text = text[1:]
    return [*self._format_block(":returns: ", text), ""]


_raises_in_one_line = NumpyDocstring._parse_raises_section


def _line_by_line(self: NumpyDocstring, section: str) -> list[str]:
    return [line for field in _raises_in_one_line(self, section) for line in field.split("\n")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this."""
    NumpyDocstring._parse_returns_section = _as_it_stands  # type: ignore[method-assign]
    NumpyDocstring._parse_raises_section = _line_by_line  # type: ignore[method-assign]
    return {"parallel_read_safe": True, "parallel_write_safe": True}
