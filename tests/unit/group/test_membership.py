"""A group whose flavor keeps a list of members: newcomers are let in, the dead taken off, and nothing is hurried."""

import asyncio
import random
from collections.abc import Sequence

import msgspec
import pytest

from infrakit.group.actions import ChangeMembership, Destroy
from infrakit.group.calls import CALL_DEADLINE_S
from infrakit.group.plan import membership as member_list
from infrakit.group.probers import DEADLINE_S
from infrakit.group.state.member import Leaving
from infrakit.instances.simulator import Faults, Machine, Simulator, Spread
from infrakit.simulation.listing import ListingFlavor
from infrakit.spi import errors
from infrakit.spi.event import Kind
from infrakit.spi.flavor import MembershipChange
from infrakit.spi.values import Allocation, Description, GroupID, InstanceID
from tests.stage import Stage, in_virtual_time, pets

DB = GroupID("db")


class Keeper(ListingFlavor):
    """Remembers what it was asked to do, and can be told to fail, to hang, to do nothing, and of strangers."""

    failure: Exception | None = None
    unseen: Exception | None = None
    takes_s: float = 0.0
    idle: bool = False
    hanging: bool = False
    told: tuple[MembershipChange, ...] = ()
    changes: tuple[str, ...] = ()
    together: int = 0
    most: int = 0

    def __init__(self, simulator: Simulator, rng: random.Random) -> None:
        super().__init__(simulator, rng)
        self.lost: list[Machine] = []
        self.removals.append(self.lost.append)

    @property
    def wronged(self) -> list[str]:
        """Who was taken off the list and lives."""
        return [machine.id for machine in self.lost if machine.lives]

    async def membership(
        self, *, properties: msgspec.Raw, instances: Sequence[Description], allocation: Allocation
    ) -> Sequence[MembershipChange]:
        if self.hanging:
            await asyncio.get_running_loop().create_future()
        if self.unseen is not None:
            raise self.unseen
        assert allocation.logical_ids is not None
        return [*self.told, *self._needs(instances)]

    async def change_membership(
        self,
        *,
        properties: msgspec.Raw,
        change: MembershipChange,
        instances: Sequence[Description],
        allocation: Allocation,
    ) -> None:
        self.changes = (*self.changes, change.id)
        self.together += 1
        self.most = max(self.most, self.together)
        try:
            await asyncio.sleep(self.takes_s)
            if self.failure is not None:
                raise self.failure
            if not self.idle:
                await super().change_membership(
                    properties=properties, change=change, instances=instances, allocation=allocation
                )
        finally:
            self.together -= 1


def keeper(stage: Stage) -> Keeper:
    assert isinstance(stage.flavor, Keeper)
    return stage.flavor


def voting(stage: Stage) -> set[str]:
    return {str(e.machine.logical_id) for e in keeper(stage).listed(DB).values() if e.voting and e.machine.lives}


def exact(stage: Stage) -> bool:
    """Whether the list is that of the living, and all of them are voting."""
    return set(keeper(stage).listed(DB)) == {m.id for m in stage.alive("db").values()} and len(voting(stage)) == len(
        stage.alive("db")
    )


@in_virtual_time
async def test_newcomers_are_let_in_and_the_dead_are_taken_off_one_at_a_time() -> None:
    async with Stage(flavor_class=Keeper) as stage:
        keeper(stage).takes_s = 1.0
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        assert voting(stage) == {"a", "b", "c"}
        dead = stage.kill("db", "b")
        await stage.until(lambda: dead not in keeper(stage).entries)
        await stage.converged()
        assert exact(stage)
        assert keeper(stage).changes[3] == f"remove/{dead}"
        assert len(keeper(stage).changes) == len(set(keeper(stage).changes)) == 5
        assert keeper(stage).most == 1
        assert f"remove {dead}: it has terminated" in stage.messages(Kind.MEMBERSHIP)
        assert not stage.messages(Kind.ERROR)
        assert not keeper(stage).wronged


@in_virtual_time
async def test_nobody_is_taken_off_whom_a_provider_is_late_to_list() -> None:
    late = Faults(lag=Spread(low=30.0), lag_max=40.0)
    async with Stage(faults=late, flavor_class=Keeper) as stage:
        await stage.commit(pets("db", "a b c"))
        await stage.until(lambda: len(stage.alive("db")) == 3)
        await stage.converged()
        assert exact(stage)
        assert not [change for change in keeper(stage).changes if change.startswith("remove")]
        assert "promote/" in keeper(stage).changes[0]


@pytest.mark.parametrize("quorum", [True, False])
def test_nothing_of_a_quorum_is_destroyed_while_the_list_is_changed(quorum: bool) -> None:
    @in_virtual_time
    async def story() -> None:
        async with Stage(flavor_class=Keeper) as stage:
            await stage.commit(pets("db", "a b c", quorum=quorum))
            await stage.converged()
            keeper(stage).takes_s = 50.0
            stage.kill("db", "a")
            await stage.until(lambda: keeper(stage).together)
            assert "one-at-a-time" not in [w.rule for w in (await stage.status("db")).waiting]
            await stage.commit(pets("db", "a b", quorum=quorum))
            await stage.until(lambda: len(stage.alive("db")) < 3 or not keeper(stage).together)
            assert (keeper(stage).together > 0) is not quorum
            keeper(stage).takes_s = 0.0
            await stage.until(lambda: stage.is_converged() and exact(stage))
            assert stage.alive("db").keys() == {"a", "b"}

    story()


@in_virtual_time
async def test_the_list_of_a_quorum_is_left_alone_while_a_member_is_drained() -> None:
    async with Stage(flavor_class=Keeper) as stage:
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        stage.flavor.faults = msgspec.structs.replace(stage.flavor.faults, drain_hang_rate=1.0)
        keeper(stage).told = (MembershipChange(id="remove/x", what="x is dead"),)
        keeper(stage).failure = errors.Refused("not yet")
        await stage.commit(pets("db", "a b", quorum=True))
        await stage.until(lambda: stage.messages(Kind.DRAINING))
        before = keeper(stage).changes
        assert before  # it went first
        await asyncio.sleep(20)
        assert keeper(stage).changes == before
        waits = [w for w in (await stage.status("db")).waiting if w.rule == "one-at-a-time"]
        assert "is leaving; the member list of a quorum does not change meanwhile" in waits[0].reason
        await stage.until(lambda: len(stage.alive("db")) == 2)
        await stage.until(lambda: keeper(stage).changes != before)


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (errors.Refused("b is not reachable"), Kind.REFUSED),
        (errors.OutcomeUnknown("the connection broke"), Kind.ERROR),
        (ValueError("a bug"), Kind.ERROR),
    ],
    ids=["refused", "unknown", "a bug"],
)
def test_a_change_that_fails_is_tried_again_later_and_later(failure: Exception, kind: Kind) -> None:
    @in_virtual_time
    async def story() -> None:
        async with Stage(flavor_class=Keeper) as stage:
            keeper(stage).failure = failure
            await stage.commit(pets("db", "a", quorum=True))
            await stage.until(lambda: keeper(stage).changes)
            await asyncio.sleep(600)
            assert 8 <= len(keeper(stage).changes) <= 20
            (told, *_more) = stage.messages(kind)
            assert told.startswith("promote ")
            assert told.endswith(f": {failure}")
            status = await stage.status("db")
            assert not status.converged
            (wait,) = [w for w in status.waiting if w.rule == "back-off"]
            assert str(failure) in wait.reason
            keeper(stage).failure = None
            await stage.operator.resume(group=DB, who="ann", why="it is mended")
            await stage.converged(within_s=10.0)
            assert exact(stage)

    story()


@in_virtual_time
async def test_a_change_that_changes_nothing_is_not_repeated_at_once() -> None:
    async with Stage(flavor_class=Keeper) as stage:
        keeper(stage).idle = True
        await stage.commit(pets("db", "a"))
        await asyncio.sleep(600)
        assert 8 <= len(keeper(stage).changes) <= 20
        (wait,) = [w for w in (await stage.status("db")).waiting if w.rule == "back-off"]
        assert "the change was made and is still needed" in wait.reason


@in_virtual_time
async def test_a_change_without_an_answer_is_given_up_and_made_again() -> None:
    async with Stage(flavor_class=Keeper) as stage:
        keeper(stage).takes_s = 1e6
        await stage.commit(pets("db", "a"))
        await stage.until(lambda: keeper(stage).changes)
        await asyncio.sleep(CALL_DEADLINE_S)
        keeper(stage).takes_s = 0.0
        await stage.converged()
        (told,) = stage.messages(Kind.ERROR)
        assert "no answer within 120 s" in told


@in_virtual_time
async def test_nothing_is_changed_while_halted_and_one_that_was_decided_is_not_begun() -> None:
    async with Stage(flavor_class=Keeper) as stage:
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        before = keeper(stage).changes
        await stage.operator.halt(group=DB, who="ann", why="I look")
        keeper(stage).told = (MembershipChange(id="remove/x", what="x is dead"),)
        await asyncio.sleep(100)
        assert keeper(stage).changes == before
        await stage.operator.unhalt(group=DB, who="ann", why="seen")
        await stage.until(lambda: keeper(stage).changes != before)


@in_virtual_time
async def test_a_halt_that_comes_between_plan_and_call_stops_it() -> None:
    async with Stage(flavor_class=Keeper) as stage:
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        controller, before = stage.controller("db"), keeper(stage).changes
        await stage.operator.halt(group=DB, who="ann", why="I look")
        promote = MembershipChange(id="promote/x", what="x is let in")
        action = ChangeMembership(on="db", change=promote, reason=promote.what, rule="membership")
        assert await controller.executor._calls.perform(action) is False
        assert keeper(stage).changes == before
        assert controller.view.membership is not None
        assert controller.view.membership.changing is None
        assert member_list.key(promote) not in controller.view.backoffs


@in_virtual_time
async def test_what_is_only_told_is_an_event_once_and_shown_for_as_long_as_it_is_there() -> None:
    stranger = MembershipChange(id="unknown/7", what="10.0.0.7 is on the list, and is nobody's", due=False)
    other = MembershipChange(id="unknown/8", what="10.0.0.8 is on the list, and is nobody's", due=False)
    async with Stage(flavor_class=Keeper) as stage:
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        keeper(stage).told = (stranger, other)
        await stage.until(lambda: stranger.what in stage.messages(Kind.WAITING))
        await asyncio.sleep(200)
        status = await stage.status("db")
        assert status.converged
        assert [w.reason for w in status.waiting] == [stranger.what, other.what]
        explained = await stage.operator.why(group=DB)
        assert stranger.what in [w.reason for w in explained.waiting]
        assert any("the flavor's membership was read" in fact for fact in explained.facts)
        assert stage.messages(Kind.WAITING).count(stranger.what) == 1
        assert stage.messages(Kind.WAITING).count(other.what) == 1
        stage.kill("db", "a")  # and changes of others do not tell it anew
        await stage.until(lambda: exact(stage) and stage.is_converged())
        assert stage.messages(Kind.WAITING).count(stranger.what) == 1
        keeper(stage).told = ()
        await stage.until(lambda: not stage.controller("db").blocked)


@in_virtual_time
async def test_a_list_that_cannot_be_seen_is_told_and_left_alone() -> None:
    async with Stage(flavor_class=Keeper) as stage:
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        before = keeper(stage).changes
        keeper(stage).unseen = errors.Unreachable("nobody leads")
        dead = stage.kill("db", "a")
        await asyncio.sleep(DEADLINE_S)
        assert dead in keeper(stage).entries
        assert "a" in stage.alive("db")  # its successor was made all the same
        assert keeper(stage).changes == before
        assert any("is unknown: the flavor failed: nobody leads" in each for each in stage.messages(Kind.WAITING))
        await asyncio.sleep(100)
        assert not (await stage.status("db")).converged
        keeper(stage).unseen = None
        await stage.until(lambda: exact(stage) and stage.is_converged())


@in_virtual_time
async def test_a_question_that_hangs_delays_nothing_else() -> None:
    async with Stage(flavor_class=Keeper) as stage:
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        keeper(stage).hanging = True
        loop = asyncio.get_running_loop()
        dead, died_at = stage.kill("db", "a"), loop.time()
        await stage.until(lambda: "a" in stage.alive("db"))
        assert loop.time() - died_at < DEADLINE_S
        await stage.until(lambda: any("did not answer within 30 s" in each for each in stage.messages(Kind.WAITING)))
        assert dead in keeper(stage).entries


@in_virtual_time
async def test_ending_a_controller_tells_of_the_change_that_was_under_way() -> None:
    async with Stage(flavor_class=Keeper) as stage:
        keeper(stage).takes_s = 50.0
        await stage.commit(pets("db", "a"))
        await stage.until(lambda: keeper(stage).together)
        await stage.stop()
        assert any("outcome unknown (call cancelled)" in each for each in stage.messages(Kind.ERROR))


@in_virtual_time
async def test_an_order_to_destroy_gives_way_to_a_change_that_has_begun() -> None:
    """The planner keeps them apart; so does the last moment before a call, for what was planned before."""
    async with Stage(flavor_class=Keeper) as stage:
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        controller = stage.controller("db")
        view, calls = controller.view, controller.executor._calls
        change = MembershipChange(id="remove/x", what="x is dead")
        view.change_begins(change)
        member = next(iter(view.members.values()))
        assert await calls.perform(Destroy(instance=member.id, reason="r", rule="unhealthy")) is False
        assert not member.leaving
        view.change_ends(asyncio.get_running_loop().time(), done=False)
        before, member.leaving = keeper(stage).changes, Leaving.DRAINING
        action = ChangeMembership(on="db", change=change, reason=change.what, rule="membership")
        assert await calls.perform(action) is False
        assert keeper(stage).changes == before
        member.leaving = Leaving.NO


def test_the_list_of_the_simulation_can_lose_a_living_member() -> None:
    """Else its law would hold anything."""

    @in_virtual_time
    async def story() -> None:
        async with Stage(flavor_class=Keeper) as stage:
            await stage.commit(pets("db", "a b"))
            await stage.converged()
            one, other = (m.id for m in stage.alive("db").values())
            known = [m.description for m in stage.controller("db").view.members.values() if m.id == one]
            change = MembershipChange(id=f"remove/{other}", what="")
            await stage.flavor.change_membership(  # type: ignore[attr-defined]
                properties=msgspec.Raw(b"{}"), change=change, instances=known, allocation=Allocation(size=1)
            )
            assert keeper(stage).wronged == [other]
            assert InstanceID(other) not in keeper(stage).entries

    story()
