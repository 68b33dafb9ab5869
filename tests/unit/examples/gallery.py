"""Renders the gallery of templates with the command line, as its users do."""

import subprocess
import sys
from pathlib import Path

GALLERY = Path(__file__).parents[3] / "examples/templates"
TEMPLATES = sorted(path.name for path in GALLERY.glob("*.j2"))


def render(name: str, *options: str, variables: str = "vars.yaml") -> str:
    """Render a template of the gallery with the variables of the gallery and further options."""
    command = [sys.executable, "-m", "infrakit", "template", str(GALLERY / name)]
    given = ["--vars", str(GALLERY / variables)] if variables else []
    done = subprocess.run([*command, *given, *options], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
