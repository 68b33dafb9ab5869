"""The image of a node has the requirements of its own Python, whichever Python builds it."""

import re
import subprocess
import sys

import pytest

from tests.docs.pages import ROOT

RUN = ROOT / "requirements/run.txt"


def needed(version: str) -> set[str]:
    command = [sys.executable, str(ROOT / "packaging/node-image/requirements.py"), version, str(RUN)]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert ";" not in printed
    return set(re.findall(r"^(\S+)==\S+ \\\n {4}--hash=sha256:[0-9a-f]{64}", printed, re.MULTILINE))


@pytest.mark.parametrize(("version", "has"), [("3.11", True), ("3.12", True), ("3.13", False)])
def test_markers_are_evaluated_for_the_requested_version_of_python(version: str, *, has: bool) -> None:
    assert ("typing-extensions" in needed(version)) is has
    assert needed(version) >= {"aiohttp", "aiodocker", "click", "msgspec"}


def test_every_requirement_without_a_marker_is_included() -> None:
    listed = {line.split("==")[0] for line in RUN.read_text().splitlines() if re.match(r"[a-z][^;]*$", line)}
    assert needed("3.11") >= listed
