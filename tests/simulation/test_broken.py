"""What the simulation says when a law is broken: which, when, and how to see it again."""

from collections.abc import Callable, Iterator

import msgspec
import pytest

from infrakit.group.calls import Calls
from infrakit.instances.simulator import Faults, Machine, Simulator
from infrakit.manager.declaration import record
from infrakit.manager.declaration.record import Entry, Record
from infrakit.manager.lead import ledger
from infrakit.simulation import __main__ as program
from infrakit.simulation.laws import Caller, Laws
from infrakit.simulation.loops import Timeline
from infrakit.spi import values
from infrakit.spi.store import Document
from infrakit.spi.values import InstanceSpec, LogicalID

FOCUS = ("simulation", "--minutes", "10", "--replicas", "1", "--deeds", "halt,scale")


async def forget_halts(_self: Calls) -> None:
    """A right to act that nobody asks about."""


@pytest.mark.slow
def test_a_broken_law_is_named_with_the_seed_and_the_command_that_repeats_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Calls, "_permit", forget_halts)
    monkeypatch.setattr("sys.argv", [*FOCUS, "--first", "1", "--count", "48", "--jobs", "2"])
    assert program.main() == 1
    said = capsys.readouterr().out
    assert "stop means stop" in said
    assert "--minutes 10 --replicas 1 --deeds 'halt,scale' --seed" in said
    about = said.splitlines()
    line = next(n for n, text in enumerate(about) if "stop means stop" in text)
    assert "again: python -m infrakit.simulation" in about[line + 1]
    seed = about[line + 1].split("--seed ")[1].split()[0]
    monkeypatch.setattr("sys.argv", [*FOCUS, "--seed", seed])
    assert program.main() == 1
    assert "stop means stop" in capsys.readouterr().out


def test_a_crash_of_the_code_is_a_finding_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(_self: Laws, _what: str, _machine: Machine) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Laws, "_happened", crash)
    assert "ZeroDivisionError" in program.simulate(program.Task(2, 5.0)).verdict


# -- the laws by themselves --------------------------------------------------------------------------------------------


class Watched:
    """Laws, and a timeline to move."""

    def __init__(self, *, exclusive: bool = True) -> None:
        self.timeline = Timeline()
        self.simulator = Simulator(Faults(exclusive=exclusive))
        self.laws = Laws(self.simulator, self.timeline, lying=False)

    def label(self, name: str, epoch: int, *, leads_until: float = 100.0) -> str:
        self.laws.acting(Caller(name=name, epoch=epoch, leads_until=leads_until), "label", values.GroupID("g"))
        return self.laws.verdict

    def adopt(self) -> str:
        """Somebody makes a bearer of `a`."""

        def make() -> None:
            self.simulator.adopt(tags={values.TAG_GROUP: "g"}, logical_id=LogicalID("a"))

        self.timeline.world.call_soon(make)
        self.timeline.run(lambda: len(self.simulator.machines) and not self.timeline.world._ready)
        return self.laws.verdict


@pytest.fixture
def watch() -> Iterator[Callable[..., Watched]]:
    made: list[Watched] = []

    def make(**options: bool) -> Watched:
        made.append(Watched(**options))
        return made[-1]

    yield make
    for each in made:
        each.timeline.close()


@pytest.fixture
def watched(watch: Callable[..., Watched]) -> Watched:
    return watch()


def test_two_bearers_are_seen_when_they_come_to_be(watch: Callable[..., Watched]) -> None:
    watched = watch(exclusive=False)
    assert watched.adopt() == ""
    assert watched.adopt().startswith("2 one bearer: sim-2 and sim-1 bear a")


def test_a_second_bearer_is_seen_when_it_is_asked_for(watched: Watched) -> None:
    watched.adopt()
    spec = InstanceSpec(tags={values.TAG_GROUP: "g", values.TAG_TOKEN: "t"}, logical_id=LogicalID("a"))
    watched.laws.creating(Caller(name="n1.1", epoch=1, leads_until=1.0), spec)
    assert watched.laws.verdict.startswith("2 one bearer: asked for a second a")


def test_an_older_epoch_may_not_begin_anything_after_a_newer_one(watched: Watched) -> None:
    assert watched.label("n1.1", 1) == watched.label("n2.1", 2) == watched.label("n2.1", 2) == ""
    assert watched.label("n1.1", 1).startswith("1 one actor: label by n1.1 of epoch 1, after n2.1 of 2")
    assert watched.laws.overlaps == 1


def test_two_may_not_act_under_one_epoch(watched: Watched) -> None:
    assert watched.label("n1.1", 1) == ""
    assert watched.label("n2.1", 1).startswith("1 one actor: label by n2.1 of epoch 1, after n1.1 of 1")


def test_nobody_acts_without_an_epoch_or_on_an_old_observation(watch: Callable[..., Watched]) -> None:
    assert "holds no epoch" in watch().label("n1.1", 0)
    other = watch()
    assert "observation is 0.50 s too old" in other.label("n1.1", 1, leads_until=-0.5)


def test_an_epoch_that_goes_back_is_seen(watched: Watched) -> None:
    for epoch in (2, 1):
        body = msgspec.json.encode(ledger.Book(epoch=epoch))
        watched.laws.written(Document(name=ledger.NAME, revision=1, body=body))
    assert watched.laws.verdict.startswith("1 one actor: epoch 1 was taken after 2")


def declared(revision: int, why: str) -> Document:
    entry = Entry(what="commit", who="ann", when="", why=why)
    return Document(name=record.NAME, revision=revision, body=record.encode(Record(entry=entry)))


def test_a_version_that_was_acknowledged_and_is_another_is_seen(watched: Watched) -> None:
    watched.laws.written(declared(1, "order 1"))
    watched.laws.told(1, "order 1", changed=True)
    assert watched.laws.verdict == ""
    watched.laws.told(1, "order 2", changed=True)
    assert watched.laws.verdict.startswith("6 never lost: version 1 was acknowledged as order 2")


def test_versions_that_go_back_or_get_lost_are_seen(watch: Callable[..., Watched]) -> None:
    watched = watch()
    watched.laws.written(declared(1, "order 1"))
    watched.laws.written(declared(2, "order 2"))
    watched.laws.told(2, "order 2", changed=True)
    watched.laws.told(1, "order 3", changed=False)
    assert watched.laws.verdict.startswith("6 never lost: version 1 follows 2")
    other = watch()
    other.laws.written(declared(1, "order 1"))
    other.laws.kept({})
    assert other.laws.verdict.startswith("6 never lost: version 1 is gone")
