"""The "Returns" section of docstrings as it stands.

Napoleon takes the first line of it for a type. Here it is a sentence, and below it a list of the fields that are set.
"""

from typing import Any

from sphinx.application import Sphinx
from sphinx.ext.napoleon import NumpyDocstring


def _as_it_stands(self: NumpyDocstring, section: str) -> list[str]:
    text = self._dedent(self._consume_to_next_section())
    if text and text[0] == ":":  # sphinx_autodoc_typehints puts it there, for Napoleon's own reading
        text = text[1:]
    return [*self._format_block(":returns: ", text), ""]


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this."""
    NumpyDocstring._parse_returns_section = _as_it_stands  # type: ignore[method-assign]
    return {"parallel_read_safe": True, "parallel_write_safe": True}
