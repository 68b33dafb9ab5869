"""The man pages and completions that packages install match the code, and their programs accept them."""

import importlib
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from tests import source
from tests.docs.pages import ROOT

MAN = sorted((ROOT / "packaging/man").iterdir())
COMPLETIONS = sorted((ROOT / "packaging/completions").iterdir())
DEADLINE_S = 30


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "docs")
    return importlib.import_module("installed")


def test_every_file_matches_the_code(installed: ModuleType) -> None:
    with source.uncollected():
        rendered: dict[Path, str] = installed.render()
    assert sorted(rendered) == sorted([*MAN, *COMPLETIONS])
    assert not [path.name for path, text in rendered.items() if path.read_text() != text], "make docs"


@pytest.mark.parametrize("path", MAN, ids=lambda path: path.name)
def test_man_pages_pass_the_linter(path: Path) -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("install mandoc: apt-get install mandoc")
    command = ["mandoc", "-T", "lint", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    accepted = (
        "missing date",
        "longer than 80 bytes",
    )  # a date would change without the text; sentences have a line each
    assert not [line for line in done.stdout.splitlines() if not any(each in line for each in accepted)]


def test_special_characters_are_escaped_in_man_pages(installed: ModuleType) -> None:
    """Characters that man(7) would interpret are shown to the reader as they are."""
    table = "| field | what | default | meaning |\n| --- | --- | --- | --- |\n| `--a` | text | `-1` | .b's \\| `c` |"
    assert list(installed._roff(table)) == [
        ".TP",
        "\\fB\\-\\-a\\fR (text, default \\fB\\-1\\fR)",
        "\\&.b\\(aqs | \\fBc\\fR",
    ]
    assert list(installed._roff("```sh\n.x 'y'\n```"))[3] == "\\&.x \\(aqy\\(aq"


@pytest.mark.parametrize("path", COMPLETIONS, ids=lambda path: path.name)
def test_shells_accept_their_completions(path: Path) -> None:
    shell = path.suffix.removeprefix(".")
    if shutil.which(shell) is None:
        pytest.skip(f"install {shell}: apt-get install {shell}")
    subprocess.run([shell, "-n", str(path)], timeout=DEADLINE_S, check=True)
