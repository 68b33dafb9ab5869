"""The node list of a real Swarm: lost managers replaced, unmanaged nodes reported, and the quorum protected."""

import asyncio
import contextlib

import pytest

from infrakit.spi import errors
from infrakit.spi.values import Health
from tests.integration.docker.engines import build_image
from tests.integration.flavor_swarm.machines import Cluster, Group, Machine, missing_requirement, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(bool(missing_requirement()), reason=missing_requirement()),
]


async def voters(swarm: Cluster) -> dict[str, bool]:
    """Managers by ID, and whether they are reachable."""
    nodes = (await swarm.nodes()).values()
    return {each.id: each.manager.reachability == "reachable" for each in nodes if each.manager is not None}


async def test_a_manager_whose_volume_is_lost_is_replaced_in_the_swarm(swarm: Cluster) -> None:
    _, b, _ = await swarm.bootstrap(3)
    group, old = swarm.managers, b.id
    group.destroy(b)
    b.lose_volume()
    await group.create(b)
    changes_made = await group.converge()
    assert changes_made == [f"demote/{old}", f"remove/{old}", f"promote/{b.id}"]
    assert b.id != old
    assert len(await swarm.nodes()) == 3
    assert list((await voters(swarm)).values()) == [True, True, True]


async def test_no_manager_is_promoted_while_the_former_leader_is_unreachable(swarm: Cluster) -> None:
    a, b, _ = await swarm.bootstrap(3)
    group, before = swarm.managers, set(await swarm.nodes())
    late = swarm.machine()
    group.destroy(a)
    swarm.lead(b)
    await until(lambda: _leads(swarm), "another node leads")
    group.declared.append(late)
    await group.create(late)  # a fourth manager, while the first is unreachable
    await late.wait_for_message("the Swarm lists this machine")

    async def promotion_waits() -> bool:
        changes = {each.id: each for each in await group.membership()}
        waiting = changes.get(f"promote/{late.id}")
        return waiting is not None and not waiting.due and "until every manager is reachable" in waiting.what

    await until(promotion_waits, "the new manager waits")
    assert (await group.health(late)).health is Health.UNKNOWN
    await group.create(a)
    await group.converge()
    assert set(await swarm.nodes()) == {*before, late.id}


async def _leads(swarm: Cluster) -> bool:
    return any(each.manager is not None and each.manager.leader for each in (await swarm.nodes()).values())


async def test_managers_are_scaled_from_three_to_five_and_back(swarm: Cluster) -> None:
    machines = await swarm.bootstrap(3)
    group = swarm.managers
    more = [swarm.machine(), swarm.machine()]
    group.declared += more
    for each in more:
        await group.create(each)
    changes_made = await group.converge()
    assert sorted(changes_made) == sorted(f"promote/{each.id}" for each in more)
    assert list((await voters(swarm)).values()) == [True] * 5
    ids = {each.address: each.id for each in machines}
    group.declared = [machines[0], *more]  # original managers are removed, too
    for each in machines[1:]:
        await group.release(each)
        group.destroy(each)
        assert ids[each.address] not in await swarm.nodes()
    assert await group.converge() == []
    assert list((await voters(swarm)).values()) == [True] * 3


async def test_the_leader_can_be_removed_permanently(swarm: Cluster) -> None:
    a, b, c = await swarm.bootstrap(3)
    group, old = swarm.managers, a.id
    swarm.lead(b)
    group.declared = [b, c]
    await group.release(a)
    group.destroy(a)
    await until(lambda: _leads(swarm), "another node leads")
    assert old not in await swarm.nodes()
    assert list((await voters(swarm)).values()) == [True] * 2


async def test_release_is_refused_if_the_quorum_needs_the_manager(swarm: Cluster) -> None:
    a, b, c = await swarm.bootstrap(3)
    group = swarm.managers
    leader = next(each for each in (a, b, c) if each.leads())
    killed, other = (each for each in (a, b, c) if each is not leader)
    swarm.lead(leader)
    await group.release(other)  # three managers tolerate the loss of one
    group.destroy(killed)

    async def is_unreachable() -> bool:
        return sorted((await voters(swarm)).values()) == [False, True, True]

    await until(is_unreachable, "the killed manager is unreachable")
    with pytest.raises(
        errors.Refused, match=r"while it is absent, 1 of 3 managers would be available, and the quorum needs 2"
    ):
        await group.release(other)
    group.declared.remove(other)
    with pytest.raises(errors.Refused, match=r"after its removal, 1 of 2 managers would be available"):
        await group.release(other)
    assert len(await voters(swarm)) == 3


async def test_two_groups_of_managers_share_one_quorum(swarm: Cluster) -> None:
    (a,) = await swarm.bootstrap(1)
    east = Group(swarm, "east", manager=True)
    try:
        east.declared = [b, c] = [swarm.machine(), swarm.machine()]
        for each in (b, c):
            await east.create(each)

        async def are_managers() -> bool:
            await east.make_due_changes()
            return all([await east.is_settled(each) for each in (b, c)])

        await until(are_managers, "both are managers")
        assert list((await voters(swarm)).values()) == [True] * 3
        await east.release(b)
        for group, another in (
            (east, c),
            (swarm.managers, a),
        ):  # b may be terminating, though the node list does not show it yet
            with pytest.raises(errors.Refused, match=r"while it is absent, 1 of 3 managers would be available"):
                await group.release(another)
        east.destroy(b)
        await east.create(b)
        await until(are_managers, "b is a manager again")
        await swarm.managers.release(a)
    finally:
        await east.flavor.close()


async def _killed_when_it_has_a_vote(swarm: Cluster) -> Machine:
    """A declared manager that was killed as soon as it had a vote, and has been created again with its volume."""
    group, machine = swarm.managers, swarm.machine()
    await group.create(machine)
    await machine.wait_for_message("the Swarm lists this machine")
    group.declared.append(machine)
    raft = machine.place / "data" / "swarm" / "raft" / "wal-v3-encrypted"

    async def has_a_vote() -> bool:
        await group.make_due_changes()
        return any(raft.glob("*.wal"))

    await until(has_a_vote, "it has a vote")
    group.destroy(machine)
    machine.clear_log()
    await group.create(machine)
    await machine.wait_for_message("the Swarm lists this machine")
    return machine


async def test_a_manager_that_failed_before_it_received_the_log_joins_as_a_new_node(swarm: Cluster) -> None:
    await swarm.bootstrap(2)
    machine = await _killed_when_it_has_a_vote(swarm)
    while "failed before it received the log" not in machine.messages:  # the log was faster
        assert await swarm.managers.converge() == []
        machine = await _killed_when_it_has_a_vote(swarm)
    (old,) = [each for each in await voters(swarm) if each in machine.messages]
    assert await swarm.managers.converge() == [f"demote/{old}", f"remove/{old}", f"promote/{machine.id}"]
    assert machine.id != old
    assert list((await voters(swarm)).values()) == [True] * len(swarm.managers.declared)


async def test_release_is_refused_for_the_last_manager(swarm: Cluster) -> None:
    (a,) = await swarm.bootstrap(1)
    with pytest.raises(errors.Refused, match="while it is absent, 0 of 1"):
        await swarm.managers.release(a)
    swarm.managers.declared = []
    with pytest.raises(errors.Refused, match="the last manager"):
        await swarm.managers.release(a)


async def workers(swarm: Cluster, count: int) -> list[Machine]:
    group = swarm.workers
    machines = [swarm.machine() for _ in range(count)]
    group.declared += machines
    for each in machines:
        await group.create(each)
    await group.converge()
    return machines


async def test_a_worker_is_drained_and_removed_from_the_node_list_before_it_terminates(swarm: Cluster) -> None:
    (a,) = await swarm.bootstrap(1)
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
    assert await swarm.workers.converge() == []


async def test_a_terminated_worker_is_removed_from_the_node_list(swarm: Cluster) -> None:
    await swarm.bootstrap(1)
    first, second = await workers(swarm, 2)
    group, terminated = swarm.workers, first.id
    group.destroy(first)
    group.declared.remove(first)
    changes_made: list[str] = []

    async def is_removed() -> bool:
        changes_made.extend(await group.make_due_changes())
        return terminated not in await swarm.nodes()

    await until(is_removed, "the terminated node is removed")
    assert changes_made == [f"remove/{terminated}"]
    assert second.id in await swarm.nodes()


async def test_an_unmanaged_manager_is_reported_and_left_unchanged(swarm: Cluster) -> None:
    (a,) = await swarm.bootstrap(1)
    unmanaged = swarm.machine()
    unmanaged.start()
    with contextlib.suppress(AssertionError):  # Docker's client times out after 20 s, and the Engine continues
        unmanaged.join(a)
    swarm.managers.declared = [a]

    async def is_reported() -> bool:
        changes = await swarm.managers.membership()
        return any(each.id == f"unmanaged/{unmanaged.id}" and not each.due for each in changes)

    await until(is_reported, "the node is reported")
    assert await swarm.managers.make_due_changes() == []
    assert unmanaged.id in await voters(swarm)


async def test_a_membership_change_can_be_repeated(swarm: Cluster) -> None:
    a, b, c = await swarm.bootstrap(3)
    group = swarm.managers
    late = swarm.machine()
    group.declared.append(late)
    await group.create(late)

    async def due() -> bool:
        return any(each.due for each in await group.membership())

    await until(due, "a promotion is due")
    (change,) = [each for each in await group.membership() if each.due]
    await group.change(change)
    await group.change(change)  # repeated: it has a vote, or gets one soon
    await group.converge()
    assert len(await voters(swarm)) == 4
    assert {a.id, b.id, c.id} <= set(await voters(swarm))
