"""How Sphinx builds the manual; the pages read well unbuilt, too."""

import infrakit

project = "InfraKit"
author = "The InfraKit authors"
copyright = f"2026, {author}"
version = release = infrakit.__version__

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
suppress_warnings = ["misc.highlighting_failure"]  # JSON answers of several lines are shown as consoles print them

html_theme = "furo"
html_title = f"InfraKit {version}"
