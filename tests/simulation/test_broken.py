"""What the simulation says when a law is broken: which, when, and how to see it again."""

import asyncio

import pytest

from infrakit.group.calls import Calls
from infrakit.instances.simulator import Faults, Simulator
from infrakit.simulation import __main__ as program
from infrakit.simulation import loop
from infrakit.simulation.laws import Laws
from infrakit.spi import values
from infrakit.spi.values import LogicalID

FOCUS = ("simulation", "--minutes", "10", "--deeds", "halt,scale")


def forget_halts(_self: Calls) -> None:
    """A right to act that nobody asks about."""


def test_a_broken_law_is_named_with_the_seed_and_the_command_that_repeats_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Calls, "_permit", forget_halts)
    monkeypatch.setattr("sys.argv", [*FOCUS, "--first", "1", "--count", "12", "--jobs", "2"])
    assert program.main() == 1
    said = capsys.readouterr().out
    assert "stop means stop" in said
    assert "--minutes 10 --deeds 'halt,scale' --seed" in said
    repeat = next(line for line in said.splitlines() if "again: python -m infrakit.simulation" in line)
    seed = repeat.split("--seed ")[1].split()[0]
    monkeypatch.setattr("sys.argv", [*FOCUS, "--seed", seed])
    assert program.main() == 1
    assert "stop means stop" in capsys.readouterr().out


def test_a_crash_of_the_code_is_a_finding_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(_self: Laws, _what: str, _machine: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Laws, "_happened", crash)
    assert "ZeroDivisionError" in program.simulate(2, 5.0)


def test_nothing_left_to_happen_is_a_finding_and_not_a_wait() -> None:
    async def wait_for_ever() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(loop.Deadlock):
        loop.run(wait_for_ever())


def test_two_bearers_are_seen_when_they_come_to_be() -> None:
    async def run() -> str:
        simulator = Simulator(Faults(exclusive=False))
        laws = Laws(simulator, lying=False)
        for _ in range(2):
            simulator.adopt(tags={values.TAG_GROUP: "g"}, logical_id=LogicalID("a"))
        return laws.verdict

    assert loop.run(run()).startswith("2 one bearer: sim-2 and sim-1 bear a")
