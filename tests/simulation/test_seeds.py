"""A few of the simulated worlds that CI runs by the thousand, some with few kinds of deeds that often coincide."""

import collections
import os
import subprocess
import sys

import pytest

from infrakit.simulation.__main__ import Task, simulate

FOCUS = {  # few kinds of deeds, so that they often coincide
    "halts": ("halt", "scale", "flip"),
    "crashes": ("crash", "kill replica", "scale", "kill"),
    "rollouts": ("version", "bad version", "kill", "crash", "pause", "dispute"),
    "members": ("members", "kill", "lose machine", "evict"),
    "unhealthy": ("sicken many", "sicken", "kill many", "outage", "freeze"),
    "leaders": ("flip", "dispute", "resign", "scale"),
    "splits": ("partition", "cut", "slow store", "version", "kill"),
    "pauses": ("freeze", "freeze", "flip", "scale", "evict"),
}


@pytest.mark.parametrize("replicas", [1, 3, 5])
def test_every_law_holds_in_a_few_worlds(replicas: int) -> None:
    for seed in (1, 2):
        assert simulate(Task(seed, 10.0, replicas=replicas)).verdict == "", f"seed {seed}"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("focus", FOCUS)
def test_every_law_holds_where_few_deeds_often_coincide(focus: str) -> None:
    for seed in range(1, 10):
        assert simulate(Task(seed, 5.0, FOCUS[focus])).verdict == "", f"seed {seed}"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("replicas", [1, 3, 5])
@pytest.mark.parametrize("first", [1, 11])
def test_every_law_holds(first: int, replicas: int) -> None:
    for seed in range(first, first + 5):
        assert simulate(Task(seed, replicas=replicas)).verdict == "", f"seed {seed}"


def simulation(*options: str, hashing: str = "0") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infrakit.simulation", *options],
        env=os.environ | {"PYTHONHASHSEED": hashing},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_seed_repeats_exactly() -> None:
    """The result does not depend on the iteration order of sets and dictionaries."""
    first, second = (simulation("--seed", "12", "--replicas", "3", "--verbose", hashing=h) for h in ("1", "2"))
    assert first.stdout == second.stdout
    assert first.stdout.count("\n") > 50
    assert first.stdout.endswith("seed 12: every law held\n")
    assert first.stderr == ""


def test_many_seeds_end_with_figures_and_a_verdict() -> None:
    run = simulation("--first", "3", "--count", "4", "--minutes", "5", "--replicas", "3", "--jobs", "2")
    assert run.returncode == 0
    figures, verdict = run.stdout.splitlines()[-2:]
    assert "elections, " in figures
    assert ", 0 overlaps, " in figures
    assert verdict.startswith("4 seeds of 5 simulated minutes")
    assert verdict.endswith(": 0 broke a law")


def test_replicas_take_over_from_each_other_and_act() -> None:
    """Guard against a world in which the laws hold only because nothing happens."""
    figures = collections.Counter[str]()
    for seed in range(1, 5):
        figures += simulate(Task(seed, deeds=("scale", "kill many", "flip", "dispute"), replicas=3)).figures
    assert figures["epochs"] > 20
    assert figures["calls"] > 100
    assert figures["healthy members destroyed"] > 0
    assert figures["stale leaders"] > 0
