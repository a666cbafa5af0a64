"""How Sphinx builds the site: see `scripts/docs`. The pages are those of the repository, and stay where they are."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from sphinx.application import Sphinx

from documentation.pages import prepare_page
from documentation.plain_text import write_plain_text

project = "duramen"
author = "the authors of duramen"
project_copyright = author
extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "docs/index"
include_patterns = ["docs/**", "*.md"]
exclude_patterns = [".*", "build", "dist", "*.egg-info"]
# Links to headings work as on the usual hosts of Markdown.
myst_heading_anchors = 6
# Docstrings set names in single backticks.
default_role = "code"
add_module_names = False
autodoc_member_order = "bysource"
# The sidebar of each page would carry every method of the library.
toc_object_entries = False
html_theme = "furo"
html_title = "duramen"
html_show_sphinx = False
html_copy_source = False
html_permalinks_icon = "#"
pygments_style = "friendly"
pygments_dark_style = "github-dark"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#8a4f14", "color-brand-content": "#8a4f14"},
    "dark_css_variables": {"color-brand-primary": "#dfa05a", "color-brand-content": "#dfa05a"},
}


def setup(app: Sphinx) -> None:
    app.connect("source-read", prepare_page)
    app.connect("build-finished", write_plain_text)
