"""The boot script of the Swarm flavors, with real Engines: when it bootstraps, joins, resumes, and waits."""

import asyncio
import subprocess

import msgspec
import pytest

from tests.integration.flavor_swarm.machines import Cluster, missing_requirement, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(bool(missing_requirement()), reason=missing_requirement()),
]


async def listed(swarm: Cluster) -> set[str]:
    return set(await swarm.nodes())


async def test_a_swarm_is_bootstrapped_joined_and_resumed_with_the_same_nodes(swarm: Cluster) -> None:
    a, b, c = await swarm.bootstrap(3)
    nodes = await listed(swarm)
    assert nodes == {a.id, b.id, c.id}
    assert a.messages.count("founded a Swarm") == 1
    assert "founded" not in b.messages + c.messages
    b.clear_log()
    before = b.id
    swarm.managers.destroy(b)
    await swarm.managers.create(b)
    assert await swarm.managers.converge() == []  # no manager had to be promoted
    assert (b.id, await listed(swarm)) == (before, nodes)
    assert "joined" not in b.messages


async def test_a_stopped_quorum_resumes_from_its_volumes_alone(swarm: Cluster) -> None:
    machines = await swarm.bootstrap(3)
    nodes = await listed(swarm)
    group = swarm.managers
    specs = {each.address: await group.prepare(each) for each in machines}
    for each in machines:
        group.destroy(each)
    for each in machines:
        group.start(each, specs[each.address])
    await machines[0].wait_for_message("the Swarm lists this machine", times=2)
    swarm.lead(machines[0])

    async def is_back() -> bool:  # the agent of the last node may need minutes to reconnect: its vote counts before
        assert [each for each in await group.membership() if each.due] == []
        return [await group.is_healthy(each) for each in machines].count(True) >= 2

    await until(is_back, "the quorum is back")
    assert await listed(swarm) == nodes


async def test_the_boot_script_runs_in_a_minimal_image(swarm: Cluster) -> None:
    """With the shell and the tools of busybox, like images that are made for Engines in containers."""
    group, (a, b) = swarm.managers, (swarm.machine(), swarm.machine())
    a.sparse = b.sparse = True
    group.declare(Run="echo beside; exec sleep 1000")
    group.declared = [a, b]
    await group.create(a, first=True)
    await a.wait_for_message("the Swarm lists this machine")
    swarm.lead(a)
    await group.create(b)
    await group.converge()
    assert ": not found" not in a.output + b.output
    assert "beside" in b.output
    await asyncio.to_thread(b.stop)
    assert not b.is_running


async def test_running_the_boot_script_twice_changes_nothing(swarm: Cluster) -> None:
    (a,) = await swarm.bootstrap(1)
    before = await listed(swarm)
    again = a.inside("/bin/sh", f"/mnt/{a.name}/boot.sh")
    done = await asyncio.to_thread(subprocess.run, again, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "infrakit: this script is already running here\n")
    assert await listed(swarm) == before


async def test_a_machine_without_data_and_without_a_known_swarm_waits(swarm: Cluster) -> None:
    machine, group = swarm.machine(), swarm.managers
    group.declared = [machine]
    group.declare(Docker={"Host": "unix:///nowhere"})
    first = await group.prepare(machine, first=True)
    waiting = first.init.replace("found=yes", "found=''")
    machine.boot(waiting.replace("unix:///nowhere", "unix:///var/run/docker.sock"))
    await machine.wait_for_message("there is no Swarm data here, and no Swarm was known when this machine was created")
    assert machine.id == ""


async def test_a_machine_without_its_volume_or_with_another_one_waits(swarm: Cluster) -> None:
    a, b = swarm.machine(), swarm.machine()
    group = swarm.managers
    group.declared = [a]
    group.start(a, await group.prepare(a, first=True), volume=False)
    await a.wait_for_message("no volume is mounted at /var/lib/docker: waiting for it")
    group.destroy(a)
    (a.place / "data" / "infrakit").write_text(f"name={b.address}\nlink=x\ncluster=\nnode=\n")
    await group.create(a, first=True)
    await a.wait_for_message(f"the volume at /var/lib/docker belongs to {b.address}, and this is {a.address}")
    assert "founded" not in a.messages


async def test_a_machine_that_lost_its_data_bootstraps_no_second_swarm(swarm: Cluster) -> None:
    machine, group = swarm.machine(), swarm.managers
    group.declared = [machine]
    spec = await group.prepare(machine, first=True)
    script = spec.init.replace(
        "trap 'shut_down 143'", "mkdir -p /var/lib/infrakit && : >/var/lib/infrakit/founded\ntrap 'shut_down 143'"
    )
    machine.boot(script)
    await machine.wait_for_message("this machine has founded a Swarm before, and its data is missing")
    assert machine.id == ""


async def test_the_data_of_a_removed_node_is_moved_aside(swarm: Cluster) -> None:
    a, b, c = await swarm.bootstrap(3)
    group, old = swarm.managers, b.id
    group.declared = [a, c]
    await group.release(b)
    group.destroy(b)
    assert old not in await listed(swarm)
    group.declared = [a, b, c]
    await group.create(b)
    await b.wait_for_message(f"no longer lists the node {old}, which owns the data here: moving the data aside")
    await group.converge()
    assert b.id not in ("", old)
    assert list((b.place / "data").glob("swarm.removed.*/state.json"))


async def test_the_data_of_another_swarm_is_not_moved_aside(swarm: Cluster) -> None:
    a, b = await swarm.bootstrap(2)
    group = swarm.managers
    group.destroy(b)
    mark = b.place / "data" / "infrakit"
    mark.write_text(mark.read_text().replace("cluster=", "cluster=x").replace("node=", "node=x"))
    state = b.place / "data" / "swarm" / "state.json"
    await group.create(b)
    await b.wait_for_message("waiting, so that neither is lost")
    assert state.exists()
    assert not b.socket.exists()
    assert a.id in await swarm.nodes()


async def test_a_rotated_join_token_is_rejected(swarm: Cluster) -> None:
    await swarm.bootstrap(1)
    group, late = swarm.workers, swarm.machine()
    spec = await group.prepare(late)
    client = swarm.client()
    before = (await client.cluster()).join_tokens.worker
    now = await client.cluster()
    await client.update_cluster(now.version, now.spec, rotate_worker=True)
    assert before in spec.init
    group.declared = [late]
    group.start(late, spec, volume=False)
    await late.wait_for_message("the Swarm rejected this node")
    assert before not in late.output
    assert "not in the node list" in (await group.health(late)).note
    group.destroy(late)  # like a controller after UnhealthyAfter
    await group.create(late)
    await group.converge()


async def test_the_run_command_terminates_before_the_engine(swarm: Cluster) -> None:
    group, machine = swarm.managers, swarm.machine()
    loop = "while :; do sleep 0.1; done"
    group.declare(Run=f"echo beside; trap 'docker version >/dev/null && echo engine lives; exit' TERM; {loop}")
    group.declared = [machine]
    await group.create(machine, first=True)
    await machine.wait_for_message("the Swarm lists this machine")
    assert machine.output.count("beside\n") == 1
    await asyncio.to_thread(machine.stop)
    assert "engine lives" in machine.output


async def test_the_join_token_is_only_in_the_boot_script(swarm: Cluster) -> None:
    await swarm.bootstrap(1)
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
    assert token not in worker.output


def command_lines() -> list[str]:
    done = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.splitlines()
