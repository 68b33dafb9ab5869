"""Each promise of a rehearsal can be broken: mutations of the product, which `infrakit rehearse` must report."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from infrakit.simulation.rehearsal.promises import PROMISES
from tests.mutations.mutated import ROOT, mutate
from tests.mutations.mutation import Mutation

UPDATE = ("group/plan/rollout.py", "if available - 1 < want.size - want.max_unavailable:", "if False:")
COPY = "__import__('msgspec').structs.replace"
LOSSES = ("gate/guard.py", "if lost <= limits.max_lost:", "if True:")


class Broken(NamedTuple):
    """Changes of the source, each as file, old and new text; the exercise that shows them; and the broken promise."""

    promise: str
    name: str
    changes: tuple[tuple[str, str, str], ...]
    exercise: tuple[str, ...]


BROKEN = (
    Broken(
        "one-instance",
        "an instance that is missing from listings counts as terminated",
        (("group/state/view.py", "or self.observed_at is None or self.can_inspect:", "or self.observed_at is None:"),),
        ("--empty", "2m"),
    ),
    Broken(
        "same-volume",
        "a replacement gets no volume",
        (
            (
                "group/calls/creation.py",
                "spec = await self._prepare(action, pending, want)",
                f"spec = {COPY}(await self._prepare(action, pending, want), attachments=None)",
            ),
        ),
        ("--kill", "10.0.0.1"),
    ),
    Broken(
        "no-surplus",
        "one more is created than declared",
        (("group/plan/cattle.py", "        return 0\n    most", "        return 1\n    most"),),
        ("--kill", "web/2"),
    ),
    Broken("capacity", "MaxUnavailable is ignored", (UPDATE,), ("--bad-version",)),
    Broken(
        "max-unhealthy",
        "MaxUnhealthy is ignored",
        (LOSSES, ("group/plan/limits.py", "if count <= want.max_unhealthy or not", "if True or not")),
        ("--unhealthy", "50%"),
    ),
    Broken(
        "majority",
        "the members of a quorum are updated at once",
        (
            UPDATE,
            LOSSES,
            ("gate/guard.py", "at_once = 1 if limits.quorum else", "at_once = 9 if limits.quorum else"),
            ("gate/guard.py", "or left >= majority(total):", "or True:"),
        ),
        ("--bad-version",),
    ),
    Broken(
        "whole",
        "unhealthy members are not replaced",
        (("group/plan/heal.py", "    if not unhealthy:\n", "    if True:\n"),),
        ("--unhealthy", "1", "--within", "10m"),
    ),
    Broken(
        "bad-version",
        "a rolling update never fails",
        (("group/plan/rollout.py", "_failure(builder) if rolling and", '"" if rolling and'),),
        ("--bad-version",),
    ),
)


def declared() -> list[dict[str, Any]]:
    volumes = {each: [{"ID": f"vol-{each}", "Type": "volume"}] for each in ("10.0.0.1", "10.0.0.2", "10.0.0.3")}
    pets = {"Quorum": True, "Attachments": volumes, "Init": "true"}
    return [group("db", {"LogicalIDs": list(volumes)}, pets), group("web", {"Size": 10}, {"Init": "true"})]


def group(name: str, allocation: dict[str, Any], flavor: dict[str, Any]) -> dict[str, Any]:
    properties = {
        "Allocation": allocation,
        "Instance": {"Plugin": "local"},
        "Flavor": {"Plugin": "vanilla", "Properties": flavor},
    }
    return {"kind": "group", "metadata": {"name": name}, "properties": properties}


def rehearse(source: Path, directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (directory / "doc.json").write_text(json.dumps(declared()))
    return subprocess.run(
        [sys.executable, "-m", "infrakit", "rehearse", "doc.json", *words, "-o", "json"],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(source), "INFRAKIT_HOME": str(directory / "home")},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_every_promise_has_a_mutation() -> None:
    assert {each.promise for each in BROKEN} == set(PROMISES)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("broken", BROKEN, ids=lambda each: f"{each.promise}: {each.name}")
def test_the_rehearsal_reports_the_promise_that_a_mutation_breaks(broken: Broken, tmp_path: Path) -> None:
    unchanged = rehearse(ROOT / "src", tmp_path, *broken.exercise)
    if broken.exercise != ("--unhealthy", "50%"):  # the original refuses to replace so many, as it promises
        assert unchanged.returncode == 0, unchanged.stdout + unchanged.stderr
    assert broken.promise not in promises_of(unchanged)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for file, old, new in broken.changes:
        mutate(tmp_path / "src", Mutation("", broken.name, file, old, new, ()))
    mutated = rehearse(tmp_path / "src", tmp_path, *broken.exercise)
    assert mutated.returncode == 4, mutated.stdout[-3000:] + mutated.stderr
    assert broken.promise in promises_of(mutated), mutated.stdout[-3000:]


def promises_of(run: subprocess.CompletedProcess[str]) -> set[str]:
    exercises = json.loads(run.stdout)["Exercises"]
    return {each["Promise"] for exercise in exercises for each in exercise["Broken"]}
