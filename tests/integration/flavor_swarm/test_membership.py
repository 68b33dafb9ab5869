"""The list of a real Swarm: lost managers replaced, ghosts removed, strangers told of, and nobody let go too early."""

import asyncio
import contextlib

import pytest

from infrakit.spi import errors
from infrakit.spi.values import Health
from tests.integration.docker.engines import build_image
from tests.integration.flavor_swarm.machines import Cluster, Group, Machine, lacking, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(bool(lacking()), reason=lacking()),
]


async def voters(swarm: Cluster) -> dict[str, bool]:
    """Managers by ID, and whether they are reachable."""
    nodes = (await swarm.nodes()).values()
    return {each.id: each.manager.reachability == "reachable" for each in nodes if each.manager is not None}


async def test_a_manager_whose_volume_is_lost_is_replaced_in_the_swarm(swarm: Cluster) -> None:
    _, b, _ = await swarm.found(3)
    group, old = swarm.managers, b.id
    group.destroy(b)
    b.lose_volume()
    await group.make(b)
    made = await group.settle()
    assert made == [f"demote/{old}", f"remove/{old}", f"promote/{b.id}"]
    assert b.id != old
    assert len(await swarm.nodes()) == 3
    assert list((await voters(swarm)).values()) == [True, True, True]


async def test_the_leader_whose_machine_dies_comes_back_and_nobody_is_let_in_meanwhile(swarm: Cluster) -> None:
    a, b, _ = await swarm.found(3)
    group, before = swarm.managers, set(await swarm.nodes())
    late = swarm.machine()
    group.destroy(a)
    swarm.lead(b)
    await until(lambda: _leads(swarm), "another one leads")
    group.declared.append(late)
    await group.make(late)  # a fourth, while the first is away
    await late.says("the Swarm lists this machine")

    async def waits() -> bool:
        told = {each.id: each for each in await group.membership()}
        waiting = told.get(f"promote/{late.id}")
        return waiting is not None and not waiting.due and "until every manager is reachable" in waiting.what

    await until(waits, "the newcomer waits")
    assert (await group.health(late)).health is Health.UNKNOWN
    await group.make(a)
    await group.settle()
    assert set(await swarm.nodes()) == {*before, late.id}


async def _leads(swarm: Cluster) -> bool:
    return any(each.manager is not None and each.manager.leader for each in (await swarm.nodes()).values())


async def test_from_three_to_five_and_back_one_at_a_time(swarm: Cluster) -> None:
    machines = await swarm.found(3)
    group = swarm.managers
    more = [swarm.machine(), swarm.machine()]
    group.declared += more
    for each in more:
        await group.make(each)
    made = await group.settle()
    assert sorted(made) == sorted(f"promote/{each.id}" for each in more)
    assert list((await voters(swarm)).values()) == [True] * 5
    ids = {each.address: each.id for each in machines}
    group.declared = [machines[0], *more]  # one that was there from the first day goes too
    for each in machines[1:]:
        await group.release(each)
        group.destroy(each)
        assert ids[each.address] not in await swarm.nodes()
    assert await group.settle() == []
    assert list((await voters(swarm)).values()) == [True] * 3


async def test_the_one_that_leads_can_leave_for_good(swarm: Cluster) -> None:
    a, b, c = await swarm.found(3)
    group, old = swarm.managers, a.id
    swarm.lead(b)
    group.declared = [b, c]
    await group.release(a)
    group.destroy(a)
    await until(lambda: _leads(swarm), "another one leads")
    assert old not in await swarm.nodes()
    assert list((await voters(swarm)).values()) == [True] * 2


async def test_nobody_leaves_whom_the_quorum_cannot_spare(swarm: Cluster) -> None:
    a, b, c = await swarm.found(3)
    group = swarm.managers
    leads = next(each for each in (a, b, c) if each.leads())
    dead, other = (each for each in (a, b, c) if each is not leads)
    swarm.lead(leads)
    await group.release(other)  # three can spare one for a while
    group.destroy(dead)

    async def is_silent() -> bool:
        return sorted((await voters(swarm)).values()) == [False, True, True]

    await until(is_silent, "it is silent")
    with pytest.raises(
        errors.Refused, match=r"while it is away, 1 of 3 managers would be available, and the quorum needs 2"
    ):
        await group.release(other)
    group.declared.remove(other)
    with pytest.raises(errors.Refused, match=r"after its removal, 1 of 2 managers would be available"):
        await group.release(other)
    assert len(await voters(swarm)) == 3


async def test_two_groups_are_one_swarm_and_one_quorum(swarm: Cluster) -> None:
    (a,) = await swarm.found(1)
    east = Group(swarm, "east", manager=True)
    try:
        east.declared = [b, c] = [swarm.machine(), swarm.machine()]
        for each in (b, c):
            await east.make(each)

        async def are_managers() -> bool:
            await east.tend()
            return all([await east.is_healthy(each) for each in (b, c)])

        await until(are_managers, "both are managers")
        assert list((await voters(swarm)).values()) == [True] * 3
        await east.release(b)
        for group, another in ((east, c), (swarm.managers, a)):  # b may be on its way, though nothing shows it yet
            with pytest.raises(errors.Refused, match=r"while it is away, 1 of 3 managers would be available"):
                await group.release(another)
        east.destroy(b)
        await east.make(b)
        await until(are_managers, "it is back")
        await swarm.managers.release(a)
    finally:
        await east.flavor.close()


async def test_the_last_manager_stays(swarm: Cluster) -> None:
    (a,) = await swarm.found(1)
    with pytest.raises(errors.Refused, match="while it is away, 0 of 1"):
        await swarm.managers.release(a)
    swarm.managers.declared = []
    with pytest.raises(errors.Refused, match="the last manager"):
        await swarm.managers.release(a)


async def workers(swarm: Cluster, count: int) -> list[Machine]:
    group = swarm.workers
    made = [swarm.machine() for _ in range(count)]
    group.declared += made
    for each in made:
        await group.make(each)
    await group.settle()
    return made


async def test_a_worker_is_emptied_and_removed_before_it_goes(swarm: Cluster) -> None:
    (a,) = await swarm.found(1)
    first, second = await workers(swarm, 2)
    for each in (first, second):
        await asyncio.to_thread(build_image, each.host)
    options = ("--network", "host", "--constraint", "node.role==worker", "--stop-grace-period", "1s")
    service = (
        "service",
        "create",
        "--detach",
        "--no-resolve-image",
        "--replicas",
        "4",
        *options,
        "tiny",
        "sleep",
        "1000",
    )
    a.docker(*service)
    client, here, there = swarm.client(), first.id, second.id

    async def running(node: str) -> int:
        return sum(each.state == "running" for each in await client.tasks({"node": [node]}))

    async def is_spread() -> bool:
        return await running(here) == 2 == await running(there)

    await until(is_spread, "its tasks run on both")
    await swarm.workers.drain(first)
    assert here not in await swarm.nodes()
    assert first.docker("ps", "-q") == ""
    swarm.workers.destroy(first)
    swarm.workers.declared.remove(first)

    async def has_moved() -> bool:
        return await running(there) == 4

    await until(has_moved, "its tasks run on the other")
    assert await swarm.workers.settle() == []


async def test_a_worker_that_died_leaves_the_list_after_a_while(swarm: Cluster) -> None:
    await swarm.found(1)
    first, second = await workers(swarm, 2)
    group, ghost = swarm.workers, first.id
    group.destroy(first)
    group.declared.remove(first)
    made: list[str] = []

    async def is_removed() -> bool:
        made.extend(await group.tend())
        return ghost not in await swarm.nodes()

    await until(is_removed, "the ghost is removed")
    assert made == [f"remove/{ghost}"]
    assert second.id in await swarm.nodes()


async def test_a_manager_that_somebody_added_is_told_of_and_left_alone(swarm: Cluster) -> None:
    (a,) = await swarm.found(1)
    stranger = swarm.machine()
    stranger.start()
    with contextlib.suppress(AssertionError):  # Docker's client waits for 20 s, and leaves the Engine to go on
        stranger.join(a)
    swarm.managers.declared = [a]

    async def is_told() -> bool:
        told = await swarm.managers.membership()
        return any(each.id == f"stranger/{stranger.id}" and not each.due for each in told)

    await until(is_told, "it is told of")
    assert await swarm.managers.tend() == []
    assert stranger.id in await voters(swarm)


async def test_a_change_that_is_needed_no_more_is_done_and_one_that_must_wait_is_refused(swarm: Cluster) -> None:
    a, b, c = await swarm.found(3)
    group = swarm.managers
    late = swarm.machine()
    group.declared.append(late)
    await group.make(late)

    async def due() -> bool:
        return any(each.due for each in await group.membership())

    await until(due, "a promotion is due")
    (change,) = [each for each in await group.membership() if each.due]
    await group.change(change)
    await group.change(change)  # once more: it has a vote, or is about to
    await group.settle()
    assert len(await voters(swarm)) == 4
    assert {a.id, b.id, c.id} <= set(await voters(swarm))
