"""The report of a broken law: which one, when, and the command that repeats the run."""

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from infrakit.gate.authority import Epoch
from infrakit.group.calls.caller import CallingGroup
from infrakit.group.ledger import Intent
from infrakit.manager.lead.ledger import NAME, LedgerDocument
from infrakit.manager.lead.replica import Replica
from infrakit.simulation import __main__ as program
from infrakit.simulation import loops
from infrakit.simulation.scenario import DEEDS, draw
from infrakit.simulation.world import World
from infrakit.spi.values import GroupID, Slot, Token

FOCUS = ("simulation", "--minutes", "10", "--replicas", "1", "--deeds", "halt,scale")


def permit_everything(*_: object) -> None:
    """Replaces a check, and permits everything."""


@pytest.mark.slow
def test_a_broken_law_is_named_with_the_seed_and_the_command_that_repeats_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Epoch, "check", permit_everything)
    monkeypatch.setattr(CallingGroup, "require", permit_everything)  # a halt also outdates what was planned before it
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


def test_intents_are_left_over_if_the_stored_ledger_has_them_whichever_replica_led_before() -> None:
    """Not those of a term that has ended, which does not settle its own any more: the next leader did."""
    scenario = draw(1, 1.0, DEEDS, 1)
    timeline = loops.Timeline()
    world = World(scenario, timeline, report=lambda _line: None)
    group, store = GroupID(scenario.groups[0].name), world.store

    async def left(*slots: str) -> Sequence[Slot]:
        intents = {Slot(each): Intent(token=Token("t"), hash="v", at=0.0) for each in slots}
        contents = LedgerDocument(intents={group: intents, GroupID("of-no-interest"): intents})
        before = (await store.read(name=NAME)).revision
        await store.replace(name=NAME, body=msgspec.json.encode(contents), expected=before)
        return list((await world.unsettled()).get(group, ()))

    try:
        assert asyncio.run(left("1", "2")) == ["1", "2"]
        assert asyncio.run(left()) == []
    finally:
        timeline.close()
