"""Runs tests, or simulated worlds, with a copy of the source that has one mutation."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.mutations.mutation import Mutation

ROOT = Path(__file__).parents[2]


def mutated(mutation: Mutation, directory: Path, *, original: Path = ROOT / "src") -> Path:
    """Copy the source below a directory, mutate the copy, and return its path."""
    source = directory / "src"
    shutil.copytree(original, source)
    mutate(source, mutation)
    return source


def mutate(source: Path, mutation: Mutation) -> None:
    """Mutate a copy of the source in place."""
    file = source / "infrakit" / mutation.file
    text = file.read_text()
    assert text.count(mutation.old) == 1, f"the catalogue is out of date: {mutation.old!r} in {mutation.file}"
    file.write_text(text.replace(mutation.old, mutation.new))


def run_tests(source: Path, tests: Sequence[str], *, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run tests with this source until the first one fails: exit code 1. Raises `TimeoutExpired`."""
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--hypothesis-seed=0"]
    return _run(source, ["pytest", *options, *tests], timeout_s)


def run_worlds(source: Path, options: Sequence[str], *, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Simulate worlds with this source until one breaks a law: exit code 1. Raises `TimeoutExpired`."""
    return _run(source, ["infrakit.simulation", *options, "--jobs", "1", "--until-broken"], timeout_s)


def _run(source: Path, module: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    output = source.parent / "output"  # not a pipe: processes that a mutation leaves behind would hold it open
    with output.open("w") as file:
        run = subprocess.run(
            [sys.executable, "-m", *module],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(source), "HYPOTHESIS_STORAGE_DIRECTORY": str(source.parent)},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    return subprocess.CompletedProcess(run.args, run.returncode, output.read_text(errors="replace"), "")
