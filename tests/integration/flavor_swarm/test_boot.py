"""What the boot script does with what it finds, with real Engines: who founds, joins, resumes, and waits."""

import asyncio
import subprocess

import msgspec
import pytest

from tests.integration.flavor_swarm.machines import Cluster, lacking, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(bool(lacking()), reason=lacking()),
]


async def listed(swarm: Cluster) -> set[str]:
    return set(await swarm.nodes())


async def test_a_swarm_is_founded_joined_and_resumed_as_the_same_nodes(swarm: Cluster) -> None:
    a, b, c = await swarm.found(3)
    nodes = await listed(swarm)
    assert nodes == {a.id, b.id, c.id}
    assert a.words.count("founded a Swarm") == 1
    assert "founded" not in b.words + c.words
    b.begin_anew()
    before = b.id
    swarm.managers.destroy(b)
    await swarm.managers.make(b)
    assert await swarm.managers.settle() == []  # nobody had to be let in
    assert (b.id, await listed(swarm)) == (before, nodes)
    assert "joined" not in b.words


async def test_a_quorum_that_stood_still_resumes_from_its_volumes_alone(swarm: Cluster) -> None:
    machines = await swarm.found(3)
    nodes = await listed(swarm)
    group = swarm.managers
    specs = {each.address: await group.prepare(each) for each in machines}
    for each in machines:
        group.destroy(each)
    for each in machines:
        group.start(each, specs[each.address])
    await machines[0].says("the Swarm lists this machine", times=2)
    swarm.lead(machines[0])

    async def is_back() -> bool:  # the session of the last one's agent may take many minutes: its vote counts before
        assert [each for each in await group.membership() if each.due] == []
        return [await group.is_healthy(each) for each in machines].count(True) >= 2

    await until(is_back, "the quorum is back")
    assert await listed(swarm) == nodes


async def test_a_small_image_has_all_that_the_script_needs(swarm: Cluster) -> None:
    """The shell and the tools of busybox, as images have them that are made for Engines in containers."""
    group, (a, b) = swarm.managers, (swarm.machine(), swarm.machine())
    a.sparse = b.sparse = True
    group.declare(Run="echo beside; exec sleep 1000")
    group.declared = [a, b]
    await group.make(a, first=True)
    await a.says("the Swarm lists this machine")
    swarm.lead(a)
    await group.make(b)
    await group.settle()
    assert ": not found" not in a.said + b.said
    assert "beside" in b.said
    await asyncio.to_thread(b.stop)
    assert not b.is_running


async def test_a_script_that_is_run_twice_changes_nothing(swarm: Cluster) -> None:
    (a,) = await swarm.found(1)
    before = await listed(swarm)
    again = a.inside("/bin/sh", f"/mnt/{a.name}/boot.sh")
    done = await asyncio.to_thread(subprocess.run, again, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "infrakit: this script is already running here\n")
    assert await listed(swarm) == before


async def test_whoever_has_no_data_and_knows_no_swarm_waits(swarm: Cluster) -> None:
    machine, group = swarm.machine(), swarm.managers
    group.declared = [machine]
    group.declare(Docker={"Host": "unix:///nowhere"})
    first = await group.prepare(machine, first=True)
    waiting = first.init.replace("found=yes", "found=''")
    machine.boot(waiting.replace("unix:///nowhere", "unix:///var/run/docker.sock"))
    await machine.says("there is no Swarm data here, and no Swarm was known when this machine was created")
    assert machine.id == ""


async def test_without_its_volume_or_with_that_of_another_it_waits(swarm: Cluster) -> None:
    a, b = swarm.machine(), swarm.machine()
    group = swarm.managers
    group.declared = [a]
    group.start(a, await group.prepare(a, first=True), volume=False)
    await a.says("no volume is mounted at /var/lib/docker: waiting for it")
    group.destroy(a)
    (a.place / "data" / "infrakit").write_text(f"name={b.address}\nlink=x\ncluster=\nnode=\n")
    await group.make(a, first=True)
    await a.says(f"the volume at /var/lib/docker belongs to {b.address}, and this is {a.address}")
    assert "founded" not in a.words


async def test_a_machine_founds_no_second_swarm_when_its_data_is_gone(swarm: Cluster) -> None:
    machine, group = swarm.machine(), swarm.managers
    group.declared = [machine]
    spec = await group.prepare(machine, first=True)
    script = spec.init.replace(
        "trap 'shut_down 143'", "mkdir -p /var/lib/infrakit && : >/var/lib/infrakit/founded\ntrap 'shut_down 143'"
    )
    machine.boot(script)
    await machine.says("this machine has founded a Swarm before, and its data is missing")
    assert machine.id == ""


async def test_the_data_of_a_node_that_was_removed_is_given_up_and_that_of_another_swarm_is_not(swarm: Cluster) -> None:
    a, b, c = await swarm.found(3)
    group, old = swarm.managers, b.id
    group.declared = [a, c]
    await group.release(b)
    group.destroy(b)
    assert old not in await listed(swarm)
    group.declared = [a, b, c]
    await group.make(b)
    await b.says(f"no longer lists the node {old}, which owns the data here: moving the data aside")
    await group.settle()
    assert b.id not in ("", old)
    assert list((b.place / "data").glob("swarm.removed.*/state.json"))


async def test_the_data_of_another_swarm_is_not_given_up(swarm: Cluster) -> None:
    a, b = await swarm.found(2)
    group = swarm.managers
    group.destroy(b)
    mark = b.place / "data" / "infrakit"
    mark.write_text(mark.read_text().replace("cluster=", "cluster=x").replace("node=", "node=x"))
    state = b.place / "data" / "swarm" / "state.json"
    await group.make(b)
    await b.says("waiting, so that neither is lost")
    assert state.exists()
    assert not b.socket.exists()
    assert a.id in await swarm.nodes()


async def test_a_token_that_was_rotated_meanwhile_lets_nobody_in(swarm: Cluster) -> None:
    await swarm.found(1)
    group, late = swarm.workers, swarm.machine()
    spec = await group.prepare(late)
    client = swarm.client()
    before = (await client.cluster()).join_tokens.worker
    now = await client.cluster()
    await client.update_cluster(now.version, now.spec, rotate_worker=True)
    assert before in spec.init
    group.declared = [late]
    group.start(late, spec, volume=False)
    await late.says("the Swarm rejected this node")
    assert before not in late.said
    assert "not in the node list" in (await group.health(late)).note
    group.destroy(late)  # as a group does with one that is unhealthy for too long
    await group.make(late)
    await group.settle()


async def test_what_runs_beside_starts_again_and_ends_before_the_engine(swarm: Cluster) -> None:
    group, machine = swarm.managers, swarm.machine()
    loop = "while :; do sleep 0.1; done"
    group.declare(Run=f"echo beside; trap 'docker version >/dev/null && echo engine lives; exit' TERM; {loop}")
    group.declared = [machine]
    await group.make(machine, first=True)
    await machine.says("the Swarm lists this machine")
    assert machine.said.count("beside\n") == 1
    await asyncio.to_thread(machine.stop)
    assert "engine lives" in machine.said


async def test_the_token_is_in_the_script_and_nowhere_else(swarm: Cluster) -> None:
    await swarm.found(1)
    group, worker = swarm.workers, swarm.machine()
    swarm_client = swarm.client()
    token = (await swarm_client.cluster()).join_tokens.worker
    group.declared = [worker]
    spec = await group.prepare(worker)
    assert token in spec.init
    assert token not in str(msgspec.structs.replace(spec, init=""))
    group.start(worker, spec, volume=False)
    seen: list[str] = []

    async def joined() -> bool:
        listing = await asyncio.to_thread(command_lines)
        seen.extend(line for line in listing if token in line)
        return await group.is_healthy(worker)

    await until(joined, "it joins")
    assert seen == []
    assert token not in worker.said


def command_lines() -> list[str]:
    done = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.splitlines()
