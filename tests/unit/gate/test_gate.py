"""The gate: whatever the call and whichever actor makes it, the checks come at the moment it begins."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from infrakit.gate.authority import RECENT_S, Epoch, NotBegun, Outdated, StoreSilent, Teardown
from infrakit.gate.gate import CALL_DEADLINE_S, Gate, Vetoed
from infrakit.gate.guard import Guard, Limits, Seen
from infrakit.spi import errors
from infrakit.spi.flavor import MembershipChange
from infrakit.spi.instance import DestroyContext
from infrakit.spi.manager import Halt
from infrakit.spi.values import Allocation, Attachment, Description, InstanceID, InstanceSpec, Slot
from tests.stage import in_virtual_time

RAW = msgspec.Raw(b"{}")
HALT = Halt(group=None, who="ann", when="2026-11-29T12:00:00Z", why="moving the rack")


class Log:
    """An authority and plugins that record the order of what happens."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.refusal: Exception | None = None
        self.hangs = False

    async def prove(self) -> None:
        await asyncio.sleep(0.01)
        self.steps.append("prove")

    def check(self) -> None:
        self.steps.append("check")
        if self.refusal is not None:
            raise self.refusal

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(**_: object) -> str:
            self.steps.append(name)
            if self.hangs:
                await asyncio.sleep(1e6)
            return f"the answer of {name}"

        return call


class Fails(Log):
    """Plugins whose calls fail with an error."""

    def __init__(self, error: errors.InfraKitError) -> None:
        super().__init__()
        self._error = error

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(**_: object) -> str:
            raise self._error

        return call


CALLS: dict[str, Callable[[Gate, Any, Callable[[], object]], Awaitable[Any]]] = {
    "provision": lambda gate, plugin, begin: gate.provision(plugin, spec=InstanceSpec(), begin=begin),
    "destroy": lambda gate, plugin, begin: gate.destroy(
        plugin, instance=InstanceID("i"), context=DestroyContext(), begin=begin
    ),
    "label": lambda gate, plugin, begin: gate.label(plugin, instance=InstanceID("i"), labels={}, begin=begin),
    "delete_attachment": lambda gate, plugin, begin: gate.delete_attachment(
        plugin, attachment=Attachment(id="v", type="volume"), begin=begin
    ),
    "drain": lambda gate, plugin, begin: gate.drain(
        plugin, properties=RAW, instance=Description(id=InstanceID("i")), timeout_s=CALL_DEADLINE_S, begin=begin
    ),
    "release": lambda gate, plugin, begin: gate.release(
        plugin, properties=RAW, instance=Description(id=InstanceID("i")), allocation=Allocation(), begin=begin
    ),
    "change_membership": lambda gate, plugin, begin: gate.change_membership(
        plugin,
        properties=RAW,
        change=MembershipChange(id="remove/m", what="remove m"),
        instances=lambda: (),
        allocation=Allocation(),
        begin=begin,
    ),
}


def test_every_method_is_tested() -> None:
    methods = {name for name, value in vars(Gate).items() if callable(value) and not name.startswith("_")}
    assert methods == {*CALLS, "permit"}


@pytest.mark.parametrize("name", CALLS)
@in_virtual_time
async def test_a_call_begins_after_the_checks_and_after_nothing_else(name: str) -> None:
    log = Log()
    await CALLS[name](Gate(log), log, lambda: log.steps.append("begin"))
    assert log.steps == ["prove", "check", "begin", name]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("error", [errors.NotLeader("epoch 4 is held by b"), errors.Halted("halted by ann")])
@in_virtual_time
async def test_a_call_without_authority_does_not_begin(name: str, error: errors.InfraKitError) -> None:
    log = Log()
    log.refusal = error
    with pytest.raises(NotBegun, match=error.what):
        await CALLS[name](Gate(log), log, lambda: log.steps.append("begin"))
    assert log.steps == ["prove", "check"]


@pytest.mark.parametrize("name", CALLS)
@in_virtual_time
async def test_a_call_that_is_no_longer_wanted_does_not_begin(name: str) -> None:
    log = Log()

    def begin() -> None:
        raise Outdated("the declaration has changed")

    with pytest.raises(Outdated):
        await CALLS[name](Gate(log), log, begin)
    assert log.steps == ["prove", "check"]


@pytest.mark.parametrize("name", CALLS)
@in_virtual_time
async def test_a_call_has_a_timeout(name: str) -> None:
    log = Log()
    log.hangs = True
    began = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        await CALLS[name](Gate(log), log, lambda: None)
    assert asyncio.get_running_loop().time() - began == pytest.approx(CALL_DEADLINE_S, abs=1.0)


class Exhausted(Guard):
    """A guard that refuses everything."""

    def refuse_destroy(self, instance: InstanceID, now: float) -> str:
        return f"{instance} is the last one at {now:.1f}"

    def refuse_creation(self, token: str, now: float) -> str:
        return f"too many{token} at {now:.1f}"


@pytest.mark.parametrize("name", ["provision", "destroy", "drain", "release"])
@in_virtual_time
async def test_a_call_that_the_guard_refuses_does_not_begin(name: str) -> None:
    log = Log()
    with pytest.raises(Vetoed, match=r"is the last one|too many"):
        await CALLS[name](Gate(log, guard=Exhausted()), log, lambda: log.steps.append("begin"))
    assert log.steps == ["prove", "check"]


def _guard_of_two() -> Guard:
    guard = Guard()
    guard.declare(Limits(size=2, max_lost=1), 0.0)
    guard.observe([Seen(InstanceID(each), None, True) for each in ("i", "j")], 0.0)
    return guard


@pytest.mark.parametrize("name", ["drain", "release", "destroy"])
@in_virtual_time
async def test_a_member_counts_as_lost_from_its_drain_on_and_not_if_nothing_was_done(name: str) -> None:
    log, guard = Log(), _guard_of_two()
    await CALLS[name](Gate(log, guard=guard), log, lambda: None)
    assert guard.refuse_destroy(InstanceID("j"), 0.0)

    guard = _guard_of_two()
    with pytest.raises(errors.Refused, match="not now"):
        await CALLS[name](Gate(log, guard=guard), Fails(errors.Refused("not now")), lambda: None)
    assert not guard.refuse_destroy(InstanceID("j"), 0.0)


@pytest.mark.parametrize("name", ["provision", "destroy"])
@in_virtual_time
async def test_a_call_without_an_answer_counts(name: str) -> None:
    guard, now = _guard_of_two(), asyncio.get_running_loop().time
    for error in (errors.OutcomeUnknown("connection reset"), errors.PluginError("internal error")):
        with pytest.raises(type(error)):
            await CALLS[name](Gate(Log(), guard=guard), Fails(error), lambda: None)
        if name == "destroy":
            assert "1 member is being destroyed already" in guard.refuse_destroy(InstanceID("j"), now())
        else:
            assert guard.history(now()).created == ((0, 1),)


@in_virtual_time
async def test_a_leader_acts_in_its_epoch_and_without_a_halt() -> None:
    log = Log()
    halt: list[Halt] = []
    authority = Epoch(log, lambda: halt[0] if halt else None)
    await authority.prove()
    authority.check()
    halt.append(HALT)
    with pytest.raises(errors.Halted, match="halted by ann: moving the rack"):
        authority.check()
    halt.clear()
    log.refusal = errors.NotLeader("the epoch is lost")
    with pytest.raises(errors.NotLeader):
        authority.check()


@in_virtual_time
async def test_a_teardown_stops_when_its_halt_is_lifted() -> None:
    answers: list[bool | None] = [True, None, False]
    authority = Teardown(lambda: _answer(answers))
    await authority.prove()
    authority.check()
    await authority.prove()  # still recent: no request
    assert len(answers) == 2
    await asyncio.sleep(RECENT_S + 0.1)
    with pytest.raises(errors.Refused, match="expired"):
        authority.check()
    await authority.prove()  # no replica answers any more: the halt that was committed lasts
    authority.check()
    await asyncio.sleep(RECENT_S + 0.1)
    with pytest.raises(errors.Halted, match="was lifted"):
        await authority.prove()


@in_virtual_time
async def test_concurrent_calls_share_one_proof() -> None:
    answers: list[bool | None] = [True]
    authority = Teardown(lambda: _answer(answers))
    await asyncio.gather(*(authority.prove() for _ in range(20)))
    assert answers == []


@in_virtual_time
async def test_a_bootstrap_stops_when_the_store_answers() -> None:
    answers = [False, True]
    authority = StoreSilent(lambda: _answer(answers))
    await authority.prove()
    authority.check()
    await asyncio.sleep(RECENT_S + 0.1)
    with pytest.raises(Outdated, match="the store answers now"):
        await authority.prove()


async def _answer(answers: list[Any]) -> Any:
    await asyncio.sleep(0.01)
    return answers.pop(0)


@pytest.mark.parametrize("name", ["drain", "release"])
@in_virtual_time
async def test_what_precedes_a_destruction_does_not_forbid_it_by_itself(name: str) -> None:
    """The second instance of a logical ID is drained: only its destruction may end the other one, too."""
    log, guard = Log(), Guard()
    guard.declare(Limits(size=3, max_lost=1, quorum=True), 0.0)
    slots = {"i": "a", "j": "a", "k": "b"}
    guard.observe([Seen(InstanceID(i), Slot(slot), True, judged_at=1.0) for i, slot in slots.items()], 1.0)
    gate = Gate(log, guard=guard)
    await CALLS[name](gate, log, lambda: None)
    await CALLS["destroy"](gate, log, lambda: None)
    assert [step for step in log.steps if step in CALLS] == [name, "destroy"]
    with pytest.raises(Vetoed, match="1 of 3 members would be left"):
        await CALLS["destroy"](gate, log, lambda: None)
