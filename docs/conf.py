"""The Sphinx configuration of the manual. The pages are also readable without Sphinx."""

import infrakit

project = "InfraKit"
author = "The InfraKit authors"
copyright = f"2026, {author}"
version = release = infrakit.__version__

extensions = ["myst_parser", "sphinx_copybutton"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
suppress_warnings = ["misc.highlighting_failure"]  # JSON output over several lines is shown as in a console

smartquotes = False  # options begin with two hyphens, also in headings, and commands are copied

# A button copies the commands of a block, without prompts and output.
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
copybutton_copy_empty_lines = False
copybutton_line_continuation_character = "\\"

html_theme = "furo"
html_title = f"InfraKit {version}"
