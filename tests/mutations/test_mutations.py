"""Runs the catalogue: each mutation in a copy of the source, against the tests that must notice it."""

import datetime
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutations.catalogue import MUTATIONS
from tests.mutations.mutation import Mutation

ROOT = Path(__file__).parents[2]
# They take long, so in CI the halves of the list take turns, one a day.
TODAY = datetime.datetime.now(tz=datetime.UTC).timetuple().tm_yday
TURN = MUTATIONS[TODAY % 2 :: 2] if os.environ.get("CI") else MUTATIONS


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutation", TURN, ids=lambda m: f"{m.law}: {m.name}")
def test_the_mutation_is_noticed(mutation: Mutation, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    mutate(tmp_path / "src" / "infrakit" / mutation.file, mutation)
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:randomly",
            "--hypothesis-seed=0",
            *mutation.tests,
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "src"), "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert run.returncode == 1, f"no test noticed it:\n{run.stdout[-2000:]}{run.stderr[-2000:]}"
    assert " failed" in run.stdout, run.stdout[-2000:]


def mutate(file: Path, mutation: Mutation) -> None:
    text = file.read_text()
    assert text.count(mutation.old) == 1, f"the catalogue is out of date: {mutation.old!r} in {mutation.file}"
    file.write_text(text.replace(mutation.old, mutation.new))
