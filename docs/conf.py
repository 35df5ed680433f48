"""The docs site: ``.venv/bin/sphinx-build -W docs build/docs``; with ``-b man`` the manual page."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

project = "vmcloud"
author = "the authors of vmcloud"
release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
extensions = ["myst_parser", "sphinx_click", "sphinx_copybutton"]
root_doc = "index"
nitpicky = True
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
highlight_language = "none"
html_theme = "furo"
html_title = f"vmcloud {release}"
html_show_sphinx = html_show_copyright = html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}
copybutton_exclude = ".linenos, .gp, .go"
man_pages = [("cli", "vmcloud", "manage a private cloud from the command line", author, 1)]
