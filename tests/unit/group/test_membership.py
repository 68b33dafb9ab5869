"""A group whose flavor has a member list: new members are added and terminated ones removed, one at a time."""

import asyncio
import random
from collections.abc import Sequence

import msgspec
import pytest

from infrakit.gate.gate import CALL_DEADLINE_S
from infrakit.group.actions import ChangeMembership, Destroy
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


class ScriptedFlavor(ListingFlavor):
    """Records its membership changes; tests make it fail, hang, do nothing, or report additional changes."""

    failure: Exception | None = None
    query_error: Exception | None = None
    takes_s: float = 0.0
    without_effect: bool = False
    hanging: bool = False
    reported: tuple[MembershipChange, ...] = ()
    changes: tuple[str, ...] = ()
    in_progress: int = 0
    in_progress_max: int = 0

    def __init__(self, simulator: Simulator, rng: random.Random) -> None:
        super().__init__(simulator, rng)
        self.removed: list[Machine] = []
        self.removals.append(self.removed.append)

    @property
    def removed_alive(self) -> list[str]:
        """IDs of machines that were removed from the member list although they run."""
        return [machine.id for machine in self.removed if machine.lives]

    async def membership(
        self, *, properties: msgspec.Raw, instances: Sequence[Description], allocation: Allocation
    ) -> Sequence[MembershipChange]:
        if self.hanging:
            await asyncio.get_running_loop().create_future()
        if self.query_error is not None:
            raise self.query_error
        assert allocation.logical_ids is not None
        return [*self.reported, *self._needs(instances, allocation)]

    async def change_membership(
        self,
        *,
        properties: msgspec.Raw,
        change: MembershipChange,
        instances: Sequence[Description],
        allocation: Allocation,
    ) -> None:
        self.changes = (*self.changes, change.id)
        self.in_progress += 1
        self.in_progress_max = max(self.in_progress_max, self.in_progress)
        try:
            await asyncio.sleep(self.takes_s)
            if self.failure is not None:
                raise self.failure
            if not self.without_effect:
                await super().change_membership(
                    properties=properties, change=change, instances=instances, allocation=allocation
                )
        finally:
            self.in_progress -= 1


def flavor_of(stage: Stage) -> ScriptedFlavor:
    assert isinstance(stage.flavor, ScriptedFlavor)
    return stage.flavor


def voting(stage: Stage) -> set[str]:
    return {str(e.machine.logical_id) for e in flavor_of(stage).listed(DB).values() if e.voting and e.machine.lives}


def membership_is_exact(stage: Stage) -> bool:
    """Whether the member list contains exactly the live machines, and all of them vote."""
    return set(flavor_of(stage).listed(DB)) == {m.id for m in stage.alive("db").values()} and len(voting(stage)) == len(
        stage.alive("db")
    )


@in_virtual_time
async def test_a_member_whose_instance_is_not_adopted_yet_stays_on_the_list() -> None:
    async with Stage(flavor_class=ScriptedFlavor) as lost:
        await lost.commit(pets("db", "a b c", quorum=True))
        await lost.converged()
    assert isinstance(lost.flavor, ScriptedFlavor)
    before = len(lost.flavor.changes)
    shared = lambda *_: lost.flavor  # noqa: E731
    async with Stage(flavor_class=shared, simulator=lost.simulator, seed=11) as new:  # type: ignore[arg-type]
        await new.commit(pets("db", "a b c d", quorum=True))
        await new.until(lambda: new.controller("db").view.members)
        await asyncio.sleep(600.0)
        assert len(new.controller("db").others) == 3
        assert lost.flavor.removed == []
        assert not [each for each in lost.flavor.changes[before:] if each.startswith("remove/")]


@in_virtual_time
async def test_new_members_are_added_and_terminated_ones_removed_one_at_a_time() -> None:
    async with Stage(flavor_class=ScriptedFlavor) as stage:
        flavor_of(stage).takes_s = 1.0
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        assert voting(stage) == {"a", "b", "c"}
        terminated = stage.kill("db", "b")
        await stage.until(lambda: terminated not in flavor_of(stage).entries)
        await stage.converged()
        assert membership_is_exact(stage)
        assert flavor_of(stage).changes[3] == f"remove/{terminated}"
        assert len(flavor_of(stage).changes) == len(set(flavor_of(stage).changes)) == 5
        assert flavor_of(stage).in_progress_max == 1
        assert f"remove {terminated}: it has terminated" in stage.messages(Kind.MEMBERSHIP)
        assert not stage.messages(Kind.ERROR)
        assert not flavor_of(stage).removed_alive


@in_virtual_time
async def test_members_that_the_provider_lists_late_are_not_removed() -> None:
    late_listings = Faults(lag=Spread(low=30.0), lag_max=40.0)
    async with Stage(faults=late_listings, flavor_class=ScriptedFlavor) as stage:
        await stage.commit(pets("db", "a b c"))
        await stage.until(lambda: len(stage.alive("db")) == 3)
        await stage.converged()
        assert membership_is_exact(stage)
        assert not [change for change in flavor_of(stage).changes if change.startswith("remove")]
        assert "promote/" in flavor_of(stage).changes[0]


@pytest.mark.parametrize("quorum", [True, False])
def test_no_member_of_a_quorum_is_destroyed_during_a_membership_change(quorum: bool) -> None:
    @in_virtual_time
    async def scenario() -> None:
        async with Stage(flavor_class=ScriptedFlavor) as stage:
            await stage.commit(pets("db", "a b c", quorum=quorum))
            await stage.converged()
            flavor_of(stage).takes_s = 50.0
            stage.kill("db", "a")
            await stage.until(lambda: flavor_of(stage).in_progress)
            assert "one-at-a-time" not in [w.rule for w in (await stage.status("db")).waiting]
            await stage.commit(pets("db", "a b", quorum=quorum))
            await stage.until(lambda: len(stage.alive("db")) < 3 or not flavor_of(stage).in_progress)
            assert (flavor_of(stage).in_progress > 0) is not quorum
            flavor_of(stage).takes_s = 0.0
            await stage.until(lambda: stage.is_converged() and membership_is_exact(stage))
            assert stage.alive("db").keys() == {"a", "b"}

    scenario()


@in_virtual_time
async def test_the_membership_of_a_quorum_is_not_changed_while_a_member_is_drained() -> None:
    async with Stage(flavor_class=ScriptedFlavor) as stage:
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        stage.flavor.faults = msgspec.structs.replace(stage.flavor.faults, drain_hang_rate=1.0)
        flavor_of(stage).reported = (MembershipChange(id="remove/x", what="x is dead"),)
        flavor_of(stage).failure = errors.Refused("not yet")
        await stage.commit(pets("db", "a b", quorum=True))
        await stage.until(lambda: stage.messages(Kind.DRAINING))
        before = flavor_of(stage).changes
        assert before  # the change was attempted first
        await asyncio.sleep(20)
        assert flavor_of(stage).changes == before
        waits = [w for w in (await stage.status("db")).waiting if w.rule == "one-at-a-time"]
        assert "is leaving; the member list of a quorum does not change meanwhile" in waits[0].reason
        await stage.until(lambda: len(stage.alive("db")) == 2)
        await stage.until(lambda: flavor_of(stage).changes != before)


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (errors.Refused("b is not reachable"), Kind.REFUSED),
        (errors.OutcomeUnknown("the connection broke"), Kind.ERROR),
        (ValueError("a bug"), Kind.ERROR),
    ],
    ids=["refused", "unknown", "a bug"],
)
def test_a_failed_change_is_retried_with_exponential_back_off(failure: Exception, kind: Kind) -> None:
    @in_virtual_time
    async def scenario() -> None:
        async with Stage(flavor_class=ScriptedFlavor) as stage:
            flavor_of(stage).failure = failure
            await stage.commit(pets("db", "a", quorum=True))
            await stage.until(lambda: flavor_of(stage).changes)
            await asyncio.sleep(600)
            assert 8 <= len(flavor_of(stage).changes) <= 20
            (reported, *_more) = stage.messages(kind)
            assert reported.startswith("promote ")
            assert reported.endswith(f": {failure}")
            status = await stage.status("db")
            assert not status.converged
            (wait,) = [w for w in status.waiting if w.rule == "back-off"]
            assert str(failure) in wait.reason
            flavor_of(stage).failure = None
            await stage.operator.resume(group=DB, who="ann", why="it is mended")
            await stage.converged(within_s=10.0)
            assert membership_is_exact(stage)

    scenario()


@in_virtual_time
async def test_a_change_without_effect_is_retried_with_back_off() -> None:
    async with Stage(flavor_class=ScriptedFlavor) as stage:
        flavor_of(stage).without_effect = True
        await stage.commit(pets("db", "a"))
        await asyncio.sleep(600)
        assert 8 <= len(flavor_of(stage).changes) <= 20
        (wait,) = [w for w in (await stage.status("db")).waiting if w.rule == "back-off"]
        assert "the change succeeded and is still needed" in wait.reason


@in_virtual_time
async def test_a_change_without_a_response_times_out_and_is_retried() -> None:
    async with Stage(flavor_class=ScriptedFlavor) as stage:
        flavor_of(stage).takes_s = 1e6
        await stage.commit(pets("db", "a"))
        await stage.until(lambda: flavor_of(stage).changes)
        await asyncio.sleep(CALL_DEADLINE_S)
        flavor_of(stage).takes_s = 0.0
        await stage.converged()
        (reported,) = stage.messages(Kind.ERROR)
        assert "no answer within 120 s" in reported


@in_virtual_time
async def test_the_membership_is_not_changed_while_the_group_is_halted() -> None:
    async with Stage(flavor_class=ScriptedFlavor) as stage:
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        before = flavor_of(stage).changes
        await stage.operator.halt(group=DB, who="ann", why="I look")
        flavor_of(stage).reported = (MembershipChange(id="remove/x", what="x is dead"),)
        await asyncio.sleep(100)
        assert flavor_of(stage).changes == before
        await stage.operator.unhalt(group=DB, who="ann", why="seen")
        await stage.until(lambda: flavor_of(stage).changes != before)


@in_virtual_time
async def test_a_halt_between_plan_and_call_prevents_the_membership_change() -> None:
    async with Stage(flavor_class=ScriptedFlavor) as stage:
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        controller, before = stage.controller("db"), flavor_of(stage).changes
        await stage.operator.halt(group=DB, who="ann", why="I look")
        promote = MembershipChange(id="promote/x", what="x is let in")
        action = ChangeMembership(on="db", change=promote, reason=promote.what, rule="membership")
        assert await controller.executor._calls.perform(action) is False
        assert flavor_of(stage).changes == before
        assert controller.view.membership is not None
        assert controller.view.membership.changing is None
        assert member_list.key(promote) not in controller.view.backoffs


@in_virtual_time
async def test_a_change_that_is_not_due_is_one_event_and_is_shown_while_it_is_reported() -> None:
    unmanaged = MembershipChange(id="unknown/7", what="10.0.0.7 is on the list, and is nobody's", due=False)
    other = MembershipChange(id="unknown/8", what="10.0.0.8 is on the list, and is nobody's", due=False)
    async with Stage(flavor_class=ScriptedFlavor) as stage:
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        flavor_of(stage).reported = (unmanaged, other)
        await stage.until(lambda: unmanaged.what in stage.messages(Kind.WAITING))
        await asyncio.sleep(200)
        status = await stage.status("db")
        assert status.converged
        assert [w.reason for w in status.waiting] == [unmanaged.what, other.what]
        explained = await stage.operator.why(group=DB)
        assert unmanaged.what in [w.reason for w in explained.waiting]
        assert any("the flavor's membership was read" in fact for fact in explained.facts)
        assert stage.messages(Kind.WAITING).count(unmanaged.what) == 1
        assert stage.messages(Kind.WAITING).count(other.what) == 1
        stage.kill("db", "a")  # other changes do not emit it again
        await stage.until(lambda: membership_is_exact(stage) and stage.is_converged())
        assert stage.messages(Kind.WAITING).count(unmanaged.what) == 1
        flavor_of(stage).reported = ()
        await stage.until(lambda: not stage.controller("db").blocked)


@in_virtual_time
async def test_an_unreadable_member_list_is_reported_and_not_changed() -> None:
    async with Stage(flavor_class=ScriptedFlavor) as stage:
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        before = flavor_of(stage).changes
        flavor_of(stage).query_error = errors.Unreachable("nobody leads")
        terminated = stage.kill("db", "a")
        await asyncio.sleep(DEADLINE_S)
        assert terminated in flavor_of(stage).entries
        assert "a" in stage.alive("db")  # its replacement was created nevertheless
        assert flavor_of(stage).changes == before
        assert any("is unknown: the flavor failed: nobody leads" in each for each in stage.messages(Kind.WAITING))
        await asyncio.sleep(100)
        assert not (await stage.status("db")).converged
        flavor_of(stage).query_error = None
        await stage.until(lambda: membership_is_exact(stage) and stage.is_converged())


@in_virtual_time
async def test_a_hanging_membership_query_delays_nothing_else() -> None:
    async with Stage(flavor_class=ScriptedFlavor) as stage:
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        flavor_of(stage).hanging = True
        loop = asyncio.get_running_loop()
        terminated, terminated_at = stage.kill("db", "a"), loop.time()
        await stage.until(lambda: "a" in stage.alive("db"))
        assert loop.time() - terminated_at < DEADLINE_S
        await stage.until(lambda: any("did not answer within 30 s" in each for each in stage.messages(Kind.WAITING)))
        assert terminated in flavor_of(stage).entries


@in_virtual_time
async def test_stopping_a_controller_reports_the_membership_change_in_progress() -> None:
    async with Stage(flavor_class=ScriptedFlavor) as stage:
        flavor_of(stage).takes_s = 50.0
        await stage.commit(pets("db", "a"))
        await stage.until(lambda: flavor_of(stage).in_progress)
        await stage.stop()
        assert any("outcome unknown (call cancelled)" in each for each in stage.messages(Kind.ERROR))


@in_virtual_time
async def test_no_destruction_starts_during_a_membership_change_and_vice_versa() -> None:
    """The planner never combines them; the check before each call covers actions that were planned earlier."""
    async with Stage(flavor_class=ScriptedFlavor) as stage:
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        controller = stage.controller("db")
        view, calls = controller.view, controller.executor._calls
        change = MembershipChange(id="remove/x", what="x is dead")
        view.change_started(change)
        member = next(iter(view.members.values()))
        assert await calls.perform(Destroy(instance=member.id, reason="r", rule="unhealthy")) is False
        assert not member.leaving
        view.change_ended(asyncio.get_running_loop().time(), done=False)
        before, member.leaving = flavor_of(stage).changes, Leaving.DRAINING
        action = ChangeMembership(on="db", change=change, reason=change.what, rule="membership")
        assert await calls.perform(action) is False
        assert flavor_of(stage).changes == before
        member.leaving = Leaving.NO


def test_the_simulated_member_list_can_lose_a_live_member() -> None:
    """Otherwise the law about the member list could never fail."""

    @in_virtual_time
    async def scenario() -> None:
        async with Stage(flavor_class=ScriptedFlavor) as stage:
            await stage.commit(pets("db", "a b"))
            await stage.converged()
            one, other = (m.id for m in stage.alive("db").values())
            known = [m.description for m in stage.controller("db").view.members.values() if m.id == one]
            change = MembershipChange(id=f"remove/{other}", what="")
            await stage.flavor.change_membership(  # type: ignore[attr-defined]
                properties=msgspec.Raw(b"{}"), change=change, instances=known, allocation=Allocation(size=1)
            )
            assert flavor_of(stage).removed_alive == [other]
            assert InstanceID(other) not in flavor_of(stage).entries

    scenario()
