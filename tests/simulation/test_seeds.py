"""Some of the simulated worlds that CI runs by the thousand, among them those that have found faults."""

import os
import subprocess
import sys

import pytest

from infrakit.simulation.__main__ import simulate

FOUND_FAULTS = (10133, 10429, 11388, 11511, 12887, 13390, 13963)
MINUTES = 30.0


FOCUS = {  # few kinds of deeds, so that they often meet
    "halts": ("halt", "scale"),
    "crashes": ("crash", "scale", "kill"),
    "rolls": ("version", "bad version", "kill", "crash", "pause"),
    "members": ("members", "kill", "crash", "evict"),
    "sickness": ("sicken many", "sicken", "kill many", "outage"),
}


@pytest.mark.parametrize("focus", FOCUS)
def test_every_law_holds_where_few_deeds_often_meet(focus: str) -> None:
    for seed in range(1, 26):
        assert simulate(seed, 10.0, FOCUS[focus]) == "", f"seed {seed}"


@pytest.mark.parametrize("seed", [*range(1, 41), *FOUND_FAULTS])
def test_every_law_holds(seed: int) -> None:
    assert simulate(seed, MINUTES) == ""


def told(*options: str, hashing: str = "0") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infrakit.simulation", *options],
        env=os.environ | {"PYTHONHASHSEED": hashing},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_seed_repeats_exactly() -> None:
    """Whatever the order of sets and dictionaries in a process."""
    first, second = (told("--seed", "12", "--verbose", hashing=h) for h in ("1", "2"))
    assert first.stdout == second.stdout
    assert first.stdout.count("\n") > 50
    assert first.stdout.endswith("seed 12: every law held\n")


def test_many_seeds_end_with_a_verdict() -> None:
    run = told("--first", "3", "--count", "4", "--minutes", "5", "--jobs", "2")
    assert run.returncode == 0
    assert "4 seeds of 5 simulated minutes" in run.stdout
    assert run.stdout.endswith(": 0 broke a law\n")
