"""Sphinx builds the site from these pages: ``make docs``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import wagtail_live  # its folder is on the path only now

project = "wagtail-live-content"
author = "The wagtail-live-content contributors"
copyright = "2026, the wagtail-live-content contributors"
version = release = wagtail_live.__version__

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist", "linkify"]
myst_heading_anchors = 3
myst_links_external_new_tab = False
# Only what says http:// is a link: file names (settings.py, demo.py) look like host names too.
myst_linkify_fuzzy_links = False

exclude_patterns = ["_build", "images/README.md"]
nitpicky = True
html_theme = "furo"
html_title = f"{project} {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sourcelink = False
