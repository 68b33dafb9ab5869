"""The report of a broken law: which one, when, and the command that repeats the run."""

from collections.abc import Callable, Iterator

import msgspec
import pytest

from infrakit.gate.authority import Epoch
from infrakit.group.calls import Calls
from infrakit.instances.simulator import Faults, Machine, Simulator
from infrakit.manager.declaration import record
from infrakit.manager.declaration.record import ChangeEntry, DeclarationRecord
from infrakit.manager.lead import ledger
from infrakit.simulation import __main__ as program
from infrakit.simulation.laws import Caller, Laws
from infrakit.simulation.loops import Timeline
from infrakit.spi import values
from infrakit.spi.store import Document
from infrakit.spi.values import InstanceSpec, LogicalID

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
    def crash(_self: Laws, _what: str, _machine: Machine) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Laws, "_on_change", crash)
    assert "ZeroDivisionError" in program.simulate(program.Task(2, 5.0)).verdict


# -- the laws alone ----------------------------------------------------------------------------------------------------


class WatchedLaws:
    """The laws with a simulator and a timeline that a test advances."""

    def __init__(self, *, exclusive: bool = True) -> None:
        self.timeline = Timeline()
        self.simulator = Simulator(Faults(exclusive=exclusive))
        self.laws = Laws(self.simulator, self.timeline, incomplete=False)

    def label(self, name: str, epoch: int, *, leads_until: float = 100.0) -> str:
        self.laws.acting(Caller(name=name, epoch=epoch, leads_until=leads_until), "label", values.GroupID("g"))
        return self.laws.verdict

    def adopt(self) -> str:
        """Let an external process create an instance with the logical ID `a`."""

        def create() -> None:
            self.simulator.adopt(tags={values.TAG_GROUP: "g"}, logical_id=LogicalID("a"))

        self.timeline.world.call_soon(create)
        self.timeline.run(lambda: len(self.simulator.machines) and not self.timeline.world._ready)
        return self.laws.verdict


@pytest.fixture
def watch() -> Iterator[Callable[..., WatchedLaws]]:
    created: list[WatchedLaws] = []

    def make(**options: bool) -> WatchedLaws:
        created.append(WatchedLaws(**options))
        return created[-1]

    yield make
    for each in created:
        each.timeline.close()


@pytest.fixture
def watched(watch: Callable[..., WatchedLaws]) -> WatchedLaws:
    return watch()


def test_two_instances_with_one_logical_id_are_detected_at_creation(watch: Callable[..., WatchedLaws]) -> None:
    watched = watch(exclusive=False)
    assert watched.adopt() == ""
    assert watched.adopt().startswith("2 one per identity: sim-2 and sim-1 both have a")


def test_a_second_instance_is_detected_when_it_is_requested(watched: WatchedLaws) -> None:
    watched.adopt()
    spec = InstanceSpec(tags={values.TAG_GROUP: "g", values.TAG_TOKEN: "t"}, logical_id=LogicalID("a"))
    watched.laws.creating(Caller(name="n1.1", epoch=1, leads_until=1.0), spec)
    assert watched.laws.verdict.startswith("2 one per identity: requested a second a")


def test_an_older_epoch_may_not_start_a_call_after_a_newer_one(watched: WatchedLaws) -> None:
    assert watched.label("n1.1", 1) == watched.label("n2.1", 2) == watched.label("n2.1", 2) == ""
    assert watched.label("n1.1", 1).startswith("1 one actor: label by n1.1 of epoch 1, after n2.1 of 2")
    assert watched.laws.overlaps == 1


def test_two_may_not_act_under_one_epoch(watched: WatchedLaws) -> None:
    assert watched.label("n1.1", 1) == ""
    assert watched.label("n2.1", 1).startswith("1 one actor: label by n2.1 of epoch 1, after n1.1 of 1")


def test_no_process_acts_without_an_epoch_or_with_an_expired_observation(watch: Callable[..., WatchedLaws]) -> None:
    assert "holds no epoch" in watch().label("n1.1", 0)
    other = watch()
    assert "observation expired 0.50s ago" in other.label("n1.1", 1, leads_until=-0.5)


def test_a_decreasing_epoch_is_detected(watched: WatchedLaws) -> None:
    for epoch in (2, 1):
        body = msgspec.json.encode(ledger.LedgerDocument(epoch=epoch))
        watched.laws.written(Document(name=ledger.NAME, revision=1, body=body))
    assert watched.laws.verdict.startswith("1 one actor: epoch 1 was acquired after 2")


def declared(revision: int, why: str) -> Document:
    entry = ChangeEntry(what="commit", who="ann", when="", why=why)
    return Document(name=record.NAME, revision=revision, body=record.encode(DeclarationRecord(entry=entry)))


def test_a_version_that_differs_from_what_was_acknowledged_is_detected(watched: WatchedLaws) -> None:
    watched.laws.written(declared(1, "command 1"))
    watched.laws.acknowledged(1, "command 1", changed=True)
    assert watched.laws.verdict == ""
    watched.laws.acknowledged(1, "command 2", changed=True)
    assert watched.laws.verdict.startswith("6 never lost: version 1 was acknowledged as command 2")


def test_decreasing_or_lost_versions_are_detected(watch: Callable[..., WatchedLaws]) -> None:
    watched = watch()
    watched.laws.written(declared(1, "command 1"))
    watched.laws.written(declared(2, "command 2"))
    watched.laws.acknowledged(2, "command 2", changed=True)
    watched.laws.acknowledged(1, "command 3", changed=False)
    assert watched.laws.verdict.startswith("6 never lost: version 1 follows 2")
    other = watch()
    other.laws.written(declared(1, "command 1"))
    other.laws.check_history({})
    assert other.laws.verdict.startswith("6 never lost: version 1 is missing")
