"""The Makefile: a set-up step that installs nothing must fail, and leave no stamp."""

import re
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parent.parent / "Makefile"


def _stamps() -> dict[str, str]:
    """The recipe of each stamp by its name."""
    found = re.findall(r"^\$\(VENV\)/(\.stamp[a-z-]*):.*\n((?:\t.*\n?)+)", MAKEFILE.read_text(), re.MULTILINE)
    return dict(found)


def test_the_stamps_exist() -> None:
    assert {".stamp", ".stamp-dev", ".stamp-docs"} <= _stamps().keys()


@pytest.mark.parametrize("stamp", sorted(_stamps()))
def test_every_stamp_checks_what_was_installed(stamp: str) -> None:
    recipe = _stamps()[stamp]
    assert "$(call install," in recipe
    assert recipe.rstrip().splitlines()[-1].startswith("\t$(call prove,"), (
        "the check comes last, because it creates the stamp"
    )


def test_no_call_is_split_at_a_comma_of_its_argument() -> None:
    calls = re.findall(r"\$\(call (\w+),(.*)\)$", MAKEFILE.read_text(), re.MULTILINE)
    assert calls
    for name, argument in calls:
        assert "," not in argument, f"$(call {name},...) is split there: write the argument as a variable"


def _make(directory: Path, recipe: str) -> subprocess.CompletedProcess[str]:
    """Make a stamp below `directory`, with the definitions of the Makefile and a recipe of the test."""
    rules = f"include {MAKEFILE}\n$(VENV)/.stamp-try:\n\t@mkdir -p $(VENV)\n\t{recipe}\n"
    (directory / "rules").write_text(rules)
    python = "BIN=" + str(MAKEFILE.parent / ".venv" / "bin")
    command = ["make", "-f", str(directory / "rules"), f"VENV={directory}/v", python, f"{directory}/v/.stamp-try"]
    return subprocess.run(command, cwd=MAKEFILE.parent, capture_output=True, text=True, timeout=50, check=False)


@pytest.mark.skipif(
    not (MAKEFILE.parent / ".venv/bin/python").exists(), reason="needs the environment that make sets up: make unit"
)
def test_a_stamp_is_created_only_if_its_modules_can_be_imported(tmp_path: Path) -> None:
    done = _make(tmp_path, "$(call prove,json no_such_module_of_ours)")
    assert done.returncode != 0
    assert "No module named 'no_such_module_of_ours'" in done.stderr
    assert not (tmp_path / "v/.stamp-try").exists()
    done = _make(tmp_path, "$(call prove,json click)")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "v/.stamp-try").exists()


def _interpreter(directory: Path, version: str) -> Path:
    """A program that answers as the interpreter of that version does, and can do nothing else."""
    path = directory / f"python{version}"
    newer = 1 if version == "3.10" else 0
    path.write_text(f'#!/bin/sh\n[ "$1" = -V ] && echo "Python {version}.1" && exit\nexit {newer}\n')
    path.chmod(0o755)
    return path


def _set_up(venv: Path, python: Path) -> subprocess.CompletedProcess[str]:
    command = ["make", f"VENV={venv}", f"PYTHON={python}", f"{venv}/.stamp"]
    return subprocess.run(command, cwd=MAKEFILE.parent, capture_output=True, text=True, timeout=50, check=False)


def test_an_interpreter_that_is_too_old_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    old, missing = _interpreter(tmp_path, "3.10"), tmp_path / "missing"
    for finished in (False, True):
        for python, is_ in ((old, "Python 3.10.1"), (missing, "not found, or broken")):
            done = _set_up(tmp_path / "v", python)
            assert done.returncode != 0
            assert f"InfraKit needs Python 3.11 or newer; {python} is {is_}: install it" in done.stderr
            assert "make clean" not in done.stderr
            assert (tmp_path / "v").exists() == finished
        (tmp_path / "v").mkdir(exist_ok=True)
        (tmp_path / "v" / ".stamp").write_text("")


def test_an_interrupted_set_up_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "v" / "bin").mkdir(parents=True)
    (tmp_path / "v" / "leftover").write_text("")
    done = _set_up(tmp_path / "v", _interpreter(tmp_path, "3.12"))
    assert done.returncode != 0, "this interpreter makes no environment"
    assert not (tmp_path / "v" / "leftover").exists()


def test_another_interpreter_than_that_of_the_environment_is_reported(tmp_path: Path) -> None:
    (tmp_path / "v" / "bin").mkdir(parents=True)
    _interpreter(tmp_path / "v" / "bin", "3.12").rename(tmp_path / "v" / "bin" / "python")
    (tmp_path / "v" / ".stamp").write_text("")
    done = _set_up(tmp_path / "v", _interpreter(tmp_path, "3.13"))
    assert done.returncode != 0
    assert f"{tmp_path}/v has Python 3.12.1: make clean first" in done.stderr
    assert _set_up(tmp_path / "v", _interpreter(tmp_path, "3.12")).returncode == 0


def _pinned(file: str) -> dict[str, str]:
    """The version of each package in a file of requirements."""
    text = (MAKEFILE.parent / file).read_text()
    return dict(re.findall(r"^([a-z0-9-]+)(?:\[[a-z0-9,]+\])?==([^\s;]+)", text, re.MULTILINE))


@pytest.mark.parametrize("file", ["requirements/run.txt", "requirements/dev.txt", "requirements/docs.txt"])
def test_requirements_have_the_tested_versions_and_hashes(file: str) -> None:
    tested, pinned = _pinned("constraints.txt"), _pinned(file)
    only_on_windows = {"colorama"}
    assert pinned
    assert {name: tested.get(name) for name in pinned.keys() - only_on_windows} == {
        name: version for name, version in pinned.items() if name not in only_on_windows
    }
    entries = re.split(r"\n(?=\S)", (MAKEFILE.parent / file).read_text())
    assert all("--hash=sha256:" in entry for entry in entries)


def test_every_pinned_package_has_hashes() -> None:
    assert _pinned("requirements/docs.txt") == _pinned("constraints.txt")
