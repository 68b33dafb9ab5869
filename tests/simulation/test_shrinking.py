"""A failing world shrinks to the fewest faults, and its story can be followed; a long run continues from its file."""

from pathlib import Path

import pytest

from infrakit.simulation import __main__ as program
from infrakit.simulation import progress, scenario, shrinking
from infrakit.simulation.oracle import exceptions
from infrakit.simulation.oracle.facts import Life
from infrakit.simulation.oracle.losses import Losses


def test_a_world_shrinks_to_what_the_law_needs() -> None:
    drawn = scenario.draw(7, 30.0)
    assert len(drawn.operations) > 1

    def run(tried: scenario.Scenario) -> str:
        """Fail while the first deed and the fault are there."""
        needed = drawn.operations[0] in tried.operations and tried.faults.boot == drawn.faults.boot
        return "2 one per identity: somewhere else" if needed else ""

    smallest, verdict = shrinking.shrink(drawn, "2 one per identity: here", run)
    assert verdict == "2 one per identity: somewhere else"
    assert smallest.operations == [drawn.operations[0]]
    assert smallest.replica_faults == []
    assert smallest.store == type(smallest.store)()
    assert len(smallest.groups) == len(smallest.node_clocks) == 1
    assert smallest.faults.boot == drawn.faults.boot


def test_another_law_does_not_count_as_the_same_failure() -> None:
    drawn = scenario.draw(7, 30.0)
    smallest, _ = shrinking.shrink(drawn, "2 one per identity: here", lambda _tried: "9 stop means stop: there")
    assert smallest is drawn


def refuse(self: Losses, life: Life, *_: object) -> None:
    self._facts.require(False, exceptions.AT_ONCE, f"{life.id} is destroyed")


def test_a_broken_law_is_shrunk_and_its_story_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For an oracle that permits no destruction of a healthy member, any rolling update breaks a law."""
    monkeypatch.setattr(Losses, "_check_pace", refuse)
    options = ["--minutes", "2", "--replicas", "1", "--deeds", "version,kill"]
    for seed in range(1, 20):
        monkeypatch.setattr("sys.argv", ["simulation", *options, "--seed", str(seed), "--shrink"])
        if program.main():
            break
    story = capsys.readouterr().out
    assert "replicas: 1" in story
    assert "destroying" in story
    assert "** created" in story
    assert story.splitlines()[-1].startswith("5 never worse: at once")


def test_a_long_run_continues_from_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.json"
    options = [
        "simulation",
        "--minutes",
        "1",
        "--replicas",
        "1",
        "--deeds",
        "scale",
        "--jobs",
        "1",
        "--resume",
        str(file),
    ]

    def run(*more: str) -> int:
        monkeypatch.setattr("sys.argv", [*options, "--resume", str(file), *more])
        return program.main()

    assert run("--count", "2") == 0
    assert run("--first", "2", "--count", "3") == 0
    assert "4 seeds of 1 simulated minutes" in capsys.readouterr().out.splitlines()[-1]
    about = progress.load(file, "minutes 1, replicas 1, deeds scale")
    assert about.done == [(1, 4)]
    assert about.figures["calls"] > 0
    assert run("--count", "2", "--minutes", "2") == 2
    assert "it was recorded with minutes 1" in capsys.readouterr().err
    monkeypatch.setattr(progress, "digest", lambda: "another")
    assert run("--count", "2") == 2
    assert "it was recorded with other code" in capsys.readouterr().err
    file.write_text("{")
    assert run("--count", "2") == 2
    assert "it is no record of a run" in capsys.readouterr().err
