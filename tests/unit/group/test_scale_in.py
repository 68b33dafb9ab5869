"""Scaling in by steps, and the exchange of a quorum's members one at a time."""

import asyncio

import pytest

from infrakit.group.actions import Destroy, Plan, Provision
from infrakit.group.forecast import forecast
from infrakit.group.plan import decide
from infrakit.group.state.member import Leaving
from infrakit.instances.simulator import Faults, Spread
from infrakit.spi.group import Updating
from infrakit.spi.quorum import majority
from infrakit.spi.values import GroupID, Health, InstanceID
from tests.stage import Stage, cattle, in_virtual_time, pets
from tests.worlds import member, pet, view, want

SUBNET = "10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5"
MISTYPED = SUBNET.replace("10.0.0", "10.0.1")


def destroyed(plan: Plan) -> list[str]:
    return [a.subject for a in plan.actions if isinstance(a, Destroy)]


def created(plan: Plan) -> list[str]:
    return [str(a.slot) for a in plan.actions if isinstance(a, Provision)]


@pytest.mark.parametrize(
    ("before", "after", "max_unavailable", "step"),
    [
        (10, 2, 1, 1),
        (100, 20, 5, 5),
        (100, 20, 50, 8),  # never more than MaxUnhealthy
        (100, 20, "50%", 8),
        (550, 400, 1, 5),  # 1 % of a large group
        (2000, 0, 1, 1),
        (3, 0, 1, 1),
    ],
)
def test_surplus_members_leave_by_steps(before: int, after: int, max_unavailable: int | str, step: int) -> None:
    declared = want(after, updating=Updating(max_unavailable=max_unavailable))
    world = view(*(member(str(n)) for n in range(1, before + 1)))
    plan = decide(declared, world)
    assert len(destroyed(plan)) == step
    (block,) = plan.blocked
    assert (block.rule, block.subject) == ("scale-in", "g")
    assert f"{before - after - step} surplus instance" in block.reason
    assert plan.phase == "scaling"
    for each in destroyed(plan)[: step // 2 + 1]:  # the step is not over until all of it has terminated
        world.members[InstanceID(each)].leaving = Leaving.DESTROYING
    plan = decide(declared, world)
    assert len(destroyed(plan)) == step - (step // 2 + 1)
    assert plan.phase == "scaling"


def test_pets_that_are_not_declared_any_more_leave_by_steps_and_unhealthy_ones_first() -> None:
    world = view(*(pet(i) for i in "abcd"), pet("e", Health.UNHEALTHY, since_s=5), pets=True)
    plan = decide(want(ids="a b c"), world)
    assert destroyed(plan) == ["i-e"]
    assert [block.rule for block in plan.blocked] == ["scale-in"]
    world.members[InstanceID("i-e")].leaving = Leaving.DESTROYING
    plan = decide(want(ids="a b c"), world)
    assert plan.actions == ()
    assert plan.blocked[0].reason == "1 surplus instance not removed yet: at most 1 at once, and i-e is leaving"


def test_a_forecast_shows_all_that_will_be_destroyed() -> None:
    world = view(*(member(str(n)) for n in range(1, 1001)))
    actions, last = forecast(want(20), world)
    assert len(actions) == 980
    assert last.converged


@in_virtual_time
async def test_a_halt_stops_an_old_size_with_most_members_left() -> None:
    async with Stage(faults=Faults(destroy=Spread(low=0.1, high=0.1))) as stage:
        await stage.commit(cattle("web", 1000))
        await stage.converged()
        await stage.commit(cattle("web", 20))
        await asyncio.sleep(3)
        assert 500 < len(stage.alive("web")) < 1000
        await stage.operator.halt(group=GroupID("web"), who="ann", why="an old file")
        left = len(stage.alive("web"))
        await asyncio.sleep(600)
        assert len(stage.alive("web")) == left
        await stage.commit(cattle("web", left))
        await stage.operator.unhalt(group=GroupID("web"), who="ann", why="the right file")
        await stage.converged()
        assert len(stage.alive("web")) == left


@in_virtual_time
async def test_a_smaller_size_is_reached_at_last() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 60), pets("db", "a b c d e f"))
        await stage.converged()
        await stage.commit(cattle("web", 3), pets("db", "f"))
        await stage.converged()
        assert len(stage.alive("web")) == 3
        assert set(stage.alive("db")) == {"f"}


# -- quorums -----------------------------------------------------------------------------------------------------------


def exchange(old: str, new: str, *, size: str = "f g h i j", sick: str = "") -> Plan:
    """The plan for a quorum whose old members are not declared any more; some of the declared ones exist."""
    healthy = [pet(i, Health.UNHEALTHY if i in sick else Health.HEALTHY) for i in f"{old} {new}".split()]
    return decide(want(ids=size, quorum=True), view(*healthy, pets=True))


@pytest.mark.parametrize(
    ("old", "new", "creates", "destroys"),
    [
        ("a b c d e", "", ["f"], []),
        ("a b c d e", "f", [], ["i-a"]),
        ("b c d e", "f", ["g"], []),
        ("b c d e", "f g", [], ["i-b"]),
        ("e", "f g h i", ["j"], []),
        ("e", "f g h i j", [], ["i-e"]),
        ("a", "", ["f"], []),  # a quorum of one grows
        ("", "", ["f", "g", "h", "i", "j"], []),  # a new one
    ],
)
def test_one_new_member_is_proven_healthy_before_the_next_old_one_is_destroyed(
    old: str, new: str, creates: list[str], destroys: list[str]
) -> None:
    plan = exchange(old, new)
    assert (created(plan), destroyed(plan)) == (creates, destroys)


def test_nothing_more_happens_while_the_first_new_member_is_unhealthy() -> None:
    plan = exchange("a b c d e", "f", sick="f")
    assert created(plan) == []
    assert destroyed(plan) == ["i-f"]  # it is healed
    world = view(*(pet(i) for i in "abcde"), pet("f", Health.UNKNOWN, age_s=5), pets=True)
    plan = decide(want(ids="f g h i j", quorum=True), world)
    assert plan.actions == ()


@pytest.mark.parametrize(
    ("old", "new", "sick", "creates", "destroys"),
    [
        ("a b c d e", "f", "e", ["g"], []),  # five healthy voters of six: another one makes up for it
        ("a b c d e", "f g", "e", [], ["i-e"]),  # the unhealthy one leaves first
        ("a b c d e", "f", "d e", ["g"], []),
        ("a b c d e", "", "c d e", ["f", "g", "h", "i", "j"], []),  # a lost majority is not waited for
    ],
)
def test_an_exchange_with_unhealthy_old_members(
    old: str, new: str, sick: str, creates: list[str], destroys: list[str]
) -> None:
    plan = exchange(old, new, sick=sick)
    assert (created(plan), destroyed(plan)) == (creates, destroys)


def test_a_smaller_quorum_with_other_logical_ids_has_a_proven_member_first() -> None:
    assert created(exchange("a b c d e", "", size="f g h")) == ["f"]
    assert destroyed(exchange("a b c d e", "f", size="f g h")) == ["i-a"]
    assert destroyed(exchange("a b c d e", "c", size="a b c d", sick="")) == ["i-e"]


async def _exchange(stage: Stage, before: str, after: str) -> tuple[int, int]:
    """Commit other logical IDs, wait for convergence, and return the fewest healthy and the most live members."""
    await stage.commit(pets("db", before, quorum=True, volumes=True))
    await stage.converged()
    await stage.commit(pets("db", after, quorum=True, volumes=True))
    fewest, most = len(before.split()), 0
    for _ in range(60_000):
        await asyncio.sleep(0.05)
        live = stage.simulator.live()
        healthy = sum(stage.simulator.is_healthy(machine.id) for machine in live)
        assert healthy >= majority(len(live))
        fewest, most = min(fewest, healthy), max(most, len(live))
        if set(stage.alive("db")) == set(after.split()) and stage.is_converged():
            return fewest, most
    raise AssertionError(stage.recent_events())


@pytest.mark.parametrize(
    ("before", "after", "fewest", "most"),
    [
        (SUBNET, MISTYPED, 5, 6),
        ("a b c", "d e f", 3, 4),
        ("a b c", "c d e f g", 3, 6),
        ("a b c d e", "x y z", 3, 6),
        ("a", "b", 1, 2),
        ("a b c d e", "a b", 2, 4),
    ],
)
@in_virtual_time
async def test_a_quorum_is_exchanged_without_losing_its_majority(
    before: str, after: str, fewest: int, most: int
) -> None:
    async with Stage() as stage:
        assert await _exchange(stage, before, after) == (fewest, most)


@in_virtual_time
async def test_a_mistyped_subnet_that_does_not_work_costs_no_old_member() -> None:
    async with Stage() as stage:
        await stage.commit(pets("db", SUBNET, quorum=True))
        await stage.converged()
        stage.fault(never_healthy_rate=1.0)
        await stage.commit(pets("db", MISTYPED, quorum=True))
        await asyncio.sleep(3600)
        assert set(SUBNET.split()) <= set(stage.alive("db"))
        assert len(stage.alive("db")) <= 6
        stage.fault(never_healthy_rate=0.0)
        await stage.commit(pets("db", SUBNET, quorum=True))
        await stage.converged()
        assert set(stage.alive("db")) == set(SUBNET.split())


@in_virtual_time
async def test_a_quorum_that_loses_a_declared_member_while_it_shrinks_is_completed() -> None:
    """The guard keeps as many healthy members as declared; the surplus one leaves, and then the lost one joins."""
    async with Stage(faults=Faults(destroy=Spread(low=20.0))) as stage:
        await stage.commit(pets("db", "a b c d e", quorum=True))
        await stage.converged()
        stage.kill("db", "c")
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        assert sorted(stage.alive("db")) == ["a", "b", "c"]


def test_our_own_unhealthy_node_leaves_before_a_healthy_member_that_the_majority_needs() -> None:
    """It comes last otherwise, and the other one would wait for it forever."""
    extra = [pet("a"), pet("b", Health.UNHEALTHY, is_self=True)]
    plan = decide(want(ids="d", quorum=True), view(pet("d"), *extra, pets=True))
    assert [each.instance for each in plan.actions if isinstance(each, Destroy)] == ["i-b"]
    assert any(each.subject == "i-a" and "the quorum needs 2" in each.reason for each in plan.blocked)
