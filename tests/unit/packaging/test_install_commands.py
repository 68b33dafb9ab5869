"""Every install command in the repository installs this project or a known package.

`infrakit` on the package index belongs to another project: a command that names it would run foreign code, as root.
"""

import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# The packages of third parties that a command may install, and their purpose.
PYTHON = {
    "pip": "upgraded in an environment before it installs anything",
    "pytest": "runs the tests of a plugin from `infrakit plugin new`",
}
DEBIAN = {
    *(
        "busybox-static",
        "ca-certificates",
        "curl",
        "dash",
        "debootstrap",
        "docker-cli",
        "docker.io",
        "e2fsprogs",
        "etcd-client",
    ),
    *("etcd-server", "fish", "gcc", "git", "iproute2", "iptables", "libc6-dev", "make", "mandoc", "nodejs", "openssl"),
    *("python3", "python3-pip", "python3-venv", "shellcheck", "systemd", "zsh"),
}
ONLY_IN_NEWER = {"docker-cli"}  # Debian 13 moved the client out of docker.io
SUFFIXES = (".md", ".py", ".txt", ".j2", ".yaml", ".toml", ".sh", ".service", ".env", "")
COMMAND = re.compile(
    r"""(?P<program>(?:\bpip3?|\buv|\bapt-get|\bapt|\bnpm|\bpipx|\bapk)\b)(?P<options>(?:\s+(?:pip|tool|-{1,2}[\w-]+))*)
        \s+(?:install|add)\b(?P<words>[^\n`;&|#"]*)""",
    re.VERBOSE,
)
VALUED = {
    *("-c", "--constraint", "-r", "--requirement", "-t", "--target", "--python", "--group", "--find-links"),
    *("--python-version", "--platform", "--only-binary", "--implementation", "--resolution"),
}
DEADLINE_S = 60


def written() -> Iterator[tuple[Path, str]]:
    """Each text file of the repository that may contain a command."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=True).stdout
    for path in (ROOT / name for name in names.split("\0") if name):
        if path.is_file() and path.suffix in SUFFIXES and path != Path(__file__):
            yield path, path.read_text()


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Program and operands of each command that installs; options and placeholders of shells are left out."""
    for found in COMMAND.finditer(_lines(text)):
        operands = list(_operands(_split(found["words"])))
        if operands:
            yield found["program"], operands


def _lines(text: str) -> str:
    """The text with continued lines joined, and with the escaped newlines of string literals expanded."""
    return text.replace("\\\n", " ").replace("\\n", "\n")


def _split(words: str) -> list[str]:
    """Split as a shell does, up to the quote that ends a string literal, if there is one."""
    for end in (words, words.rpartition("'")[0], words.partition("'")[0]):
        try:
            return shlex.split(end)
        except ValueError:
            continue
    return []


def _operands(words: list[str]) -> Iterator[str]:
    skip = False
    for word in words:
        value, skip = skip, word in VALUED
        if re.fullmatch(r"(in|to|into|and|or|with|beside|puts?)", word) and not value:
            return  # the sentence continues
        if word.startswith("("):
            return  # a remark follows
        if not value and not skip and not word.startswith(("-", "$", "{", "<", ">")) and re.search(r"[\w.]", word):
            yield word.rstrip(",.:)") if word != "." else word
        if "{{" in word:
            return  # a template fills in the rest


def unknown(program: str, operand: str) -> bool:
    """Whether the operand is neither a path of this project nor a known package."""
    name, _, extras = operand.rstrip("]").partition("[")
    if re.fullmatch(r"\{\w+\}", extras):
        extras = ""  # a program fills it in
    if re.match(r"pyinfrakit(\[\w+\])? @ file:///", operand):
        return False  # a wheel of this project
    if program in {"apt", "apt-get"}:
        return name.partition("=")[0] not in DEBIAN
    if program in {"npm", "pipx", "apk"}:
        return name not in {"python3", "py3-pip"}
    if name in {"", "."} or name.startswith(("./", "/src", "dist/", "../")):
        return bool(set(filter(None, extras.split(","))) - PROJECT["optional-dependencies"].keys())
    return re.split(r"[<>=!~]", name)[0] not in PYTHON


@pytest.mark.parametrize(
    "path", [pytest.param(p, id=str(p.relative_to(ROOT))) for p, t in written() if COMMAND.search(t)]
)
def test_every_installed_package_is_ours_or_known(path: Path) -> None:
    found = [(program, each) for program, operands in commands(path.read_text()) for each in operands]
    assert not [each for each in found if unknown(*each)]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("pip install infrakit", ["infrakit"]),
        ("`pip install 'infrakit[docker]'`, or", ["infrakit[docker]"]),
        ("remedy=\"pip install 'infrakit[s3]'\"", ["infrakit[s3]"]),
        ("python -m pip install --upgrade pip infrakit==0.1.0", ["infrakit==0.1.0"]),
        ("python -m pip install '.[dokcer]'", [".[dokcer]"]),
        ("python -m pip install '.[docker]' -c constraints.txt", []),
        ("uv pip install --python x/bin/python infrakit", ["infrakit"]),
        ("uv tool install infrakit", ["infrakit"]),
        ("apt-get install -y docker.io \\\n  infrakit", ["infrakit"]),
        ("npm install infrakit", ["infrakit"]),
        ("f'{x}: python -m pip install . in a clone'", []),
    ],
)
def test_unknown_packages_are_detected(text: str, wrong: list[str]) -> None:
    found = [(program, each) for program, operands in commands(text) for each in operands]
    assert [each for program, each in found if unknown(program, each)] == wrong


def test_the_pages_with_install_commands_are_searched() -> None:
    read = {path.relative_to(ROOT).as_posix() for path, text in written() if any(commands(text))}
    assert read >= {
        "docs/operations/systemd.md",
        "docs/docker.md",
        "docs/flavor-swarm.md",
        "packaging/node-image/Dockerfile",
    }


def test_every_extra_is_documented() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {name for name in extras if f"| `{name}` |" in (ROOT / "docs/install.md").read_text()} == set(extras)


def test_debian_has_the_packages() -> None:
    """Checked against the package lists of this machine, if it has any."""
    if shutil.which("apt-cache") is None:
        return
    done = subprocess.run(
        ["apt-cache", "pkgnames"], capture_output=True, text=True, timeout=DEADLINE_S, check=True
    ).stdout.split()
    if "debootstrap" in done and "shellcheck" in done:  # otherwise the lists contain only installed packages
        assert not DEBIAN - set(done) - ONLY_IN_NEWER
