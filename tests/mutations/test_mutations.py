"""Runs the catalogue: each mutation in a copy of the source, against the tests that must notice it."""

import datetime
import subprocess
from pathlib import Path

import pytest

from tests.mutations.__main__ import NOTICED, SURVIVED, Run, Stage, main
from tests.mutations.catalogue import MUTATIONS
from tests.mutations.mutated import ROOT, mutated, run_tests
from tests.mutations.mutation import Mutation

# They take long, so the tenths of the list take turns, one a day; `make mutations` runs all.
TODAY = datetime.datetime.now(tz=datetime.UTC).timetuple().tm_yday
TURN = MUTATIONS[TODAY % 10 :: 10]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutation", TURN, ids=lambda m: f"{m.law}: {m.name}")
def test_the_mutation_is_noticed(mutation: Mutation, tmp_path: Path) -> None:
    run = run_tests(mutated(mutation, tmp_path), mutation.tests, timeout_s=280)
    assert run.returncode == 1, f"no test noticed it:\n{run.stdout[-4000:]}"
    assert " failed" in run.stdout, run.stdout[-2000:]


def test_each_mutation_of_the_catalogue_is_one_change_with_a_name_of_its_own() -> None:
    assert len({each.name for each in MUTATIONS}) == len(MUTATIONS) >= 150
    assert len({(each.file, each.old, each.new) for each in MUTATIONS}) == len(MUTATIONS)
    for each in MUTATIONS:
        text = (ROOT / "src/infrakit" / each.file).read_text()
        assert text.count(each.old) == 1, f"{each.name}: {each.old!r} in {each.file}"
        assert each.old != each.new, each.name
        assert each.tests, each.name
        for test in each.tests:
            assert (ROOT / test).exists(), f"{each.name}: {test}"


FIRST = MUTATIONS[0]


def _exits(code: int) -> Run:
    return subprocess.CompletedProcess(args=[], returncode=code, stdout="the end", stderr="")


def test_a_survivor_of_one_stage_meets_the_next_one_and_a_survivor_of_all_fails_the_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen: list[str] = []

    def stage(name: str, code: int) -> Stage:
        def run(source: Path, mutation: Mutation) -> Run:
            assert mutation.new in (source / "infrakit" / mutation.file).read_text()
            seen.append(name)
            return _exits(code)

        return name, run

    second = [stage("first", SURVIVED), stage("second", NOTICED), stage("third", NOTICED)]
    assert main([], [FIRST], second) == 0
    assert seen == ["first", "second"]
    assert "0 noticed by first, 1 noticed by second, 0 noticed by third, 0 left" in capsys.readouterr().out
    assert main([], [FIRST], [stage("first", SURVIVED)]) == 1
    assert capsys.readouterr().out.endswith(f"  SURVIVED: {FIRST.law}: {FIRST.name} ({FIRST.file})\n")
    assert main([], [FIRST], [stage("first", 4)]) == 1, "tests that cannot be run notice nothing"
    assert "not run: first: exit code 4: the end" in capsys.readouterr().out


def test_words_choose_mutations() -> None:
    assert main([FIRST.name], MUTATIONS, [("first", lambda _source, _mutation: _exits(NOTICED))]) == 0
    with pytest.raises(SystemExit, match="no mutation's law, name and file contain 'nothing of that name'"):
        main(["nothing of that name"])
