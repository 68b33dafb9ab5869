"""A change of the member list is in the ledger before it begins, and a new leader waits for an earlier one."""

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from infrakit.gate.gate import CALL_DEADLINE_S
from infrakit.instances.simulator import Spread
from infrakit.manager.lead.ledger import LedgerDocument
from infrakit.spi import errors
from infrakit.spi.event import Kind
from infrakit.spi.flavor import MembershipChange
from infrakit.spi.values import Allocation, Description, GroupID
from tests.stage import Stage, in_virtual_time, pets
from tests.unit.group.test_membership import ScriptedFlavor, flavor_of, membership_is_exact

DB = GroupID("db")
PROMOTION = MembershipChange(id="promote/x", what="x is promoted")


def now() -> float:
    return asyncio.get_running_loop().time()


def recorded(stage: Stage) -> tuple[str, ...]:
    assert stage.replica.term is not None
    return tuple(stage.replica.term.ledger.changing(DB))


class Reports(ScriptedFlavor):
    """Reports one change until it is made, and what the ledger contained when each change began."""

    changes_in_ledger: tuple[tuple[str, ...], ...] = ()
    stage: Stage

    async def change_membership(
        self,
        *,
        properties: msgspec.Raw,
        change: MembershipChange,
        instances: Sequence[Description],
        allocation: Allocation,
    ) -> None:
        self.changes_in_ledger = (*self.changes_in_ledger, recorded(self.stage))
        await super().change_membership(
            properties=properties, change=change, instances=instances, allocation=allocation
        )


@in_virtual_time
async def test_a_change_is_in_the_ledger_before_it_begins_and_cleared_once_it_is_answered() -> None:
    async with Stage(flavor_class=Reports) as stage:
        flavor = flavor_of(stage)
        assert isinstance(flavor, Reports)
        flavor.stage, flavor.takes_s = stage, 1.0
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        assert len(flavor.changes) == 3
        assert flavor.changes_in_ledger == tuple((change,) for change in flavor.changes)
        await stage.until(lambda: not recorded(stage), within_s=2.0)


@pytest.mark.parametrize("failure", [errors.Refused("not yet"), errors.PluginError("a bug")])
def test_a_change_that_was_answered_with_an_error_is_cleared(failure: Exception) -> None:
    @in_virtual_time
    async def scenario() -> None:
        async with Stage(flavor_class=ScriptedFlavor) as stage:
            await stage.commit(pets("db", "a b c", quorum=True))
            await stage.converged()
            flavor_of(stage).failure = failure
            flavor_of(stage).reported = (PROMOTION,)
            await stage.until(lambda: PROMOTION.id in flavor_of(stage).changes)
            await stage.until(lambda: not recorded(stage), within_s=2.0)

    scenario()


async def _stopped_during_a_change(stage: Stage) -> None:
    await stage.commit(pets("db", "a b c", quorum=True))
    await stage.converged()
    flavor_of(stage).takes_s = CALL_DEADLINE_S - 5.0
    flavor_of(stage).reported = (PROMOTION,)
    await stage.until(lambda: flavor_of(stage).in_progress)


async def _fail_over(first: Stage) -> Stage:
    """Return a second replica on the same store and provider, which has to wait for nothing but the previous calls."""
    await first.stop()
    new_leader = Stage(store=first.store, simulator=first.simulator, flavor_class=ScriptedFlavor)
    flavor_of(new_leader).entries = flavor_of(first).entries
    return new_leader


@in_virtual_time
async def test_no_destruction_begins_while_a_change_of_the_previous_leader_may_take_effect() -> None:
    async with Stage(flavor_class=ScriptedFlavor) as first:
        await _stopped_during_a_change(first)
        new_leader = await _fail_over(first)
    async with new_leader:
        began = now()
        await new_leader.commit(pets("db", "a b", quorum=True))
        await asyncio.sleep(CALL_DEADLINE_S / 2)
        assert not new_leader.messages(Kind.DESTROYING)
        assert not flavor_of(new_leader).changes
        waits = [w.reason for w in (await new_leader.status("db")).waiting if w.rule == "one-at-a-time"]
        assert any("the change promote/x of the member list may still take effect" in each for each in waits)
        assert recorded(new_leader) == ("promote/x",)
        await new_leader.until(lambda: new_leader.messages(Kind.DESTROYING))
        assert now() - began >= CALL_DEADLINE_S
        await new_leader.until(lambda: new_leader.is_converged() and membership_is_exact(new_leader))
        await new_leader.until(lambda: not recorded(new_leader), within_s=2.0)


@in_virtual_time
async def test_no_destruction_begins_before_the_member_list_is_polled_after_the_call() -> None:
    async with Stage(flavor_class=ScriptedFlavor) as first:
        await _stopped_during_a_change(first)
        new_leader = await _fail_over(first)
    flavor_of(new_leader).query_error = errors.Unreachable("no leader")
    async with new_leader:
        await new_leader.commit(pets("db", "a b", quorum=True))
        await asyncio.sleep(3 * CALL_DEADLINE_S)
        assert not new_leader.messages(Kind.DESTROYING)
        flavor_of(new_leader).query_error = None
        await new_leader.until(lambda: new_leader.messages(Kind.DESTROYING), within_s=5.0)


@in_virtual_time
async def test_another_change_waits_for_that_of_the_previous_leader_and_the_same_one_does_not() -> None:
    other = MembershipChange(id="remove/y", what="y is removed")
    async with Stage(flavor_class=ScriptedFlavor) as first:
        await _stopped_during_a_change(first)
        new_leader = await _fail_over(first)
    flavor_of(new_leader).reported = (other, PROMOTION)
    async with new_leader:
        began = now()
        await new_leader.until(lambda: PROMOTION.id in flavor_of(new_leader).changes)
        assert now() - began < 10.0
        assert other.id not in flavor_of(new_leader).changes
        await new_leader.until(lambda: other.id in flavor_of(new_leader).changes)
        assert now() - began >= CALL_DEADLINE_S


@in_virtual_time
async def test_the_destruction_of_the_whole_group_waits_for_no_change() -> None:
    async with Stage(flavor_class=ScriptedFlavor) as first:
        await _stopped_during_a_change(first)
        new_leader = await _fail_over(first)
    flavor_of(new_leader).query_error = errors.Unreachable("no leader")
    async with new_leader:
        await new_leader.replica.active.wait()
        await new_leader.operator.destroy(group=DB, who="ann", why="down")
        await new_leader.until(lambda: not new_leader.simulator.live(), within_s=60.0)


@in_virtual_time
async def test_a_destruction_of_the_previous_leader_delays_every_other_one_of_a_quorum() -> None:
    async with Stage(flavor_class=ScriptedFlavor) as first:
        await first.commit(pets("db", "a b c d", quorum=True))
        await first.converged()
        first.fault(destroy=Spread(low=300.0))
        await first.commit(pets("db", "a b c", quorum=True))
        await first.until(lambda: first.messages(Kind.DESTROYING))
        new_leader = await _fail_over(first)
    first.fault(destroy=Spread())
    async with new_leader:
        began, victim = now(), new_leader.alive("db")["a"].id
        await new_leader.until(lambda: new_leader.controllers() and new_leader.controller("db").view.members)
        await new_leader.operator.destroy_instance(instance=victim, who="ann", why="test")
        await asyncio.sleep(CALL_DEADLINE_S / 2)
        assert not new_leader.messages(Kind.DESTROYING)
        await new_leader.until(lambda: new_leader.messages(Kind.DESTROYING))
        assert now() - began >= CALL_DEADLINE_S - 5.0


@in_virtual_time
async def test_a_call_that_was_cut_off_counts_until_its_deadline() -> None:
    """The connection broke, and the other side may still carry it out: the same leader waits, too."""
    async with Stage(flavor_class=ScriptedFlavor) as stage:
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        flavor_of(stage).failure = errors.OutcomeUnknown("the connection broke")
        flavor_of(stage).reported = (PROMOTION,)
        await stage.until(lambda: PROMOTION.id in flavor_of(stage).changes)
        began, flavor_of(stage).reported = now(), ()
        await stage.commit(pets("db", "a b", quorum=True))
        await stage.until(lambda: stage.messages(Kind.DESTROYING))
        assert now() - began >= CALL_DEADLINE_S - 1.0


def test_a_ledger_without_changes_of_member_lists_is_read() -> None:
    assert msgspec.json.decode(b'{"Epoch": 3, "Ending": {"db": ["i-1"]}}', type=LedgerDocument).changing == {}
