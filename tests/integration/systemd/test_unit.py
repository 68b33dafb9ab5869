"""systemd accepts the unit, and the page's instructions install it: executed here below a temporary directory."""

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
    """The output of systemd-analyze for a unit; empty if the unit is valid."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("install systemd-analyze: apt-get install systemd")
    unit = directory / "infrakit.service"
    unit.write_text(text.replace("/usr/bin/infrakit", str(INFRAKIT)))
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


def test_systemd_accepts_every_line(unit: str, tmp_path: Path) -> None:
    assert verified(unit, tmp_path) == ""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("KillMode=", "KilMode="), ("=always", "=allways"), ("ExecStart=/", "ExecStart=/missing/"), ("=30s", "=soon")],
)
def test_an_invalid_line_is_detected(unit: str, tmp_path: Path, right: str, wrong: str) -> None:
    assert right in unit
    assert verified(unit.replace(right, wrong), tmp_path)


def test_the_settings_that_let_instances_survive_the_daemon(unit: str) -> None:
    """Required by `local`, whose instances are children of the daemon, in its control group."""
    values = settings(unit)
    assert (values["KillMode"], values["OOMPolicy"], values["Restart"]) == ("process", "continue", "always")
    assert "PrivateTmp" not in values
    assert "MemoryMax" not in values


def test_every_variable_of_the_environment_file_is_documented() -> None:
    named = settings((PACKAGED / "infrakit.env").read_text())
    guide = (ROOT / "docs/guide.md").read_text()
    assert {"INFRAKIT_STORE", "INFRAKIT_LEADERSHIP", "INFRAKIT_NAME", "INFRAKIT_OPTIONS"} <= named.keys()
    assert not [name for name in named.keys() - {"INFRAKIT_OPTIONS"} if f"`{name}`" not in guide]


def test_the_options_in_the_environment_file_exist() -> None:
    options = re.findall(r"--[\w-]+", settings((PACKAGED / "infrakit.env").read_text())["INFRAKIT_OPTIONS"])
    shown = subprocess.run([INFRAKIT, "up", "--help"], capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    assert options
    assert not [option for option in options if option not in shown.stdout]


def sandboxed(*command: str, root: Path) -> None:
    """Run a program of systemd on the directory instead of the machine."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"install {command[0]}: apt-get install systemd")
    subprocess.run([command[0], f"--root={root}", *command[1:]], timeout=DEADLINE_S, check=True)


def create_accounts(root: Path) -> None:
    """Create the accounts that every machine has, which programs of systemd read below their root."""
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")


def test_the_user_and_the_directories_are_created(unit: str, tmp_path: Path) -> None:
    create_accounts(tmp_path)
    sandboxed("systemd-sysusers", str(PACKAGED / "infrakit.sysusers"), root=tmp_path)
    name, _, uid, gid, _, home, shell = (tmp_path / "etc/passwd").read_text().splitlines()[1].split(":")
    assert name == settings(unit)["User"]
    assert (home, shell) == ("/var/lib/infrakit", "/usr/sbin/nologin")
    sandboxed("systemd-tmpfiles", "--create", str(PACKAGED / "infrakit.tmpfiles"), root=tmp_path)
    state = (tmp_path / "var/lib/infrakit").stat()
    assert state.st_mode & 0o777 == 0o700
    assert (str(state.st_uid), str(state.st_gid)) == (uid, gid)
    assert f"/var/lib/{settings(unit)['StateDirectory']}" == home


def test_the_installation_instructions_of_the_page_work(tmp_path: Path) -> None:
    """With stubs for programs that need root or a network, and every path moved below a directory."""
    block = next(each for each in pages.blocks(PAGE) if "systemd-sysusers" in each.text)
    programs, called = tmp_path / "bin", tmp_path / "called"
    programs.mkdir()
    for name in ("systemd-sysusers", "systemctl", "python3"):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {called}\n')
        (programs / name).chmod(0o755)
    made = f'echo "systemd-tmpfiles $*" >> {called}; mkdir -p {tmp_path}/etc/infrakit'
    (programs / "systemd-tmpfiles").write_text(f"#!/bin/sh\n{made}\n")
    (programs / "systemd-tmpfiles").chmod(0o755)
    python = tmp_path / "usr/local/lib/infrakit/bin/python"
    python.parent.mkdir(parents=True)
    shutil.copy(programs / "python3", python)
    (tmp_path / "usr/bin").mkdir()
    script = re.sub(r"(?<=\s)/(?=usr|etc)", f"{tmp_path}/", block.text)
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["/bin/sh", "-e", "-c", script], cwd=ROOT, env=environment, timeout=DEADLINE_S, check=True)
    for name, path in (("service", "systemd/system/infrakit.service"), ("sysusers", "sysusers.d/infrakit.conf")):
        assert (tmp_path / "etc" / path).read_text() == (PACKAGED / f"infrakit.{name}").read_text()
    assert (tmp_path / "etc/tmpfiles.d/infrakit.conf").exists()
    assert (tmp_path / "etc/infrakit/infrakit.env").stat().st_mode & 0o777 == 0o600
    started = settings((PACKAGED / "infrakit.service").read_text())["ExecStart"].split()[0]
    assert (tmp_path / started.removeprefix("/")).is_symlink()
    assert "python3 -m pip install .[docker]\n" in called.read_text()
    assert "systemctl enable --now infrakit\n" in called.read_text()
