"""Settings of Sphinx, which builds the pages of this folder: `sphinx-build -W -b html docs site`."""

from __future__ import annotations

from typing import Any

from pygments.lexers.special import TextLexer

from hfmem import __version__

project = "hfmem"
author = "The hfmem developers"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4
nitpicky = False
exclude_patterns = ["conf.py"]

html_theme = "furo"
html_title = "hfmem"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_format = "short"

linkcheck_timeout = 10
linkcheck_retries = 1
linkcheck_rate_limit_timeout = 5
linkcheck_anchors = False  # pages that are made by scripts have none before they run


def _inside(_app: Any, _name: str, source: list[str]) -> None:
    """Links out of this folder, as they are right in the repository, lead to the page that includes the file."""
    source[0] = source[0].replace("](../CONTRIBUTING.md", "](contributing.md")


def setup(app: Any) -> None:
    """What Sphinx calls."""
    app.connect("source-read", _inside)
    app.add_lexer("csv", TextLexer)
