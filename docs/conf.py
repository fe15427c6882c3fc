"""How the documentation is built; CONTRIBUTING.md says by which command.

A build needs no network. Links into the documentation of other packages are made only where a network is declared: on
Read the Docs, or with DOCS_ONLINE=1.
"""

import os
import shutil
import sys
import tomllib
import warnings
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE / "_ext"))

_package = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
project = _package["name"]
author = _package["authors"][0]["name"]
release = version = _package["version"]
copyright = f"2026, {author}"

# other packages' warnings, by name
warnings.filterwarnings("ignore", module="sphinx_autodoc_typehints", message=".*set_application")
warnings.filterwarnings("ignore", module="docrep", category=SyntaxWarning)

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_autodoc_typehints",
    "sphinx_copybutton",
    "sphinxcontrib.bibtex",
    "argument_groups",
    "bl_links",
    "command_line",
    "mathml",
    "written_fields",
]
exclude_patterns = ["_build", "_ext", "**.ipynb_checkpoints"]
templates_path = ["_templates"]
language = "en"
nitpicky = True

# names of other packages, which an offline build cannot look up; never one of our own
nitpick_ignore_regex = [
    (
        r"py:.*",
        r"(anndata|collections|dask|matplotlib|numpy|os|pandas|pathlib|scipy|spatialdata|squidpy|typing|xarray)\..+",
    ),
    (r"py:data", r"Ellipsis"),
]
if os.environ.get("READTHEDOCS") == "True" or os.environ.get("DOCS_ONLINE") == "1":
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "anndata": ("https://anndata.readthedocs.io/en/stable", None),
        "matplotlib": ("https://matplotlib.org/stable", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "pandas": ("https://pandas.pydata.org/docs", None),
        "scanpy": ("https://scanpy.readthedocs.io/en/stable", None),
        "scipy": ("https://docs.scipy.org/doc/scipy", None),
        "spatialdata": ("https://spatialdata.scverse.org/en/stable", None),
        "squidpy": ("https://squidpy.readthedocs.io/en/stable", None),
    }

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
myst_update_mathjax = False
nb_execution_mode = "off"  # notebooks are stored with their outputs
bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "plain"
bibtex_reference_style = "author_year"

default_role = "literal"  # in docstrings, `adata.X` is code
autosummary_generate = True
autosummary_ignore_module_all = False  # what a module's __all__ names is what it offers
autosummary_context = {
    "rooms": {
        "bleep_sc.pp": "Preprocessing: `pp`",
        "bleep_sc.tl": "Tools: `tl`",
        "bleep_sc.pl": "Plotting: `pl`",
        "bleep_sc.datasets": "Data sets: `datasets`",
        "bleep_sc.io": "Files and other programs: `io`",
        "bleep_sc.metrics": "Scores of arrays: `metrics`",
    }
}
autodoc_typehints = "none"  # sphinx_autodoc_typehints puts them beside the parameters
always_use_bars_union = True
typehints_defaults = "braces"
napoleon_google_docstring = False

html_theme = "sphinx_book_theme"
html_title = f"bleep-sc {release}"
html_static_path = ["_static"]
html_logo = "_static/logo.svg"
html_favicon = "_static/logo.svg"
html_css_files = ["custom.css"]
html_show_sourcelink = False
html_copy_source = False
html_math_renderer = "mathml"
html_theme_options = {
    "logo": {"text": html_title},
    "navbar_persistent": [],  # the search field stands in the side bar
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "navigation_with_keys": False,
}


def setup(_: object) -> None:
    """Copy the notebooks of tutorials/, which lie outside of docs/, to where Sphinx then looks for pages."""
    target = HERE / "tutorials"
    notebooks = {path.name: path for path in (ROOT / "tutorials").glob("*.ipynb")}
    for copied in target.glob("*.ipynb"):
        if copied.name not in notebooks:
            copied.unlink()
    for name, path in notebooks.items():
        if not (target / name).exists() or (target / name).read_bytes() != path.read_bytes():
            shutil.copyfile(path, target / name)
