"""`python -m tests.mutations [WORDS]`: run the catalogue, or those whose law, name and file contain these words.

Each mutation meets its named tests first. One that they do not notice meets 200 simulated worlds, and only one that
these do not notice either all unit tests. The exit code is 1 if a mutation survives all of that.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.mutations.catalogue import MUTATIONS
from tests.mutations.mutated import ROOT, mutated, run_tests, run_worlds
from tests.mutations.mutation import Mutation

WORLDS = ("--count", "200", "--minutes", "2")
UNIT_TESTS = ("tests/unit", "tests/laws")
TIMEOUT_S = 3600.0  # of one stage; a test that hangs fails earlier
NOTICED, SURVIVED = 1, 0  # exit codes

Run = subprocess.CompletedProcess[str]
Stage = tuple[str, Callable[[Path, Mutation], Run]]

STAGES: tuple[Stage, ...] = (
    ("its named tests", lambda source, mutation: run_tests(source, mutation.tests, timeout_s=TIMEOUT_S)),
    ("200 simulated worlds", lambda source, _mutation: run_worlds(source, WORLDS, timeout_s=TIMEOUT_S)),
    ("all unit tests", lambda source, _mutation: run_tests(source, UNIT_TESTS, timeout_s=TIMEOUT_S)),
)


class Verdict(NamedTuple):
    """What has noticed a mutation; `by` is empty if nothing has. `error`: why a stage could not be run."""

    mutation: Mutation
    by: str = ""
    error: str = ""

    def __str__(self) -> str:
        mutation = self.mutation
        outcome = f"not run: {self.error}" if self.error else f"noticed by {self.by}" if self.by else "SURVIVED"
        return f"{outcome}: {mutation.law}: {mutation.name} ({mutation.file})"


def judge(mutation: Mutation, original: Path, stages: Sequence[Stage] = STAGES) -> Verdict:
    """Run the stages in order until one notices the mutation."""
    with tempfile.TemporaryDirectory() as directory:
        source = mutated(mutation, Path(directory), original=original)
        for name, run in stages:
            try:
                done = run(source, mutation)
            except subprocess.TimeoutExpired:
                return Verdict(mutation, error=f"{name}: no result within {TIMEOUT_S:g} s")
            if done.returncode == NOTICED:
                return Verdict(mutation, by=name)
            if done.returncode != SURVIVED:
                end = done.stdout.strip().splitlines()[-1:]
                return Verdict(mutation, error=f"{name}: exit code {done.returncode}: {''.join(end)}")
    return Verdict(mutation)


def judged(mutations: Sequence[Mutation], stages: Sequence[Stage] = STAGES) -> Iterator[Verdict]:
    """Judge mutations of the source as it is now, one for each core at a time."""
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(os.cpu_count()) as threads:
        original = Path(directory) / "src"
        shutil.copytree(ROOT / "src", original)
        yield from threads.map(lambda mutation: judge(mutation, original, stages), mutations)


def main(words: Sequence[str], mutations: Sequence[Mutation] = MUTATIONS, stages: Sequence[Stage] = STAGES) -> int:
    chosen = [each for each in mutations if all(word in f"{each.law}: {each.name} {each.file}" for word in words)]
    if not chosen:
        sys.exit(f"no mutation's law, name and file contain {' and '.join(map(repr, words))}")
    began, verdicts = time.monotonic(), list[Verdict]()
    for number, verdict in enumerate(judged(chosen, stages), 1):
        print(f"{number}/{len(chosen)} {verdict}", flush=True)
        verdicts.append(verdict)
    counts = Counter(each.by for each in verdicts if each.by)
    left = [each for each in verdicts if not each.by]
    noticed = ", ".join(f"{counts[name]} noticed by {name}" for name, _ in stages)
    print(f"{len(chosen)} mutations in {(time.monotonic() - began) / 60:.0f} min: {noticed}, {len(left)} left")
    for each in left:
        print(f"  {each}")
    return int(bool(left))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
