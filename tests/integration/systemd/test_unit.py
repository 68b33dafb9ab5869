"""The unit is one that systemd understands, and the page tells how to install it: done here, below a directory."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs import pages
from tests.docs.pages import ROOT

PACKAGED = ROOT / "packaging/systemd"
PAGE = ROOT / "docs/operations/systemd.md"
INFRAKIT = Path(sys.executable).with_name("infrakit")
DEADLINE_S = 60


def verified(text: str, directory: Path) -> str:
    """What systemd says of a unit; nothing if it is right."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("install systemd-analyze: apt-get install systemd")
    unit = directory / "infrakit.service"
    unit.write_text(text.replace("/usr/local/bin/infrakit", str(INFRAKIT)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--generators=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    return f"{done.stdout}{done.stderr}" or "wrong" * done.returncode


def settings(text: str) -> dict[str, str]:
    """`Name=value` lines of a unit or of an environment file, commented out or not."""
    return dict(re.findall(r"^#?(\w+)=(.*)$", text, re.MULTILINE))


@pytest.fixture
def unit() -> str:
    return (PACKAGED / "infrakit.service").read_text()


def test_systemd_understands_every_line(unit: str, tmp_path: Path) -> None:
    assert verified(unit, tmp_path) == ""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("KillMode=", "KilMode="), ("=always", "=allways"), ("ExecStart=/", "ExecStart=/missing/"), ("=30s", "=soon")],
)
def test_a_line_that_is_wrong_is_noticed(unit: str, tmp_path: Path, right: str, wrong: str) -> None:
    assert right in unit
    assert verified(unit.replace(right, wrong), tmp_path)


def test_what_makes_instances_survive(unit: str) -> None:
    """What must be so for `local`, whose instances are children in the control group of the daemon."""
    told = settings(unit)
    assert (told["KillMode"], told["OOMPolicy"], told["Restart"]) == ("process", "continue", "always")
    assert "PrivateTmp" not in told
    assert "MemoryMax" not in told


def test_every_variable_of_the_environment_file_is_one_that_is_read() -> None:
    named = settings((PACKAGED / "infrakit.env").read_text())
    guide = (ROOT / "docs/guide.md").read_text()
    assert {"INFRAKIT_STORE", "INFRAKIT_LEADERSHIP", "INFRAKIT_NAME", "INFRAKIT_OPTIONS"} <= named.keys()
    assert not [name for name in named.keys() - {"INFRAKIT_OPTIONS"} if f"`{name}`" not in guide]


def test_the_options_in_it_exist() -> None:
    options = re.findall(r"--[\w-]+", settings((PACKAGED / "infrakit.env").read_text())["INFRAKIT_OPTIONS"])
    told = subprocess.run([INFRAKIT, "up", "--help"], capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    assert options
    assert not [option for option in options if option not in told.stdout]


def test_installing_it_as_the_page_says(tmp_path: Path) -> None:
    """With stand-ins for what needs root or a network, and every path moved below a directory."""
    block = next(each for each in pages.blocks(PAGE) if "useradd" in each.text)
    programs, called = tmp_path / "bin", tmp_path / "called"
    programs.mkdir()
    for name in ("useradd", "systemctl", "python3"):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {called}\n')
        (programs / name).chmod(0o755)
    pip = tmp_path / "usr/local/lib/infrakit/bin/pip"
    pip.parent.mkdir(parents=True)
    shutil.copy(programs / "useradd", pip)
    (tmp_path / "usr/local/bin").mkdir()
    script = re.sub(r"(?<=\s)/(?=usr/local|etc)", f"{tmp_path}/", block.text)
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["/bin/sh", "-e", "-c", script], cwd=ROOT, env=environment, timeout=DEADLINE_S, check=True)
    installed = tmp_path / "etc/systemd/system/infrakit.service"
    assert installed.read_text() == (PACKAGED / "infrakit.service").read_text()
    assert (tmp_path / "etc/infrakit/infrakit.env").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "usr/local/bin/infrakit").is_symlink()
    user = settings(installed.read_text())["User"]
    assert re.search(rf"^useradd .* {user}$", called.read_text(), re.MULTILINE)
    assert "systemctl enable --now infrakit\n" in called.read_text()
