"""Headings between groups of arguments, on the pages of functions with many."""

from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "bleep_sc.tl.fit": {
        "What to train": ("adata", "method", "preset", "encoder", "view", "weights"),
        "Data": (
            *("image_key", "layer", "use_rep", "mask_var", "library_key", "patient_key"),
            *("validation_key", "validation_share", "check"),
        ),
        "Settings of the model": (
            *("temperature", "dim", "dropout", "members", "context", "hidden", "depth", "window", "alpha"),
            "n_components",
        ),
        "Training": (
            *("batch_size", "accumulate", "lr", "weight_decay", "max_epochs", "patience", "optimizer"),
            "random_state",
        ),
        "Computing": ("device", "precision", "progress_bar", "devices", "num_nodes", "strategy", "checkpoint_dir"),
        "Result": ("key_added", "copy"),
    }
}
"""The arguments of a function under their headings, in the order of its signature."""


def _put_headings(app: Sphinx, doctree: nodes.document) -> None:
    """Divide the list of parameters that Sphinx has made of a docstring."""
    for description in doctree.findall(addnodes.desc):
        groups = GROUPS.get(next(iter(description[0].get("ids", ())), ""))
        if groups is None:
            continue
        for field in description.findall(nodes.field):
            if field[0].astext() == "Parameters":
                (whole,) = field[1].children
                field[1].replace(whole, _divided(list(whole.children), groups))


def _divided(items: list[nodes.Node], groups: dict[str, tuple[str, ...]]) -> list[nodes.Node]:
    named = {next(iter(item.findall(nodes.strong))).astext(): item for item in items}
    parts: list[nodes.Node] = []
    for heading, names in groups.items():
        parts.append(nodes.rubric("", heading, classes=["argument-group"]))
        parts.append(nodes.bullet_list("", *(named.pop(name) for name in names)))
    if named:
        msg = f"arguments under no heading in {__file__}: {', '.join(named)}"
        raise ValueError(msg)
    return parts


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this."""
    app.connect("doctree-read", _put_headings)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
