"""How Sphinx builds the documentation: `make docs`. Warnings are errors; pages load nothing from other hosts."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

project = "auditcore"
author = "the auditcore authors"
version = release = installed_version("auditcore")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
root_doc = "index"
exclude_patterns = ["_build"]

myst_heading_anchors = 3
autodoc_typehints = "none"

html_theme = "pydata_sphinx_theme"
html_title = "auditcore"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navbar_align": "left",
    "show_toc_level": 2,
    "navigation_depth": 2,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}


def write_reference(app: Sphinx) -> None:
    """Write the generated pages before Sphinx looks for sources."""
    from reference_pages import write_pages  # noqa: PLC0415 - it lies beside this file, which is on no path before

    write_pages(Path(app.srcdir) / "reference")


def setup(app: Sphinx) -> None:
    """Register what this project adds to Sphinx."""
    app.connect("builder-inited", write_reference)
