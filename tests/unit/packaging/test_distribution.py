"""The published files: the wheel and the source archive are built and inspected."""

import email
import email.message
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import infrakit
from tests.docs.pages import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
STATE = ("docs/.cluster/store/declaration", ".demo/lock", ".venv/bin/python", "examples/quickstart/.infrakit/lock")
DEADLINE_S = 120
pytestmark = pytest.mark.timeout(2 * DEADLINE_S)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with both, built from a copy that contains the state of daemons."""
    directory = tmp_path_factory.mktemp("distribution")
    copy = directory / "clone"
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=True).stdout
    for name in filter(None, files.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    for name in STATE:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("secret")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(directory / "dist"), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return directory / "dist"


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(next(built.glob("pyinfrakit-*.whl")))


@pytest.fixture(scope="module")
def archive(built: Path) -> set[str]:
    with tarfile.open(next(built.glob("pyinfrakit-*.tar.gz"))) as opened:
        return {name.partition("/")[2] for name in opened.getnames()}


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> email.message.Message:
    return email.message_from_bytes(wheel.read(f"pyinfrakit-{infrakit.__version__}.dist-info/METADATA"))


def test_the_name_the_version_and_the_addresses(metadata: email.message.Message) -> None:
    assert (metadata["Name"], metadata["Version"]) == ("pyinfrakit", infrakit.__version__)
    assert {each.partition(",")[0] for each in metadata.get_all("Project-URL", [])} >= {"Documentation", "Source"}


def test_the_version_is_stated_in_one_place() -> None:
    assert "version" in PROJECT["project"]["dynamic"]
    stated = [
        path.relative_to(ROOT)
        for path in (*(ROOT / "src").rglob("*.py"), ROOT / "docs/conf.py")
        if re.search(r"^(__version__|version|release)\b.*=\s*[\"']\d", path.read_text(), re.MULTILINE)
    ]
    assert stated == [Path("src/infrakit/__init__.py")]


def test_the_description_on_the_package_index_has_no_relative_link(metadata: email.message.Message) -> None:
    text = re.sub(r"^```.*?^```$", "", str(metadata.get_payload()), flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(targets) > 10
    assert not [target for target in targets if not target.startswith(("https://", "#"))]
    source = PROJECT["project"]["urls"]["Source"]
    ours = [target.removeprefix(f"{source}/blob/main/").partition("#")[0] for target in targets if source in target]
    assert ours
    assert not [name for name in ours if not (ROOT / name).exists()]


def test_the_source_archive_has_no_state_of_a_daemon(archive: set[str]) -> None:
    allowed = {
        ".importlinter",
        ".gitignore",
        "PKG-INFO",
        *PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["only-include"],
    }
    assert {name.partition("/")[0] for name in archive} <= allowed
    assert not [name for name in archive if re.search(r"(^|/)\.[^/]+/", name)]
    assert archive >= {
        "README.md",
        "SECURITY.md",
        "src/infrakit/py.typed",
        "tests/test_docs.py",
        "packaging/man/infrakit.1",
    }


def test_the_wheel_contains_every_file_of_the_package(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    files = (path for path in (ROOT / "src").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert not {path.relative_to(ROOT / "src").as_posix() for path in files} - names


def test_the_wheel_contains_the_completions_and_the_man_pages(wheel: zipfile.ZipFile) -> None:
    data_files = {name.partition(".data/data/")[2] for name in wheel.namelist() if ".data/data/" in name}
    assert data_files == {
        "share/bash-completion/completions/infrakit",
        "share/fish/vendor_completions.d/infrakit.fish",
        "share/man/man1/infrakit.1",
        "share/man/man5/infrakit.yaml.5",
        "share/zsh/site-functions/_infrakit",
    }
