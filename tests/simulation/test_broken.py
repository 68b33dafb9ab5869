"""The report of a broken law: which one, when, and the command that repeats the run."""

import pytest

from infrakit.gate.authority import Epoch
from infrakit.group.calls import Calls
from infrakit.manager.lead.replica import Replica
from infrakit.simulation import __main__ as program

FOCUS = ("simulation", "--minutes", "10", "--replicas", "1", "--deeds", "halt,scale")


def permit_everything(*_: object) -> None:
    """Replaces a check, and permits everything."""


@pytest.mark.slow
def test_a_broken_law_is_named_with_the_seed_and_the_command_that_repeats_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Epoch, "check", permit_everything)
    monkeypatch.setattr(Calls, "_require", permit_everything)  # a halt also outdates what was planned before it
    monkeypatch.setattr("sys.argv", [*FOCUS, "--first", "1", "--count", "48", "--jobs", "2"])
    assert program.main() == 1
    output = capsys.readouterr().out
    assert "stop means stop" in output
    assert "--minutes 10 --replicas 1 --deeds 'halt,scale' --seed" in output
    report = output.splitlines()
    line = next(n for n, text in enumerate(report) if "stop means stop" in text)
    assert "repeat: python -m infrakit.simulation" in report[line + 1]
    seed = report[line + 1].split("--seed ")[1].split()[0]
    monkeypatch.setattr("sys.argv", [*FOCUS, "--seed", seed])
    assert program.main() == 1
    assert "stop means stop" in capsys.readouterr().out


def test_a_crash_of_the_code_is_a_finding_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> float:
        raise ZeroDivisionError

    monkeypatch.setattr(Replica, "leads_until", property(crash))
    assert "ZeroDivisionError" in program.simulate(program.Task(2, 5.0)).verdict
