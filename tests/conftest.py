"""Set-up that every test relies on, however the tests were started."""

import shutil
import signal
import subprocess
from pathlib import Path

import hypothesis
import pytest

UNIT = Path(__file__).parent / "unit"

# Tests that a script starts in the background inherit that SIGINT is ignored, and so would every program they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# No test asserts a duration, because the machine may be busy.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Measure the coverage of the unit tests only: the long ones run through all the code, and claim less of it."""
    for item in items:
        if not item.path.is_relative_to(UNIT):
            item.add_marker(pytest.mark.no_cover)


def pytest_report_header() -> list[str]:
    """The versions of the components on PATH that tests run against."""
    return [_version("etcd", "--version"), _version("dockerd", "--version"), _version("node", "--version")]


def _version(program: str, option: str) -> str:
    path = shutil.which(program)
    if path is None:
        return f"{program}: none"
    done = subprocess.run([path, option], capture_output=True, text=True, timeout=30, check=False)
    return f"{program}: {(done.stdout or done.stderr).partition(chr(10))[0]} ({path})"
