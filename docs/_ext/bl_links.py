"""Code such as `bl.pp.crops` becomes a link to that function's page."""

import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

import bleep_sc

_NAME = re.compile(r"bl\.(\w+)\.(\w+)")


class BlLinks(SphinxTransform):
    """Turns the names of public functions in running text into references."""

    default_priority = 500

    def apply(self, **kwargs: Any) -> None:
        """Go through the code in a page's text."""
        for literal in list(self.document.findall(nodes.literal)):
            name = _NAME.fullmatch(literal.astext())
            if name is None or not hasattr(getattr(bleep_sc, name[1], None), name[2]):
                continue
            if isinstance(literal.parent, nodes.reference | nodes.title | addnodes.pending_xref):
                continue
            reference = addnodes.pending_xref(
                "", refdomain="py", reftype="obj", reftarget=f"bleep_sc.{name[1]}.{name[2]}", refwarn=True
            )
            reference["refdoc"] = self.env.docname
            literal.replace_self(reference)
            reference += literal


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this."""
    app.add_transform(BlLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
